"""Bytes of a step between ranks, against loops over who sends what to whom."""

from dataclasses import replace
from itertools import permutations

import pytest

from models.tables import Table
from service.bench.traffic import Carried, accounted, payload_bytes
from sharding.constraints import ShardingConfig


def table(name: str, width: int) -> Table:
    return Table(name=name, field=name, num_embeddings=10, embedding_dim=width)


TABLES = [(table("a", 16), 1.0), (table("b", 4), 2.5), (table("packed", 1), 1.0)]


def sent_by_loops(num_ranks: int, batch_size: int) -> dict[str, float]:
    owner = {found.name: index % num_ranks for index, (found, _) in enumerate(TABLES)}
    sent = dict.fromkeys(("length_bytes", "id_bytes", "vector_bytes", "gradient_bytes"), 0.0)
    for _, holding in permutations(range(num_ranks), 2):
        for found, ids in TABLES:
            if owner[found.name] == holding:
                sent["length_bytes"] += batch_size * 4
                sent["id_bytes"] += batch_size * ids * 4
                sent["vector_bytes"] += batch_size * max(found.embedding_dim, 4) * 4
                sent["gradient_bytes"] += batch_size * max(found.embedding_dim, 4) * 4
    return sent


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_every_rank_sends_what_the_others_need(num_ranks: int) -> None:
    found = payload_bytes(
        TABLES, ShardingConfig(), batch_size=5, num_ranks=num_ranks, dense_weights=12
    )
    layers = found.pop("layer_bytes")
    assert found == sent_by_loops(num_ranks, 5)
    # A ring over n ranks: n ranks each pass on 2 (n - 1) pieces of an nth of the gradient.
    assert layers == num_ranks * 2 * (num_ranks - 1) * (12 * 4 / num_ranks)


def test_halved_numbers_halve_the_vectors_alone() -> None:
    full, half = (
        payload_bytes(
            TABLES, ShardingConfig(comms=comms), batch_size=8, num_ranks=2, dense_weights=3
        )
        for comms in ("fp32", "bf16")
    )
    halved = {"vector_bytes", "gradient_bytes"}
    assert {name for name in full if half[name] == full[name] / 2} == halved
    assert {name for name in full if half[name] == full[name]} == full.keys() - halved


def test_copied_tables_send_gradients_with_the_layers_alone() -> None:
    tables = [(table("small", 16), 1.0), (replace(table("large", 4), num_embeddings=11), 1.0)]
    few, none = (
        payload_bytes(
            each,
            ShardingConfig(max_copied_rows=10),
            batch_size=5,
            num_ranks=2,
            dense_weights=10 * 16,
        )
        for each in (tables, tables[1:])
    )
    assert few == none
    assert few["layer_bytes"] == 2 * 160 * 4


def test_what_no_cause_explains_is_left_over() -> None:
    start, end = (Carried(num_bytes=n, num_packets=p) for n, p in ((1000, 10), (3000, 20)))
    found = accounted({"vector_bytes": 300.0}, start, end, steps=2)
    assert found["traffic_bytes_per_step"] == 1000
    assert found["header_bytes"] == 5 * 52
    assert found["unexplained_bytes"] == 1000 - 300 - 5 * 52


def test_the_loopback_device_counts() -> None:
    now = Carried.now()
    assert now.num_bytes >= now.num_packets >= 0
