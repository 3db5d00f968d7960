"""What a contender's process says at its end; needs the standard library alone."""

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(usage.ru_utime + usage.ru_stime for usage in _usages())


def peak_rss_bytes() -> int:
    """Of this process or a child that has ended, whichever is larger."""
    return max(usage.ru_maxrss for usage in _usages()) * 1024


def answer(figures: Mapping[str, float], packages: Sequence[str]) -> None:
    """Print figures and versions as JSON, in the last line."""
    found = {"figures": figures, "versions": {name: version(name) for name in packages}}
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def _usages() -> list[resource.struct_rusage]:
    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
