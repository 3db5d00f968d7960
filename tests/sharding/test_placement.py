"""Placements read from files are refused where their shards do not tile a table."""

import pytest

from sharding.constraints import ShardingType
from sharding.placement import Placement, Shard, TablePlacement


def placed(*shards: Shard, kind: ShardingType = "row_wise") -> TablePlacement:
    return TablePlacement(
        name="a",
        num_embeddings=10,
        embedding_dim=8,
        sharding_type=kind,
        kernel="fused",
        shards=shards,
    )


def test_a_gap_between_shards_is_refused() -> None:
    with pytest.raises(ValueError, match=r"table 'a'.*expected 4 x 8 from row 5, column 0"):
        placed(
            Shard(rank=0, num_rows=5, num_columns=8),
            Shard(rank=1, num_rows=4, num_columns=8, first_row=6),
        )


def test_shards_that_end_early_are_refused() -> None:
    with pytest.raises(ValueError, match="table 'a': its column_wise shards end at 4, expected 8"):
        placed(Shard(rank=0, num_rows=10, num_columns=4), kind="column_wise")


def test_a_rank_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="table 'a': a shard is on rank 2, but"):
        Placement(
            num_ranks=2,
            ranks_per_host=2,
            device="cpu",
            tables=(placed(Shard(rank=2, num_rows=10, num_columns=8), kind="table_wise"),),
        )
