"""Measure on a warm-up run which directions of every field's vectors save loss, and how much.

The gradient with respect to a field's vector comes from training examples, what a
direction is worth from validation examples: see `models.sizing.spectral`.
"""

# Shapes:  B batch, D_f width of a field's vectors, U ids that the sample looks up

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.sizing.spectral import Floats, Spectral, directions, second_moment, spectrum_of
from service.data.batch import Batch
from service.data.dataset import Split, read_dataset_info
from service.data.lookups import lookups_per_id
from service.probe import Looked, Probe, Run, ids_of, sample
from service.run_cost import run_cost
from service.warm_up import Vectors, WarmUp


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
    samples = {split: list(sample(data, info, split, warm_up.plan)) for split in _SPLITS}
    moments, vectors = _read(warm_up, data, runs, [*samples["train"], *samples["validation"]])
    spectra = _Spectra(Probe(warm_up, info, vectors))
    sensitivities = spectra.sensitivities(samples["train"], runs)
    bases = {run.name: directions(moments[run.name], sensitivities[run.name]) for run in runs}
    losses, carried = spectra.losses(samples["validation"], runs, bases)
    return {name: spectrum_of(losses[name], carried[name]) for name in losses}


_SPLITS: Final[tuple[Split, ...]] = ("train", "validation")


class _Spectra:
    """What a probe says of directions.

    Args:
        probe: The warm-up's network, with the vectors that the batches look up.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def sensitivities(self, batches: Sequence[Batch], runs: Sequence[Run]) -> dict[str, Floats]:
        """Second moment of the score's gradient at the lookups of every run."""
        total = {run.name: np.zeros(2 * [self._probe.width(run.field)]) for run in runs}
        for batch in batches:
            _, gradients = self._gradients(batch)
            for run in runs:
                gradient = self._probe.of(gradients, run.field)
                hits = self._probe.pool(batch, run, ones=True)  # (B, 1)
                total[run.name] += gradient.T @ (gradient * hits)
        return total

    def losses(
        self, batches: Sequence[Batch], runs: Sequence[Run], bases: Mapping[str, tuple[Any, Any]]
    ) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Mean loss with only the first 0, 1, ..., D directions of one run ``(D + 1,)``.

        Also the mean square of what each direction adds to the score ``(D,)``.
        """
        probe = self._probe
        squares = {run.name: np.zeros(probe.width(run.field)) for run in runs}
        total = {run.name: np.zeros(probe.width(run.field) + 1) for run in runs}
        num_examples = sum(len(batch.labels) for batch in batches)
        for batch in batches:
            scores, gradients = self._gradients(batch)
            for run in runs:
                down, up = bases[run.name]
                parts = (probe.pool(batch, run) @ down) * (probe.of(gradients, run.field) @ up.T)
                squares[run.name] += np.square(parts).sum(0) / num_examples
                left_out = np.cumsum(parts[:, ::-1], axis=1)[:, ::-1]  # (B, D_f) from k on
                kept = scores[:, None] - np.pad(left_out, ((0, 0), (0, 1)))  # (B, D_f + 1)
                losses = probe.losses(torch.from_numpy(kept), batch.labels.double())
                total[run.name] += losses.sum(0).numpy() / num_examples
        return total, squares

    def _gradients(self, batch: Batch) -> tuple[Floats, Floats]:
        """Scores ``(B,)``, and their gradients with respect to the vectors ``(B, sum of D_f)``."""
        fields = self._probe.fields(batch)
        scores = self._probe.scores(batch, fields)
        (gradients,) = torch.autograd.grad(scores.sum(), fields)
        return scores.detach().double().numpy(), gradients.double().numpy()


def _read(
    warm_up: WarmUp, data: Path, runs: Sequence[Run], batches: Sequence[Batch]
) -> tuple[dict[str, Floats], dict[str, Looked]]:
    """Second moments of all runs, and the vectors of all ids of the sample, in one reading."""
    moments: dict[str, Floats] = {}
    looked: dict[str, Looked] = {}
    for field in warm_up.plan.fields:
        counts = lookups_per_id(data, field)
        ids = ids_of(field, batches)
        found: list[Vectors] = []
        for run in [run for run in runs if run.field == field] or [_whole(field, len(counts))]:
            moments[run.name] = second_moment(
                _noting(warm_up.pieces(field, run.first_id, run.end_id), counts, ids, found)
            )
        looked[field] = Looked(ids, torch.from_numpy(np.concatenate(found)))
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
