"""The teachers of `tests.planted_data` know what they say, and widths are judged by it."""

import numpy as np
import pytest

from service.data.dataset import read_dataset_info
from tests.planted_data import TEACHERS, Planted, rows_of, write_planted
from tests.planted_methods import as_markdown, order_of

NUM_ROWS = 40_000


@pytest.fixture(params=TEACHERS.values(), ids=TEACHERS)
def planted(request: pytest.FixtureRequest) -> Planted:
    return request.param


def test_size_says_nothing_of_rank(planted):
    rows = rows_of(planted)
    for rank in set(planted.ranks.values()):
        sizes = [rows[name] for name, of in planted.ranks.items() if of == rank]
        large, small = planted.sizes
        assert sizes.count(large) == sizes.count(small) == len(sizes) / 2


def test_noise_says_nothing_of_clicks_and_the_rest_says_much(planted):
    ids, chances = planted.draw(np.random.default_rng(3), NUM_ROWS)
    assert chances.std() > 0.2
    for name in (name for name, rank in planted.ranks.items() if not rank):
        counts = np.bincount(ids[name])
        means = np.bincount(ids[name], chances)[counts > 0] / counts[counts > 0]
        z = (means - chances.mean()) * np.sqrt(counts[counts > 0]) / chances.std()
        assert np.square(z).mean() < 1.5, "means by id differ by no more than chance has it"


def test_a_dataset_of_every_teacher_can_be_read(planted, tmp_path):
    write_planted(tmp_path / "data", seed=0, num_train=1000, planted=planted)
    info = read_dataset_info(tmp_path / "data")
    assert {s.name: s.num_embeddings for s in info.field_stats} == rows_of(planted)
    assert info.splits["train"].num_rows == 1000
    assert 0.2 < info.splits["train"].label_mean < 0.5


def test_widths_are_in_order_where_means_are_strictly():
    ranks = {"a": 8, "b": 8, "c": 1, "d": 1, "e": 0, "f": 0}
    rows = {name: (800, 32)[place % 2] for place, name in enumerate(ranks)}
    widths = {"a": 16, "b": 4, "c": 2, "d": 4, "e": 1, "f": 0}
    order = order_of(widths, ranks, rows)
    assert order["means"] == {"all": [10, 3, 0.5], "large": [16, 2, 1], "small": [4, 4, 0]}
    assert order["is_ordered"] == {"all": True, "large": True, "small": False}
    assert order_of(dict.fromkeys(ranks, 8), ranks, rows)["spearman"] is None


def test_a_line_sums_up_the_seeds_of_a_method():
    order = {
        "means": {"all": [3, 2, 1], "large": [3, 2, 1], "small": [3, 2, 1]},
        "is_ordered": {"all": True, "large": True, "small": False},
        "spearman": 0.5,
    }
    result = {"teacher": "t", "method": "m", "budget": "4x", "order": order, "auc": 0.75}
    line = as_markdown([result, result]).splitlines()[2]
    counted = "| t | m | 4x | 2 | 2/2 | 2/2 | 0/2 |"
    assert line == f"{counted} 3.0 > 2.0 > 1.0 | 3.0 > 2.0 > 1.0 | 0.50 | 0.7500 |"
