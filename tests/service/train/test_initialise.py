"""Where tables start: decided by name, rows and width alone, however they are stored and cut."""

import zlib

import numpy as np
import pytest
import torch
from torch import nn

from models.embeddings.mixed import MixedEmbeddings
from models.embeddings.packed import unpack
from models.tables import Block, SizingPlan
from service.train import initialise
from service.train.initialise import initialise_tables

ROWS = 150


def started(width, init="rows"):
    plan = SizingPlan(
        fields={"f": (Block(num_embeddings=ROWS, embedding_dim=width, asked_dim=width),)},
        out_dim=8,
    )
    embeddings = MixedEmbeddings(plan)
    initialise_tables(nn.ModuleDict({"network": embeddings}), plan, seed=3, init=init)
    (table,) = plan.tables()
    return embeddings.tables.embedding_bags["f"].weight.detach(), table


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize(("init", "over"), [("rows", None), ("xavier", 6)])
def test_the_bound_is_that_of_the_rows_and_width_of_the_table_not_of_what_is_stored(
    width, init, over
):
    bound = (over / (ROWS + width) if over else 1 / ROWS) ** 0.5
    rows = unpack(*started(width, init)).abs()
    assert 0.9 * bound < float(rows.max()) <= bound


@pytest.mark.parametrize("width", [1, 2, 8])
def test_rows_are_drawn_in_chunks_of_one_generator_each(width, monkeypatch):
    monkeypatch.setattr(initialise, "CHUNK_ROWS", 64)
    rows = unpack(*started(width)).double().numpy()
    bound = ROWS**-0.5
    for chunk, first in enumerate(range(0, ROWS, 64)):
        part = rows[first : first + 64]
        drawn = np.random.default_rng([3, zlib.crc32(b"f"), chunk]).random(
            part.shape, dtype=np.float32
        )
        assert np.allclose(part, bound * (2.0 * drawn - 1), atol=1e-7)


@pytest.mark.parametrize("width", [1, 2, 8])
def test_a_shard_starts_like_its_part_of_the_whole_table(width, monkeypatch):
    monkeypatch.setattr(initialise, "CHUNK_ROWS", 16)
    whole, table = started(width)
    for first, last in ((0, 5), (5, 30), (30, len(whole))):
        shard = torch.full_like(whole[first:last], torch.nan)
        initialise._fill(shard, table, first, 0, seed=3, bound=ROWS**-0.5)
        assert torch.equal(shard, whole[first:last])


@pytest.mark.parametrize("rows_of", ["table", "field"])
@pytest.mark.parametrize(("init", "over"), [("rows", None), ("xavier", 6)])
def test_blocks_start_within_the_bound_of_their_own_rows_or_their_fields(init, over, rows_of):
    blocks = tuple(
        Block(num_embeddings=rows, embedding_dim=width, asked_dim=width)
        for rows, width in ((20, 8), (ROWS - 20, 4))
    )
    plan = SizingPlan(fields={"f": blocks}, out_dim=8)
    embeddings = MixedEmbeddings(plan)
    model = nn.ModuleDict({"network": embeddings})
    initialise_tables(model, plan, seed=3, init=init, rows_of=rows_of)
    for table in plan.tables():
        rows = ROWS if rows_of == "field" else table.num_embeddings
        bound = (over / (rows + table.embedding_dim) if over else 1 / rows) ** 0.5
        weight = embeddings.tables.embedding_bags[table.name].weight.detach()
        assert 0.9 * bound < float(weight.abs().max()) <= bound
