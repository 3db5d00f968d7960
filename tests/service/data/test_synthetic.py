"""Made-up logs: what was planted is there, and what was promised of their form holds."""

import json
from collections import Counter

import numpy as np
import pytest

from service.data.readers.base import Reading
from service.data.readers.synthetic import Synthetic, describe_teacher
from service.data.readers.teacher import CARDINALITIES, CHUNK_ROWS, RANKS, Teacher


def text(rows: int, seed: int = 0, scale: float = 0.01) -> list[list[str]]:
    dataset = Synthetic(rows=rows, scale=scale).open(Reading(seed=seed))
    lines = b"".join(dataset.text(block) for block in dataset.blocks()).decode()
    return [line.split("\t") for line in lines.splitlines()]


@pytest.fixture(scope="module")
def lines() -> list[list[str]]:
    return text(20_000)


def test_lines_have_the_form_of_criteo(lines):
    assert {len(values) for values in lines} == {40}
    assert {values[0] for values in lines} == {"0", "1"}
    assert all(value == "" or int(value) >= -3 for values in lines for value in values[1:14])
    names = {value for values in lines for value in values[14:]} - {""}
    assert all(len(name) == 8 and int(name, 16) >= 0 for name in names)
    assert any(value.startswith("-") for value in (values[2] for values in lines))


def test_about_a_quarter_of_the_lines_are_clicks(lines):
    assert sum(values[0] == "1" for values in lines) / len(lines) == pytest.approx(0.26, abs=0.02)


def test_more_rows_begin_with_the_same_rows_and_another_seed_does_not():
    longer = text(CHUNK_ROWS + 10)
    assert longer[:1000] == text(1000) and len(longer) == CHUNK_ROWS + 10
    assert longer[:1000] != text(1000, seed=1)


def test_the_scale_sets_the_number_of_values():
    assert Teacher(seed=0, scale=1.0).cardinalities == list(CARDINALITIES)
    assert sum(CARDINALITIES) == 33_762_577
    tenth = Teacher(seed=0, scale=0.1).cardinalities
    assert tenth[2] == 1_013_123 and tenth[8] == 3


def test_values_of_a_field_have_different_names():
    names = Teacher(seed=0, scale=1.0).hashed(2, np.arange(1_000_000))
    assert len(np.unique(names)) == 1_000_000


def test_few_values_are_read_often_and_many_seldom(lines):
    counts = Counter(values[14 + 9] for values in lines)  # C10
    ranked = [count for _, count in counts.most_common()]
    assert ranked[0] > 10 * ranked[20] > 10 * ranked[-1] == 10


def test_vectors_of_a_field_span_its_rank_and_no_more():
    teacher = Teacher(seed=0, scale=1.0)
    for field, rank in enumerate(RANKS):
        size = min(teacher.cardinalities[field], 500)
        vectors = teacher._vectors(field, np.arange(size))[:, :-1]
        assert np.linalg.matrix_rank(vectors, tol=1e-9) == rank


def test_a_field_of_rank_zero_tells_nothing():
    teacher = Teacher(seed=0, scale=0.01)
    dense, missing, values = teacher._draw_inputs(0)
    other = values.copy()
    noise = [field for field, rank in enumerate(RANKS) if rank == 0]
    other[noise] = other[noise][:, ::-1]
    same = teacher._score(dense, missing, values) == teacher._score(dense, missing, other)
    assert same.all()


def test_the_description_holds_ranks_and_the_teachers_own_quality():
    dataset = Synthetic(rows=50_000).open(Reading(seed=0))
    told = json.loads(describe_teacher(dataset))
    draw = dataset.teacher.draw(0)
    clicks, others = (np.sort(draw.logits[draw.labels == label]) for label in (1, 0))
    pairs = np.searchsorted(others, clicks).mean() / len(others)  # share of pairs in order
    assert told["auc"] == pytest.approx(pairs, abs=0.01)
    assert 0.8 < told["auc"] < 0.92
    assert [field["rank"] for field in told["fields"].values()] == list(RANKS)


@pytest.mark.parametrize("options", [{"rows": 0}, {"scale": 0.0}, {"days": 0}])
def test_impossible_sizes_are_refused(options):
    with pytest.raises(ValueError, match="expected at least one row"):
        Synthetic(**options)
