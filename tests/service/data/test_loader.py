"""The loader against plain reading of the Parquet parts, on any number of ranks."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.tables import Block, SizingPlan
from service.data.loader import Loader
from tests.datasets import write_dataset

ROWS = {"train": 1003, "validation": 50, "test": 7}


@pytest.fixture(autouse=True)
def small_pools(monkeypatch):
    monkeypatch.setattr("service.data.loader.POOL_GROUPS", 3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, write_dataset(folder, list_fields=("C2",), rows=ROWS)


def plan_of(info, **blocks):
    sizes = {stats.name: [(stats.num_embeddings, 4)] for stats in info.field_stats} | blocks
    return SizingPlan(
        fields={
            name: tuple(Block(num_embeddings=n, embedding_dim=d, asked_dim=d) for n, d in parts)
            for name, parts in sizes.items()
        },
        out_dim=4,
    )


def loader_of(dataset, *, split="train", plan=None, **options):
    folder, info = dataset
    return Loader(folder, info, split, plan or plan_of(info), **({"batch_size": 64} | options))


def plain_rows(folder: Path, split: str) -> list[dict[str, object]]:
    return [
        row
        for part in sorted((folder / split).glob("*"))
        for row in pq.read_table(part).to_pylist()
    ]


def rows_of(batches):
    """Every example of some batches as (label, dense, ids by field)."""
    rows = []
    for batch in batches:
        num_examples = int((batch.weights > 0).sum())
        features = batch.features.to_dict()
        bags = {name: [b.tolist() for b in jagged.to_dense()] for name, jagged in features.items()}
        for index, (label, dense) in enumerate(
            zip(batch.labels.tolist(), batch.dense.tolist(), strict=True)
        ):
            if index == num_examples:
                break
            rows.append((label, dense, {name: bag[index] for name, bag in bags.items()}))
    return rows


def test_in_order_it_gives_the_rows_of_the_parts(dataset):
    expected = plain_rows(dataset[0], "train")
    found = rows_of(loader_of(dataset).batches())
    assert len(found) == ROWS["train"]
    for (label, dense, ids), row in zip(found, expected, strict=True):
        assert label == row["label"]
        assert np.allclose(dense, [row["I1"], row["I2"], row["I3"]])
        assert ids == {"C1": [row["C1"]], "C2": row["C2"], "C3": [row["C3"]]}


@pytest.mark.parametrize("whole_rows", [0, 1003])
def test_an_epoch_holds_every_row_once_in_an_order_of_its_own(dataset, whole_rows):
    loader = loader_of(dataset, seed=1, whole_rows=whole_rows)
    first, again, second = (repr_of(loader.batches(epoch)) for epoch in (0, 0, 1))
    assert first == again != second
    assert sorted(first) == sorted(second) == sorted(repr_of(loader_of(dataset).batches()))


def test_epochs_differ_in_the_order_of_row_groups_too(dataset):
    # A row group is a batch.
    loader = loader_of(dataset, batch_size=64, seed=1, whole_rows=0)
    first, second = (repr_of([next(loader.batches(epoch))]) for epoch in (0, 1))
    assert not set(first) & set(second)


@pytest.mark.parametrize("pool", [1, 4])
def test_large_splits_are_mixed_within_pools_of_row_groups(dataset, pool, monkeypatch):
    monkeypatch.setattr("service.data.loader.POOL_GROUPS", pool)
    place = {row: index for index, row in enumerate(repr_of(loader_of(dataset).batches()))}
    loader = loader_of(dataset, batch_size=64 * pool, seed=1, whole_rows=0)
    touched = [
        {place[row] // 64 for row in repr_of([batch])} for batch in list(loader.batches())[:-2]
    ]
    assert [len(groups) for groups in touched[:2]] == [pool, pool]
    assert not touched[0] & touched[1]


def test_small_splits_are_mixed_as_a_whole(dataset):
    place = {row: index for index, row in enumerate(repr_of(loader_of(dataset).batches()))}
    batch = repr_of([next(loader_of(dataset, batch_size=64, seed=1).batches())])
    assert 10 <= len({place[row] // 64 for row in batch}) <= 16


def repr_of(batches):
    return [repr(row) for row in rows_of(batches)]


@pytest.mark.parametrize("whole_rows", [0, 1003])
@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_global_batches_do_not_depend_on_the_number_of_ranks(dataset, world_size, whole_rows):
    order = {"seed": 5, "whole_rows": whole_rows}
    one = loader_of(dataset, batch_size=21 * world_size, **order)
    ranks = [
        loader_of(dataset, batch_size=21, rank=rank, world_size=world_size, **order)
        for rank in range(world_size)
    ]
    assert {len(loader) for loader in ranks} == {len(one)}
    for whole, *shares in zip(one.batches(), *(r.batches() for r in ranks), strict=True):
        assert rows_of([whole]) == rows_of(shares)


def test_every_rank_sees_equal_batches_even_when_some_have_no_row(dataset):
    loaders = [loader_of(dataset, split="test", rank=r, world_size=9) for r in range(9)]
    batches = [batch for loader in loaders for batch in loader.batches()]
    assert [len(batch.labels) for batch in batches] == [1] * 9
    assert [batch.weights.item() > 0 for batch in batches] == [True] * 7 + [False] * 2


def test_weights_sum_to_one_over_the_mean_of_the_ranks(dataset):
    loaders = [loader_of(dataset, batch_size=300, rank=r, world_size=3) for r in range(3)]
    for shares in zip(*(loader.batches() for loader in loaders), strict=True):
        assert sum(share.weights.sum().item() for share in shares) / 3 == pytest.approx(1)
        assert len({len(share.labels) for share in shares}) == 1


@pytest.mark.parametrize("whole_rows", [0, 1003])
def test_reading_goes_on_at_any_batch(dataset, whole_rows):
    loader = loader_of(dataset, seed=2, whole_rows=whole_rows)
    assert repr_of(loader.batches(1))[5 * 64 :] == repr_of(loader.batches(1, first_batch=5))


def test_ids_go_to_the_block_that_holds_their_row(dataset):
    _, info = dataset
    plan = plan_of(info, C2=[(2, 4), (5, 4)], C3=[(10, 4), (290, 4)])
    for (_, _, plain), (_, _, routed) in zip(
        rows_of(loader_of(dataset).batches()),
        rows_of(loader_of(dataset, plan=plan).batches()),
        strict=True,
    ):
        assert routed["C1"] == plain["C1"]
        assert routed["C3/0"] + [row + 10 for row in routed["C3/1"]] == plain["C3"]
        assert sorted(routed["C2/0"] + [row + 2 for row in routed["C2/1"]]) == sorted(plain["C2"])


def test_it_counts_ids_out_of_vocabulary(dataset):
    folder, info = dataset
    loader = loader_of(dataset)
    list(loader.batches())
    unknown = {field.stats.name: field.unknown_id for field in info.fields}
    rows = plain_rows(folder, "train")
    ids = {
        name: [i for row in rows for i in (row[name] if name == "C2" else [row[name]])]
        for name in ("C1", "C2", "C3")
    }
    assert loader.num_unknown == {name: ids[name].count(unknown[name]) for name in ids}
    assert loader.num_lookups == {name: len(of_field) for name, of_field in ids.items()}
    assert 0 < loader.num_unknown["C2"] < loader.num_lookups["C2"]


def test_a_plan_for_other_fields_is_refused(dataset):
    with pytest.raises(ValueError, match=r"has fields \['X'\].*run mixdim size on this dataset"):
        loader_of(dataset, plan=plan_of(dataset[1], X=[(3, 4)]))


def test_an_empty_split_is_refused(tmp_path):
    info = write_dataset(tmp_path, rows={"train": 100, "test": 0})
    with pytest.raises(ValueError, match=r"split 'test' of .* has no rows"):
        loader_of((tmp_path, info), split="test")


def test_a_part_that_lost_rows_is_noticed(tmp_path):
    info = write_dataset(tmp_path)
    part = tmp_path / info.splits["train"].parts[0].path
    pq.write_table(pq.read_table(part).slice(1), part)
    with pytest.raises(ValueError, match=r"part .* bytes, dataset.json says .* written again"):
        loader_of((tmp_path, info))


def test_a_missing_part_is_named(tmp_path):
    info = write_dataset(tmp_path)
    (tmp_path / info.splits["train"].parts[1].path).unlink()
    with pytest.raises(FileNotFoundError, match=r"part .*part-00001.parquet is missing"):
        loader_of((tmp_path, info))
