"""A sizing plan on a cluster in a few figures, and several side by side."""

from dataclasses import replace

import pytest

from models.tables import PlanError, Table
from sharding.cluster import CLUSTERS, GIB, Cluster
from sharding.cost import Workload
from sharding.summary import PlanSummary, Refusal, compare, summarise
from tests.sharding.tables import table

CLUSTER = Cluster(num_ranks=2, ranks_per_host=2, ddr_bytes=GIB, reserve_ratio=0)
WORKLOAD = Workload(batch_size=64, optimizer="sgd")


def test_figures_of_two_whole_tables_are_those_by_hand() -> None:
    found = summarise([table("a", 1000, 16), table("b", 500, 16)], CLUSTER, WORKLOAD)
    assert (found.max_rank_bytes, found.mean_rank_bytes) == (64_000, 48_000)
    assert found.imbalance_ratio == pytest.approx(64 / 48)
    assert found.max_sent_bytes_per_step == 64 * 16 * 4  # to the one other rank
    lookup = 2 * 64 * 3 * 16 * 4 / CLUSTER.memory_bytes_per_second
    exchange = (2 * 64 * 16 * 4 + 2 * 64 * 8 / 2) / CLUSTER.intra_host_bytes_per_second
    assert found.lookup_seconds == pytest.approx(lookup)
    assert found.exchange_seconds == pytest.approx(exchange)
    assert found.step_seconds == pytest.approx(lookup + exchange)


def test_packed_tables_count_as_they_are_stored() -> None:
    packed = Table(name="a", field="a", num_embeddings=1000, embedding_dim=1)
    found = summarise([packed], CLUSTER, WORKLOAD)
    assert found.max_rank_bytes == 250 * 4 * 4
    assert found.max_sent_bytes_per_step == 64 * 4 * 4


def test_candidates_are_compared_with_those_that_cannot_fit_among_them() -> None:
    small = replace(CLUSTER, num_ranks=1, ddr_bytes=100_000)
    plans = {"narrow": [table("a", 1000, 8)], "wide": [table("a", 1000, 64)]}
    found = compare({name: (tables, WORKLOAD) for name, tables in plans.items()}, small)
    assert isinstance(found["narrow"], PlanSummary)
    refusal = found["wide"]
    assert isinstance(refusal, Refusal)
    assert summarise(plans["wide"], replace(small, ddr_bytes=refusal.needed_bytes), WORKLOAD)


def test_a_plan_that_cannot_fit_is_refused() -> None:
    with pytest.raises(PlanError, match=r"table 'a' needs 244\.1 MiB on one rank"):
        small = replace(CLUSTER, num_ranks=1, ddr_bytes=1_000_000)
        summarise([table("a", 1_000_000, 64)], small, WORKLOAD)


def test_traffic_falls_with_the_sum_of_widths() -> None:
    wide, narrow = (
        summarise([table(f"t{i}", 1000, dim) for i in range(8)], CLUSTERS["a100x8"](), WORKLOAD)
        for dim in (64, 4)
    )
    assert narrow.mean_sent_bytes_per_step * 16 == wide.mean_sent_bytes_per_step


@pytest.mark.parametrize("name", ["a100x8", "h100x8", "h200x8"])
def test_predictions_from_data_sheets_say_so(name: str) -> None:
    found = summarise([table("a", 1000, 16)], CLUSTERS[name](), WORKLOAD)
    assert found.speeds == "data sheet, not measured"


def test_the_busiest_rank_pays_for_starting_the_step() -> None:
    slow = replace(CLUSTER, call_seconds=1.0)
    tables = [table("a", 1000, 16)]
    started = summarise(tables, slow, WORKLOAD).lookup_seconds
    assert started - summarise(tables, CLUSTER, WORKLOAD).lookup_seconds == pytest.approx(1)
