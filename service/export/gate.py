"""The gate: an artifact scores a split as the run that it is made of does, or it is not made.

The rows of a split are turned back into values: ids into texts (a text that the vocabulary cannot
have, where a value was out of it), dense values into numbers before their transform. The artifact
makes ids and dense values of them again, by its own vocabularies.
"""

# Shapes:  n rows

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.data.dataset import LABEL_COLUMN, MISSING_DENSE, DatasetInfo, DenseStats, Split
from service.data.readers.base import Categories, Strings
from service.data.readers.columns import (
    Encoded,
    Faults,
    to_categories,
    to_dense,
    to_list_categories,
)
from service.export.config import Tolerances
from service.export.vocabularies import values_of_ids
from service.serving import Artifact
from service.serving.manifest import Gate, ServedField
from service.train.evaluation import score

BATCH_ROWS: Final = 8192


class GateError(ValueError):
    """An artifact whose scores are too far from its run's."""


def measure(
    artifact: Artifact,
    data: Path,
    info: DatasetInfo,
    split: Split,
    run_scores: Mapping[str, float],
    tolerances: Tolerances,
) -> Gate:
    """Score a split through an artifact.

    Args:
        artifact: What is to be let through.
        data: Dataset folder of the run.
        info: Its description.
        split: Which rows.
        run_scores: What the run's own model scores on them.
        tolerances: Largest gaps.
    """
    predictions, labels = [], []
    values = {
        field.name: (field, *_values(data, field, info)) for field in artifact.manifest.fields
    }
    for batch in _batches(data, info, split, [*info.dense_names, *values]):
        faults = Faults()
        dense = [_dense(column, batch[column.name], faults) for column in info.dense]
        fields = {
            name: _categories(field, batch[name], texts, faults)
            for name, (field, texts) in values.items()
        }
        assert not faults.reasons, "rows that were prepared are good"
        columns = artifact.encoder.of_values(dense, fields, batch.num_rows)
        predictions.append(artifact.score(columns))
        labels.append(batch[LABEL_COLUMN].to_numpy())
    scored = asdict(score(np.concatenate(predictions), np.concatenate(labels), info.task))
    return Gate(
        split=split,
        num_rows=int(scored["num_rows"]),
        run=_without_nan(run_scores),
        artifact=_without_nan(scored),
        tolerances=tolerances.of(info.task),
    )


def check(gate: Gate, dtype: str) -> None:
    """Refuse an artifact that scores otherwise than its run.

    Raises:
        GateError: If a gap is beyond its tolerance.
    """
    if not (exceeded := gate.exceeded()):
        return
    gaps = "; ".join(
        f"{name} {gate.artifact[name]:.6f} against the run's {gate.run[name]:.6f}, a gap of "
        f"{gap:+.6f} beyond the tolerance {gate.tolerances[name]:g}"
        for name, gap in exceeded.items()
    )
    flags = " ".join(
        f"--tolerance.{name.replace('_', '-')} {_above(abs(gap)):g}"
        for name, gap in exceeded.items()
    )
    wider = {"int4": "int8 or fp16", "int8": "fp16", "fp16": "fp32"}.get(dtype)
    first = f"store tables in {wider}, or take" if wider else "take"
    raise GateError(f"on {gate.num_rows:,} {gate.split} rows: {gaps}; {first} it with {flags}")


def _above(gap: float) -> float:
    """A tolerance of two digits that lets a gap through."""
    digit = 10 ** (np.floor(np.log10(gap)) - 1)
    return float(np.ceil(gap / digit + 1e-9) * digit)


def _values(data: Path, field: ServedField, info: DatasetInfo) -> tuple[Strings]:
    """What every id stands for: null for a missing value, for an unknown one what none can be."""
    texts = values_of_ids(data, field.name, {f.stats.name: f for f in info.fields}[field.name])
    longest = max((len(text) for text in texts.to_pylist() if text), default=0)
    unknown = pa.array([None, "?" * (longest + 1)], pa.large_string())
    places = np.arange(len(texts))
    places[field.missing_id], places[field.unknown_id] = len(texts), len(texts) + 1
    return (pa.concat_arrays([texts, unknown]).take(pa.array(places)),)


def _batches(data: Path, info: DatasetInfo, split: Split, names: list[str]) -> Iterator[pa.Table]:
    for part in info.splits[split].parts:
        with pq.ParquetFile(data / part.path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=[LABEL_COLUMN, *names]):
                yield pa.Table.from_batches([batch])


def _dense(column: DenseStats, values: pa.ChunkedArray, faults: Faults) -> NDArray[np.float32]:
    prepared = values.to_numpy()
    is_missing = prepared == np.float32(MISSING_DENSE)
    wide = prepared.astype(np.float64)
    numbers = np.expm1(wide) if column.transform == "log1p" else wide
    raw = pa.array(numbers, mask=is_missing)
    return to_dense(Encoded.of(column.name, raw), column.transform, faults)


def _categories(
    field: ServedField, ids: pa.ChunkedArray, texts: Strings, faults: Faults
) -> Categories:
    whole = ids.combine_chunks()
    if not field.is_list:
        return to_categories(Encoded.of(field.name, texts.take(whole)), faults)
    lists = pa.ListArray.from_arrays(whole.offsets, texts.take(whole.values).cast(pa.string()))
    return to_list_categories(lists, np.arange(len(lists), dtype=np.int32))


def _without_nan(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if isnan(value) else value for name, value in scores.items()}
