"""Measure on a warm-up run which directions of every field's vectors save loss, and how much.

The run's tables are read piece by piece; of their vectors only those are kept that the sampled
examples look up. The gradient with respect to a field's vector comes from training examples, what a
direction is worth from validation examples: see `models.sizing.spectral`.
"""

# Shapes:  B batch, D_f width of a field's vectors, U ids that the sample looks up

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag, softplus

from models.sizing.spectral import Floats, Spectral, directions, second_moment, spectrum_of
from models.tables import WIDTH_STEP, SizingPlan
from service.data.batch import Batch
from service.data.dataset import DatasetInfo, Split, read_dataset_info
from service.data.loader import Loader
from service.data.lookups import lookups_per_id
from service.train.engine import build_task
from service.train.task import TrainTask
from service.warm_up import Vectors, WarmUp, run_cost

SAMPLE_EXAMPLES: Final = 1 << 17
"""Examples of each split that are looked at, at most."""
BATCH_SIZE: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Ids of a field that are measured together: all of them, or those of one block."""

    name: str
    """The table's, see `models.tables.Table.name`."""
    field: str
    first_id: int
    end_id: int


def measured(scheme: Spectral, data: Path, offsets: Mapping[str, Sequence[int]]) -> Spectral:
    """The scheme with what its warm-up shows, and what that run took.

    Args:
        scheme: Names the run.
        data: The dataset to size.
        offsets: Of every field the ids at which its tables start, and the number of ids.

    Raises:
        FileNotFoundError: If there is no such run, or it has not ended.
        ValueError: If the scheme names none, or run and dataset do not fit each other.
    """
    if not scheme.warm_up:
        raise ValueError(
            "scheme spectral measures the vectors of a short training, and warm_up names none; "
            "train one: mixdim train PRESET --sizing UNIFORM, and size with --warm-up RUN"
        )
    folder = Path(scheme.warm_up)
    cost = run_cost(folder)
    return replace(
        scheme,
        warm_up_seconds=cost.seconds,
        warm_up_examples=cost.examples,
        spectra=measure_spectra(WarmUp(folder), data, runs_of(offsets)),
    )


def runs_of(offsets: Mapping[str, Sequence[int]]) -> list[Run]:
    """Runs by the ids at which they start, and the number of ids at the end, of every field."""
    return [
        Run(
            name=name if len(cuts) == 2 else f"{name}/{index}",
            field=name,
            first_id=first,
            end_id=end,
        )
        for name, cuts in offsets.items()
        for index, (first, end) in enumerate(pairwise(cuts))
    ]


def measure_spectra(warm_up: WarmUp, data: Path, runs: Sequence[Run]) -> dict[str, list[float]]:
    """Loss that every direction saves, by name of the run; see `Spectral.spectra`.

    Args:
        warm_up: A finished run.
        data: The dataset it was trained on.
        runs: What to measure.

    Raises:
        ValueError: If run and dataset do not fit each other, or there is nothing to validate on.
    """
    info = read_dataset_info(data)
    for stats in info.field_stats:
        if any(run.field == stats.name for run in runs):
            warm_up.check_field(stats)
    samples = {split: list(_batches(data, info, split, warm_up.plan)) for split in _SPLITS}
    moments, vectors = _read(warm_up, data, runs, [*samples["train"], *samples["validation"]])
    probe = _Probe(warm_up, info, vectors)
    sensitivities = probe.sensitivities(samples["train"], runs)
    bases = {run.name: directions(moments[run.name], sensitivities[run.name]) for run in runs}
    losses, carried = probe.losses(samples["validation"], runs, bases)
    return {name: spectrum_of(losses[name], carried[name]) for name in losses}


_SPLITS: Final[tuple[Split, ...]] = ("train", "validation")


@dataclass(frozen=True, slots=True)
class _Looked:
    """Vectors of the ids that the sample looks up."""

    ids: NDArray[np.int64]  # (U,) rising
    vectors: Tensor  # (U, D_f)


class _Probe:
    """The warm-up's network on vectors that are looked up here."""

    def __init__(self, warm_up: WarmUp, info: DatasetInfo, looked: Mapping[str, _Looked]) -> None:
        self.task: TrainTask = build_task(
            warm_up.config, info, warm_up.plan, device=torch.device("cpu"), tables_on="meta"
        ).eval()
        weights = self.task.state_dict()
        for name, value in warm_up.dense().items():
            weights[name].copy_(value)
        self.looked = looked
        self.starts = np.cumsum([0, *(part.vectors.shape[1] for part in looked.values())])
        self.means = {
            field.stats.name
            for field in info.fields
            if field.is_list and warm_up.config.pooling == "mean"
        }

    def sensitivities(self, batches: Sequence[Batch], runs: Sequence[Run]) -> dict[str, Floats]:
        """Second moment of the score's gradient at the lookups of every run."""
        total = {run.name: np.zeros(2 * [self._width(run.field)]) for run in runs}
        for batch in batches:
            _, gradients = self._gradients(batch)
            for run in runs:
                gradient = self._of(gradients, run.field)
                hits = self._pool(batch, run, ones=True)  # (B, 1)
                total[run.name] += gradient.T @ (gradient * hits)
        return total

    def losses(
        self, batches: Sequence[Batch], runs: Sequence[Run], bases: Mapping[str, tuple[Any, Any]]
    ) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Mean loss with only the first 0, 1, ..., D directions of one run ``(D + 1,)``.

        Also the mean square of what each direction adds to the score ``(D,)``.
        """
        squares = {run.name: np.zeros(self._width(run.field)) for run in runs}
        total = {run.name: np.zeros(self._width(run.field) + 1) for run in runs}
        num_examples = sum(len(batch.labels) for batch in batches)
        for batch in batches:
            scores, gradients = self._gradients(batch)
            for run in runs:
                down, up = bases[run.name]
                parts = (self._pool(batch, run) @ down) * (self._of(gradients, run.field) @ up.T)
                squares[run.name] += np.square(parts).sum(0) / num_examples
                left_out = np.cumsum(parts[:, ::-1], axis=1)[:, ::-1]  # (B, D_f) from k on
                kept = scores[:, None] - np.pad(left_out, ((0, 0), (0, 1)))  # (B, D_f + 1)
                losses = _losses(self.task, torch.from_numpy(kept), batch.labels.double())
                total[run.name] += losses.sum(0).numpy() / num_examples
        return total, squares

    def _gradients(self, batch: Batch) -> tuple[Floats, Floats]:
        """Scores ``(B,)``, and their gradients with respect to the vectors ``(B, sum of D_f)``."""
        whole = [
            torch.from_numpy(self._pool(batch, Run(name=name, field=name, first_id=0, end_id=end)))
            for name, end in ((name, int(part.ids[-1]) + 1) for name, part in self.looked.items())
        ]
        fields = torch.cat(whole, dim=1).float().requires_grad_()
        scores = self.task.network.score(batch.dense, fields)
        (gradients,) = torch.autograd.grad(scores.sum(), fields)
        return scores.detach().double().numpy(), gradients.double().numpy()

    def _pool(self, batch: Batch, run: Run, *, ones: bool = False) -> Floats:
        """Pooled vectors of a run's ids ``(B, D_f)``, or the sum of their squared shares."""
        column = batch.features[run.field]
        ids, lengths = column.values().numpy(), column.lengths()
        looked = self.looked[run.field]
        shares = torch.from_numpy(((ids >= run.first_id) & (ids < run.end_id)).astype(np.float64))
        if run.field in self.means:
            shares = shares / lengths.double().repeat_interleave(lengths)
        table = torch.ones(len(looked.ids), 1) if ones else looked.vectors
        pooled: Floats = embedding_bag(
            torch.from_numpy(np.searchsorted(looked.ids, ids)),
            table.double(),
            column.offsets()[:-1].long(),
            mode="sum",
            per_sample_weights=shares.square() if ones else shares,
        ).numpy()
        return pooled

    def _of(self, fields: Floats, name: str) -> Floats:
        index = list(self.looked).index(name)
        return fields[:, self.starts[index] : self.starts[index + 1]]

    def _width(self, field: str) -> int:
        return self.looked[field].vectors.shape[1]


def _losses(task: TrainTask, scores: Tensor, labels: Tensor) -> Tensor:
    """Loss of every score of every example ``(B, K)``."""
    scores, labels = scores + task.constant.double(), labels[:, None]
    if task.is_click:
        return softplus(scores) - labels * scores
    if task.y_range is not None:
        low, high = task.y_range
        scores = low + (high - low) * torch.sigmoid(scores)
    return (scores - labels).square()


def _batches(data: Path, info: DatasetInfo, split: Split, plan: SizingPlan) -> Iterator[Batch]:
    """A sample of a split, ids by field as they are in the data."""
    if split not in info.splits or not info.splits[split].num_rows:
        raise ValueError(
            f"{data} has no {split} examples, and spectral sizing judges directions by examples "
            f"that the warm-up was not trained on; prepare with --fractions 0.8 0.1 0.1"
        )
    stats = {stats.name: stats for stats in info.field_stats}
    ids = SizingPlan.one_block_each(
        [stats[name] for name in plan.fields],
        dict.fromkeys(plan.fields, WIDTH_STEP),
        out_dim=WIDTH_STEP,
    )
    loader = Loader(data, info, split, ids, batch_size=BATCH_SIZE, seed=0)
    yield from islice(loader.batches(), -(-SAMPLE_EXAMPLES // BATCH_SIZE))


def _read(
    warm_up: WarmUp, data: Path, runs: Sequence[Run], batches: Sequence[Batch]
) -> tuple[dict[str, Floats], dict[str, _Looked]]:
    """Second moments of all runs, and the vectors of all ids of the sample, in one reading."""
    moments: dict[str, Floats] = {}
    looked: dict[str, _Looked] = {}
    for field in warm_up.plan.fields:
        counts = lookups_per_id(data, field)
        ids = np.unique(np.concatenate([b.features[field].values().numpy() for b in batches]))
        found: list[Vectors] = []
        for run in [run for run in runs if run.field == field] or [_whole(field, len(counts))]:
            moments[run.name] = second_moment(
                _noting(warm_up.pieces(field, run.first_id, run.end_id), counts, ids, found)
            )
        looked[field] = _Looked(ids, torch.from_numpy(np.concatenate(found)))
    return moments, looked


def _noting(
    pieces: Iterator[tuple[int, Vectors]],
    counts: NDArray[np.int64],
    ids: NDArray[np.int64],
    found: list[Vectors],
) -> Iterator[tuple[Vectors, NDArray[np.int64]]]:
    """Pass pieces on with the lookups of their ids, and keep the vectors of some ids."""
    for first, vectors in pieces:
        end = first + len(vectors)
        low, high = np.searchsorted(ids, [first, end])
        found.append(vectors[ids[low:high] - first])
        yield vectors, counts[first:end]


def _whole(field: str, num_ids: int) -> Run:
    return Run(name=field, field=field, first_id=0, end_id=num_ids)
