"""TorchRec's planner makes placements like any other, within bounds, and only where asked for."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from models.tables import PlanError, Table
from sharding.cluster import GIB, Cluster
from sharding.constraints import SHARDING_TYPES, Planner, ShardingConfig, ShardingType
from sharding.cost import Workload
from sharding.placing import place
from sharding.report import report
from sharding.tiling import check_placement
from tests.sharding.tables import table

CLUSTER = Cluster(num_ranks=4, ranks_per_host=2, ddr_bytes=GIB)
TABLES = [table("a", 1000, 16), table("b", 50, 8), table("c", 3, 4), table("d", 20000, 32)]
WORKLOAD = Workload(batch_size=64)
PLANNERS: tuple[Planner, ...] = ("greedy", "grid_search", "dynamic_programming")


def planned(planner: Planner, types: Sequence[ShardingType], tables: list[Table] = TABLES):
    return place(tables, CLUSTER, ShardingConfig(types=tuple(types), planner=planner), WORKLOAD)


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("kind", SHARDING_TYPES)
def test_every_planner_places_every_type(planner: Planner, kind: ShardingType) -> None:
    placement = planned(planner, [kind])
    check_placement(placement)
    # Three rows are too few for four ranks: c stays whole where it cannot be cut.
    assert [x.sharding_type for x in placement.tables if x.name != "c"] == [kind] * 3
    assert report(placement, CLUSTER, WORKLOAD).bytes >= sum(
        x.num_embeddings * x.embedding_dim * 4 for x in TABLES
    )


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_plan_is_the_same_every_time(planner: Planner) -> None:
    types: tuple[ShardingType, ...] = ("table_wise", "row_wise", "table_column_wise")
    assert planned(planner, types) == planned(planner, types)


def test_cuts_are_mixed_freely_which_our_planner_does_not() -> None:
    types: tuple[ShardingType, ...] = ("table_wise", "table_column_wise", "table_row_wise")
    assert len({x.sharding_type for x in planned("grid_search", types).tables}) > 1
    assert {x.sharding_type for x in planned("own", types).tables} == {"table_wise"}


def test_a_grid_search_of_too_many_plans_is_refused_with_their_number() -> None:
    many = [table(f"t{i}", 1000, 16) for i in range(14)]
    with pytest.raises(ValueError, match=r"14 tables, up to 2 ways .* 1\.6e\+04 plans, more than"):
        planned("grid_search", ("table_wise", "row_wise"), many)


@pytest.mark.parametrize("planner", PLANNERS)
def test_what_does_not_fit_is_refused_with_what_to_do(planner: Planner) -> None:
    small = replace(CLUSTER, ddr_bytes=1_000_000)
    config = ShardingConfig(types=("table_wise",), planner=planner)
    with pytest.raises(PlanError, match=f"TorchRec's {planner} planner found no plan that fits"):
        place(TABLES, small, config, WORKLOAD)


def test_our_planner_needs_no_torch() -> None:
    code = (
        "import sys; from tests.sharding.scale import ten_terabytes, CLUSTER, WORKLOAD; "
        "from sharding.placing import place; from sharding.constraints import ShardingConfig; "
        "place(ten_terabytes()[:5], CLUSTER, ShardingConfig(), WORKLOAD); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
