"""A thousand tables of 10 TB in all on 1,024 ranks: planned, or refused, in seconds."""

import json
import subprocess
import sys
from dataclasses import replace
from time import process_time

import pytest

from models.tables import PlanError
from sharding.cluster import GIB
from sharding.constraints import ShardingConfig
from sharding.cost import whole_bytes
from sharding.placing import place
from tests.sharding.scale import CLUSTER, WORKLOAD, ten_terabytes


def measured(*types: str) -> dict[str, float]:
    """Figures of a process of its own, whose peak of memory is the plan's."""
    command = [sys.executable, "-m", "tests.sharding.scale", *types]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_the_tables_have_ten_terabytes() -> None:
    total = sum(whole_bytes(x, "rowwise_adagrad") for x in ten_terabytes())
    assert total == pytest.approx(10e12, rel=1e-3)


def test_a_plan_takes_seconds_and_little_memory() -> None:
    found = measured()
    assert found["place_cpu_seconds"] + found["report_cpu_seconds"] < 20
    assert found["peak_bytes"] < GIB / 4


@pytest.mark.slow
def test_cutting_every_table_over_every_rank_stays_below_a_minute_and_a_gibibyte() -> None:
    found = measured("row_wise")
    assert found["num_shards"] > 800_000
    seconds = [found[f"{name}_cpu_seconds"] for name in ("place", "report", "write", "read")]
    assert sum(seconds) < 60
    assert found["peak_bytes"] < GIB


def test_a_refusal_takes_seconds_and_says_what_would_do() -> None:
    small = replace(CLUSTER, hbm_bytes=9 * GIB)
    start = process_time()
    with pytest.raises(PlanError, match="use 2,048 ranks on 256 host") as refusal:
        place(ten_terabytes(), small, ShardingConfig(), WORKLOAD)
    assert process_time() - start < 60
    assert refusal.value.needed_bytes * 1024 * 0.85 >= 10e12
