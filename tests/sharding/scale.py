"""Plan a thousand tables of 10 TB on 1,024 ranks: ``python -m tests.sharding.scale [TYPE ...]``."""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any, Final, cast

import numpy as np

from models.tables import Table
from service.sharding_file import read_sharding, write_sharding
from sharding.cluster import CLUSTERS
from sharding.constraints import ShardingConfig, ShardingType
from sharding.cost import Workload
from sharding.placing import place
from sharding.report import report
from tests.sharding.tables import table

CLUSTER: Final = replace(CLUSTERS["a100x8"](), num_ranks=1024)
WORKLOAD: Final = Workload(batch_size=4096)


def ten_terabytes() -> list[Table]:
    """A thousand tables of 10 TB in all, from 10 MB to 100 GB, widths from 4 to 128."""
    random = np.random.default_rng(0)
    widths = random.choice([4, 8, 16, 32, 64, 128], 1000)
    shares = 10 ** random.uniform(0, 4, 1000)
    rows = 10e12 * shares / shares.sum() / (4 * widths + 4)
    shapes = zip(rows, widths, strict=True)
    return [table(f"t{i}", int(n), int(d)) for i, (n, d) in enumerate(shapes)]


def main(types: tuple[ShardingType, ...]) -> dict[str, float]:
    """Plan, report, write and read; CPU seconds of each, shards, and the peak of this process."""
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = process_time()
        result = work()
        found[f"{name}_cpu_seconds"] = round(process_time() - start, 2)
        return result

    tables, config = ten_terabytes(), ShardingConfig(types=types)
    placement = timed("place", lambda: place(tables, CLUSTER, config, WORKLOAD))
    figures = timed("report", lambda: report(placement, CLUSTER, WORKLOAD))
    found["planned_peak_bytes"] = _peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sharding.json"
        timed("write", lambda: write_sharding(placement, path, figures))
        assert timed("read", lambda: read_sharding(path)) == placement
        found["file_bytes"] = path.stat().st_size
    found["num_shards"] = sum(len(placed.shards) for placed in placement.tables)
    found["peak_bytes"] = _peak_bytes()
    return found


def _peak_bytes() -> int:
    """High-water mark since the program started; getrusage's includes the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    asked = cast(tuple[ShardingType, ...], tuple(sys.argv[1:])) or ShardingConfig().types
    sys.stdout.write(json.dumps(main(asked), indent=1) + "\n")
