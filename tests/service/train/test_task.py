"""From scores to predictions and losses: the constant to start from, and bounds of ratings."""

import math

import pytest
import torch

from models.networks import DotBiasNetwork, MFNetwork
from service.data.batch import Batch
from service.train.task import TrainTask
from tests.models.examples import GOLDEN, PAIR, embeddings_of, inputs_of


def task_of(network, task="rating", label_mean=3.5):
    return TrainTask(network.build(embeddings_of(PAIR), 0), task, label_mean=label_mean)


def predictions_of(task, score):
    """Predictions where the network gives every example one score."""
    task.network.score = lambda dense, fields: torch.full((len(fields.columns),), score)
    dense, features = inputs_of(tuple(PAIR), num_dense=0)
    batch = Batch(dense=dense, features=features, labels=torch.ones(6), weights=torch.ones(6))
    return task(batch)[1][1].tolist()


def test_ratings_start_at_their_mean():
    assert predictions_of(task_of(MFNetwork()), 0.0) == pytest.approx([3.5] * 6)
    assert predictions_of(task_of(MFNetwork()), -1.0) == pytest.approx([2.5] * 6)


def test_clicks_start_at_their_ratio():
    assert predictions_of(task_of(MFNetwork(), "click", 0.2), 0.0) == pytest.approx([0.2] * 6)


def test_bounded_ratings_start_at_their_mean_and_stay_between_the_bounds():
    task = task_of(DotBiasNetwork(y_range=(0.5, 5.5)), label_mean=4.0)
    assert predictions_of(task, 0.0) == pytest.approx([4.0] * 6)
    assert predictions_of(task, 50.0) == pytest.approx([5.5] * 6)
    assert predictions_of(task, -50.0) == pytest.approx([0.5] * 6)


@pytest.mark.parametrize(("score", "rating"), GOLDEN["sigmoid_range_0_5.5_at"].items())
def test_bounded_ratings_go_through_the_sigmoid_of_fastai(score, rating):
    task = task_of(DotBiasNetwork(y_range=(0, 5.5)), label_mean=2.75)  # where log odds are 0
    assert predictions_of(task, float(score)) == pytest.approx([rating] * 6)


def test_the_loss_of_bounded_ratings_is_their_squared_error():
    task = task_of(DotBiasNetwork(y_range=(0, 5.5)), label_mean=2.75)
    task.network.score = lambda dense, fields: torch.zeros(len(fields.columns))
    dense, features = inputs_of(tuple(PAIR), num_dense=0)
    batch = Batch(
        dense=dense, features=features, labels=torch.full((6,), 4.0), weights=torch.ones(6)
    )
    loss, _ = task(batch)
    assert math.isclose(loss.item(), 6 * (4 - 2.75) ** 2, rel_tol=1e-6)


def test_bounds_of_ratings_on_clicks_are_refused():
    with pytest.raises(ValueError, match=r"y_range=\(0, 5.5\) bounds ratings, and the labels are"):
        task_of(DotBiasNetwork(y_range=(0, 5.5)), "click", 0.5)


def test_bounds_that_exclude_the_mean_rating_are_refused():
    with pytest.raises(ValueError, match=r"y_range=\(0, 1\), but the mean label is 3.5"):
        task_of(DotBiasNetwork(y_range=(0, 1)))


def test_clipped_predictions_stay_on_the_scale_and_the_loss_is_as_before():
    network = MFNetwork().build(embeddings_of(PAIR), 0)
    task = TrainTask(network, "rating", label_mean=3.5, clip=(1.0, 5.0))
    assert predictions_of(task, 9.0) == [5.0] * 6
    assert predictions_of(task, -9.0) == [1.0] * 6
    assert predictions_of(task, 0.25) == [3.75] * 6
    dense, features = inputs_of(tuple(PAIR), num_dense=0)
    batch = Batch(dense=dense, features=features, labels=torch.ones(6), weights=torch.ones(6))
    task.network.score = lambda dense, fields: torch.full((len(fields.columns),), 9.0)
    assert task(batch)[0].item() == 6 * (12.5 - 1) ** 2


def test_clipped_clicks_are_refused():
    network = MFNetwork().build(embeddings_of(PAIR), 0)
    with pytest.raises(ValueError, match=r"clip=\(1.0, 5.0\) bounds ratings, and the labels are"):
        TrainTask(network, "click", label_mean=0.5, clip=(1.0, 5.0))
