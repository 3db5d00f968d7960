"""Embeddings of every kind that serves train alike on one rank and on two."""

from dataclasses import replace

import numpy as np
import pytest

from models.embeddings.coded import DPQChoice, MGQEChoice
from models.embeddings.quotients import QuotientRemainderChoice
from service.distributed import launch
from service.sizing import read_sizing, write_sizing
from tests.service.train.runs import make_run, sharded, trace_each

STEPS = 12
KINDS = {
    "mult": QuotientRemainderChoice(whole_fields=("C4",)),
    "concat": QuotientRemainderChoice(combine="concat", collisions=7),
    "vq": DPQChoice(codes=8, whole_fields=("C4",)),
    "sx": DPQChoice(codes=8, variant="sx", shares_groups=True, whole_fields=("C4",)),
    "mgqe": MGQEChoice(codes=16, tail_codes=4, groups=2, whole_fields=("C4",)),
}
PLACES = ("table_wise", "row_wise", "table_wise", "row_wise", "data_parallel")


@pytest.fixture
def runs(tmp_path):
    """A run of every kind, over one plan of equally wide tables."""
    config = make_run(tmp_path)
    sizing = read_sizing(config.sizing)
    rows = dict(zip(sizing.fields, (40, 7, 300, 500), strict=True))
    wide = {
        name: (replace(blocks[0], num_embeddings=rows[name], embedding_dim=16, asked_dim=16),)
        for name, blocks in sizing.fields.items()
    }
    write_sizing(replace(sizing, fields=wide), config.sizing)
    return [
        replace(config, embeddings=kind, **sharded(place, "adagrad"))
        for kind, place in zip(KINDS.values(), PLACES, strict=True)
    ]


@pytest.mark.dist
def test_two_ranks_train_every_kind_like_one(runs):
    halves = [replace(run, batch_size=run.batch_size // 2) for run in runs]
    one = launch(trace_each, runs, STEPS, nproc=1, name="one")
    two = launch(trace_each, halves, STEPS, nproc=2, name="two")
    for alone, shared, name in zip(one, two, KINDS, strict=True):
        assert np.allclose(alone.losses, shared.losses, atol=1e-5), name
        assert np.allclose(alone.predictions, shared.predictions, atol=1e-5), name
        assert min(alone.moved.values()) > 1e-4, name
