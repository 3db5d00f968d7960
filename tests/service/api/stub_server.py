"""The service as `mixdim serve` runs it, but that its jobs are a line of shell.

python -m tests.service.api.stub_server HOME PORT SCRIPT [RUNNING]
"""

import logging
import sys
from pathlib import Path

from service.api.config import Limits, ServiceConfig
from service.commands.serve import run
from service.jobs.local import LocalLauncher

if __name__ == "__main__":
    home, port, script, *rest = sys.argv[1:]
    running = int(rest[0]) if rest else 50
    logging.basicConfig(level=logging.WARNING)
    limits = Limits(
        local_jobs=running, running_per_user=running, requests_per_second=1e6, burst=10**6
    )
    config = ServiceConfig(home=Path(home), port=int(port), limits=limits, grace_seconds=5.0)
    command = ["/bin/sh", "-c", script]
    launcher = LocalLauncher(Path(home) / "jobs", command=lambda job: command, grace_seconds=5.0)
    sys.exit(run(config, {"local": launcher}))
