"""Losses and weights that are not numbers: the run stops, says where, and writes no checkpoint."""

from dataclasses import replace

import numpy as np
import pytest

from models.networks import DLRMNetwork
from service.distributed import launch
from service.train.loop import _Training, train
from tests.service.train.runs import make_run


def test_a_loss_that_is_not_a_number_stops_the_run_at_its_step(tmp_path):
    config = make_run(tmp_path, network=DLRMNetwork(bottom=(8,), top=(8,)))
    wild = replace(config, optimizer=replace(config.optimizer, sparse="sgd", sparse_lr=1e30))
    said = (
        r"not a number since step [234] \(epoch 0, batch [234], rank 0\), at .* 1e\+30 \(tables\)"
    )
    with pytest.raises(FloatingPointError, match=said + ".*lower --optimizer.*look at the dense"):
        launch(train, wild, nproc=1, name="wild")
    assert not list((config.output / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_no_batch_reads_is_looked_at_before_a_checkpoint(
    value, tmp_path, monkeypatch
):
    config = make_run(tmp_path, checkpoint_every=4, keep_checkpoints=9)
    step = _Training._step

    def spoiling(self, batches):
        loss = step(self, batches)
        if self.progress.step == 9:
            weight = self.model.state_dict()["network.embeddings.tables.embedding_bags.C4.weight"]
            weight.local_shards()[0].tensor[499, 0] = value  # the unknown id, which none has
        return loss

    monkeypatch.setattr(_Training, "_step", spoiling)
    with pytest.raises(FloatingPointError, match=r"C4.weight holds values that .* after step 12"):
        launch(train, config, nproc=1, name="spoilt")
    kept = [path.name for path in sorted((config.output / "checkpoints").iterdir())]
    assert kept == ["step-00000004", "step-00000008"]
