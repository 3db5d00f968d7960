"""What a training resumed on other ranks, under another sharding, is held to.

By default one change of every kind on one and two ranks; all, on four as well, by `-m slow`.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from models.tables import SparseOptimizer
from service.checkpoint import StoredTensors
from service.checkpoint.stored import Values
from service.config import TrainConfig
from service.distributed import launch
from sharding.constraints import SHARDING_TYPES
from tests.service.train.resumes import Outcome, Plan, Shape, carry_out, folder_of
from tests.service.train.runs import make_run

Change = tuple[Shape, Shape]
Results = tuple[TrainConfig, Mapping[Shape, Outcome], Mapping[Change, Outcome]]

FUSED: Final[tuple[SparseOptimizer, ...]] = ("sgd", "adagrad", "rowwise_adagrad")
DENSE: Final[tuple[SparseOptimizer, ...]] = ("adam", "amsgrad")


def shapes(optimizer: SparseOptimizer, nprocs: Sequence[int]) -> list[Shape]:
    kinds = ("data_parallel",) if optimizer in DENSE else SHARDING_TYPES
    return [
        Shape(nproc=nproc, kind=kind, optimizer=optimizer) for nproc in nprocs for kind in kinds
    ]


def ring(of: Sequence[Shape]) -> list[Change]:
    """Every shape into the next one, the last into the first."""
    return list(zip(of, [*of[1:], of[0]], strict=True))


QUICK: Final[list[Change]] = [
    *ring(shapes("adagrad", [2])),
    *ring(shapes("rowwise_adagrad", [2])),
    *(change for name in FUSED for change in ring(shapes(name, [1, 2])[::3])),
    *(change for name in DENSE for change in ring(shapes(name, [1, 2]))),
]
EVERY: Final[list[Change]] = [
    change for name in (*FUSED, *DENSE) for change in product(shapes(name, [1, 2, 4]), repeat=2)
]


def carried_out(folder: Path, changes: Sequence[Change]) -> Results:
    """All changes, by as few sets of ranks as can be: each saves, then resumes what is there."""
    config = make_run(folder)
    nprocs = sorted({shape.nproc for change in changes for shape in change})
    saved: dict[Shape, Outcome] = {}
    resumed: dict[Change, Outcome] = {}
    for nproc in [*nprocs, *nprocs[-2::-1]]:
        saves = {before for before, _ in changes if before.nproc == nproc} - saved.keys()
        ready = saved.keys() | saves
        resumes = [c for c in changes if c[1].nproc == nproc and c[0] in ready and c not in resumed]
        plan = Plan(config=config, saves=list(saves), resumes=resumes)
        of_saves, of_resumes = launch(carry_out, plan, nproc=nproc, name="matrix")
        saved |= dict(zip(plan.saves, of_saves, strict=True))
        resumed |= dict(zip(resumes, of_resumes, strict=True))
    return config, saved, resumed


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return carried_out(tmp_path_factory.mktemp("quick"), QUICK)


@pytest.fixture(scope="module")
def every(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of all changes those that are asked for, as by ``-k``."""
    asked = [
        item.callspec.params["change"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname.startswith("test_every_resumed")
    ]
    return carried_out(tmp_path_factory.mktemp("every"), asked)


def named(change: Change) -> str:
    return "-into-".join(shape.name for shape in change)


@pytest.mark.dist
@pytest.mark.parametrize("change", QUICK, ids=named)
def test_a_resumed_training_goes_on_as_if_nothing_had_changed(change, quick):
    check(change, *quick)


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("change", EVERY, ids=named)
def test_every_resumed_training_goes_on_as_if_nothing_had_changed(change, every):
    check(change, *every)


def check(
    change: Change,
    config: TrainConfig,
    saved: Mapping[Shape, Outcome],
    resumed: Mapping[Change, Outcome],
) -> None:
    """Predictions and losses to 1e-6, what is stored to the last digit."""
    expected, found = saved[change[0]], resumed[change]
    recut = compare_stored(config, change)
    assert found.predictions == pytest.approx(expected.predictions, abs=1e-6)
    same = 1 if recut else None  # from the second step on the optimizer's state matters
    assert found.losses[:same] == pytest.approx(expected.losses[:same], abs=1e-6)


def means_of_columns(sums: Values, num_shards: int) -> Values:
    """Sums of equal column shards as those of so many: the mean of what their columns had."""
    by_column = np.repeat(sums, num_shards, axis=1)
    return by_column.reshape(len(sums), num_shards, -1).mean(axis=2)


def compare_stored(config: TrainConfig, change: Change) -> bool:
    """Whether sums had to be recut; everything else is what the checkpoint held."""
    before, after = (
        StoredTensors(next(folder.glob("step-*")))
        for folder in (folder_of(config, change[0]), folder_of(config, *change))
    )
    # Every rank stores the state of its random generators: as many as there are ranks.
    names, found = (
        {name for name in of.shapes if not name.startswith("random.")} for of in (before, after)
    )
    assert names == found
    recut = [name for name in names if after.shapes[name] != before.shapes[name]]
    for name in names - set(recut):
        assert np.array_equal(after.read(name), before.read(name)), name
    for name in recut:
        assert name.endswith(".sum")
        expected = means_of_columns(before.read(name), after.shapes[name][1])
        assert after.read(name) == pytest.approx(expected)
    return bool(recut)
