"""Prepare in plain Python: what a dataset folder must hold, worked out row by row."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.data.dataset import DatasetInfo, Split, read_dataset_info

MASK = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class RawRow:
    """One accepted line: position among all data lines, and its values as text."""

    index: int
    label: float
    dense: Mapping[str, str]
    fields: Mapping[str, Sequence[str]]
    """Values of every field; none where it is missing."""


def random_split(index: int, seed: int = 0) -> Split:
    uniform = (_mixed(index + _mixed(seed)) >> 11) / 2**53
    return "train" if uniform < 0.8 else "validation" if uniform < 0.9 else "test"


def _mixed(number: int) -> int:
    z = (number + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def assert_prepared(folder: Path, rows: Sequence[RawRow], min_count: int) -> DatasetInfo:
    """Compare every id, dense value and statistic of a random split with the oracle's."""
    info = read_dataset_info(folder)
    by_split = {split: [] for split in ("train", "validation", "test")}
    for row in rows:
        by_split[random_split(row.index)].append(row)
    tables = {split: read_split(folder, info, split) for split in by_split}
    for split, mine in by_split.items():
        assert info.splits[split].num_rows == len(mine)
        assert tables[split]["label"].to_pylist() == [row.label for row in mine]
        mean = math.fsum(row.label for row in mine) / max(len(mine), 1)
        assert math.isclose(info.splits[split].label_mean, mean, abs_tol=1e-12)
        for name in info.dense_names:
            expected = [_dense(row.dense[name]) for row in mine]
            # numpy's log1p and the C library's may differ in the last bit before rounding
            stored = tables[split][name].to_numpy().astype(np.float64)
            np.testing.assert_allclose(stored, expected, rtol=2e-7, atol=1e-37)
    for field in info.fields:
        _assert_field(folder, info, field.stats.name, by_split, tables, min_count)
    assert info.num_rows == len(rows)
    return info


def _dense(text: str) -> float:
    return math.log1p(max(float(text), 0.0)) if text else -1.0


def _assert_field(folder, info, name, by_split, tables, min_count) -> None:
    counts = Counter()
    for row in by_split["train"]:
        counts.update(row.fields[name] or [None])
    missing = counts.pop(None, 0)
    kept = {value: count for value, count in counts.items() if count >= min_count}
    unknown = sum(counts.values()) - sum(kept.values())
    order = [(-count, 0, value.encode()) for value, count in kept.items()]
    order = sorted([*order, (-missing, 1, b""), (-unknown, 2, b"")])
    vocabulary = pq.read_table(folder / "vocab" / f"{name}.parquet")
    assert vocabulary["count"].to_pylist() == [-negative for negative, _, _ in order]
    values = [value.decode() if kind == 0 else None for _, kind, value in order]
    assert vocabulary["value"].to_pylist() == values

    field = next(field for field in info.fields if field.stats.name == name)
    kinds = [kind for _, kind, _ in order]
    assert (field.missing_id, field.unknown_id) == (kinds.index(1), kinds.index(2))
    assert field.num_distinct == len(counts)
    lookups = missing + sum(counts.values())
    assert field.stats.num_lookups == lookups
    assert field.stats.num_embeddings == len(kept) + 2
    assert math.isclose(field.stats.coverage_ratio, 1 - unknown / lookups)
    assert math.isclose(field.stats.pooling_factor, lookups / len(by_split["train"]))
    below = np.cumsum([-negative for negative, _, _ in order])
    assert all(below[rank - 1] == sum_ for rank, sum_ in field.stats.frequency_curve)
    assert field.stats.frequency_curve[-1] == (len(order), lookups)

    ids = {value: number for number, value in enumerate(values) if value is not None}
    for split, mine in by_split.items():
        expected = [
            [ids.get(value, field.unknown_id) for value in row.fields[name]] or [field.missing_id]
            for row in mine
        ]
        if not field.is_list:
            expected = [row[0] for row in expected]
        assert tables[split][name].to_pylist() == expected


def read_split(folder: Path, info: DatasetInfo, split: Split) -> pa.Table:
    schema = pa.schema([("label", pa.float32())])
    parts = [pq.read_table(folder / part.path) for part in info.splits[split].parts]
    if not parts:
        names = ["label", *info.dense_names, *(field.stats.name for field in info.fields)]
        return pa.table({name: [] for name in names})
    assert parts[0].schema.field("label") == schema.field("label").with_nullable(False)
    return pa.concat_tables(parts)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset but its description, which holds the time it was made."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "dataset.json"
    }
