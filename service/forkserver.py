"""What the process that ranks are forked from loads, and nobody else.

Loading torch and torchrec takes seconds; ranks that are forked from a process that has loaded them
start at once, all of them and every time again. That process ends with the launcher, and ranks end
with it: the system sees to it even where a rank is stopped or stuck.
"""

import signal

from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

import service.train.loop  # noqa: F401

_prctl_pr_set_pdeathsig(signal.SIGKILL)
