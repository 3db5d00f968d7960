"""What is seen of embeddings is what loops over rows and ids see, and looking changes nothing."""

import json
import math
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from models.tables import FieldStats
from service.data.dataset import FieldInfo, read_dataset_info
from service.data.loader import Loader
from service.distributed import launch
from service.sizing import read_sizing
from service.train.evaluation import Predicted, score
from service.train.frequency_losses import FrequencyLosses, slices_of
from service.train.slices import SLICES, slice_of_ids
from service.train.table_health import HEAD_ROWS, effective_rank, sampled_rows, share
from tests.datasets import write_dataset
from tests.free_ports import free_ports
from tests.service.train.runs import make_run, sharded
from tests.service.train.skips import checkpoint_of, stored
from tests.service.train.watched_runs import watch

STEPS = 6
CASES = [
    ("row_wise", "rowwise_adagrad"),
    ("column_wise", "adagrad"),
    ("row_wise", "sgd"),
    ("data_parallel", "adam"),
]
WITHOUT_CLOCK = ("examples_per_second", "loader_wait_ratio")


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 9))
def test_effective_rank_is_that_of_the_singular_values(num_rows, width, seed):
    rows = np.random.default_rng(seed).normal(size=(num_rows, width)) * np.arange(1, width + 1)
    singular = np.linalg.svd(rows, compute_uv=False)
    shares = [value / singular.sum() for value in singular]
    entropy = -sum(s * math.log(s) for s in shares if s > 0)
    assert effective_rank(torch.from_numpy(rows)) == pytest.approx(math.exp(entropy), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(torch.eye(8), 8), (torch.ones(50, 8), 1), (torch.zeros(5, 8), 0)],
    ids=["all directions", "one", "none"],
)
def test_effective_rank_counts_directions(rows, expected):
    assert effective_rank(rows) == pytest.approx(expected, abs=1e-5)


@given(st.integers(1, 100_000), st.integers(0, 100_000))
def test_the_share_of_a_sample_is_that_of_all_rows(num_rows, num_touched):
    rows = sampled_rows(torch.empty(num_rows, 0))
    assert len(rows.unique()) == len(rows) and int(rows.max()) < num_rows
    found = share(rows < num_touched, num_rows)
    assert found == pytest.approx(min(num_touched / num_rows, 1), abs=1 / HEAD_ROWS)


@example([6, 6, 6], 2)  # its share of lookups is no whole number in floats
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 39))
def test_the_frequency_curve_slices_like_the_counts(counts, place):
    counts = sorted(counts, reverse=True)
    unknown_id = place % len(counts)
    curve = tuple(enumerate(accumulate(counts), 1))
    total = curve[-1][1]
    field = FieldInfo(
        stats=FieldStats(
            name="f",
            num_embeddings=len(counts),
            num_lookups=total,
            coverage_ratio=1 - counts[unknown_id] / total if total else 1.0,
            frequency_curve=curve,
        ),
        num_distinct=len(counts),
        missing_id=0,
        unknown_id=unknown_id,
    )
    found = slices_of(field, np.arange(len(counts), dtype=np.int32))
    assert found.tolist() == slice_of_ids(np.array(counts), unknown_id).tolist()


@pytest.mark.parametrize("rating", [False, True])
def test_losses_of_all_slices_together_are_the_loss_of_the_split(rating, tmp_path):
    info = write_dataset(tmp_path, rows={"train": 200, "validation": 333}, rating=rating)
    labels = np.concatenate(
        [pq.read_table(part)["label"] for part in sorted((tmp_path / "validation").glob("*"))]
    )
    predictions = np.random.default_rng(0).random(len(labels)).astype(np.float32)
    predicted = Predicted(predictions=predictions, labels=labels)
    scores = score(predictions, labels, info.task)
    found = list(FrequencyLosses(tmp_path, info, "validation", {"C1", "C3"}).of(predicted))
    for name in ("C1", "C3"):
        sums = [loss * num_rows for field, _, loss, num_rows in found if field == name]
        expected = scores.mse if rating else scores.log_loss
        assert sum(sums) / len(labels) == pytest.approx(expected, rel=1e-5)
    assert [name for _, name, _, _ in found] == list(SLICES) * 2


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("runs"), epochs=2, batch_size=64, checkpoint_every=7, nproc=2
    )


@pytest.fixture(scope="module")
def watched(plain):
    return replace(plain, output=plain.output.with_name("watched"), metrics_port=free_ports(2))


@pytest.fixture(scope="module")
def seen(plain, watched):
    others = [replace(plain, batch_size=16, **sharded(*case)) for case in CASES]
    return launch(watch, plain, watched, others, STEPS, nproc=2, name="watched")


@pytest.mark.dist
def test_a_watched_training_gives_the_digits_of_an_unwatched_one(plain, watched, seen):
    assert digits(plain) == digits(watched)
    weights = [stored(checkpoint_of(run, 64)) for run in (plain, watched)]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.dist
@pytest.mark.parametrize(
    "line",
    [
        *(f'mixdim_table_{name}{{table="C3/0"}}' for name in ("saturation_ratio", "row_norm")),
        *(f'mixdim_table_{name}{{table="C4"}}' for name in ("touched_ratio", "moved_ratio")),
        'mixdim_eval_slice_loss{field="C1",slice="head",split="validation"}',
        'mixdim_eval_unknown_ratio{field="C4",split="validation"}',
        'mixdim_train_lookups_total{field="C4"}',
        "mixdim_train_planned_steps",
        "mixdim_train_health_seconds_total",
        "mixdim_run_disk_free_bytes",
        "mixdim_process_resident_memory_bytes",
    ],
)
def test_a_training_shows_the_health_of_its_embeddings(line, seen):
    lines = seen.page.splitlines()
    (value,) = (text.rpartition(" ")[2] for text in lines if text.startswith(f"{line} "))
    assert float(value) > 0 or "unknown" in line


@pytest.mark.dist
@pytest.mark.parametrize("case", range(len(CASES)), ids=map("-".join, CASES))
def test_every_rank_sees_which_of_its_rows_were_read(case, plain, seen):
    read = rows_read(replace(plain, batch_size=16), STEPS)
    for figures, first_rows in seen.health[case]:
        for table, of_table in figures.items():
            first, num_rows = first_rows[table], int(of_table["rows"])
            num_read = len([row for row in read[table] if first <= row < first + num_rows])
            assert of_table["touched_ratio"] == pytest.approx(num_read / num_rows), table
            assert 0 < of_table["saturation_ratio"] <= 1.000001


def rows_read(config, steps):
    """Rows by table that the first steps of two ranks look up, by reading in the run's order."""
    info, plan = read_dataset_info(config.data), read_sizing(config.sizing).plan
    options = {"batch_size": 2 * config.batch_size, "seed": config.seed}
    batches = Loader(config.data, info, "train", plan, **options).batches()
    read: dict[str, set[int]] = {}
    for _, batch in zip(range(steps), batches, strict=False):
        for table, ids in batch.features.to_dict().items():
            read.setdefault(table, set()).update(ids.values().tolist())
    return read


def digits(config):
    """What a run has written down, but for times."""
    lines = map(json.loads, (config.output / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in WITHOUT_CLOCK} for line in lines]
