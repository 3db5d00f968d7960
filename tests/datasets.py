"""Small prepared datasets, written without ``prepare``, for tests of what comes after it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.tables import FieldStats
from service.data.dataset import (
    DatasetInfo,
    DenseStats,
    FieldInfo,
    PartInfo,
    Provenance,
    Split,
    SplitInfo,
    read_dataset_info,
    write_dataset_info,
)
from service.data.part_file import PartFileWriter, parts_schema


def write_dataset(
    folder: Path,
    *,
    num_embeddings: Sequence[int] = (40, 7, 300),
    list_fields: Sequence[str] = (),
    num_dense: int = 3,
    rows: dict[Split, int] | None = None,
    row_group: int = 64,
    seed: int = 0,
    rating: bool = False,
) -> DatasetInfo:
    """Write a dataset whose labels depend on ids and dense values, so that models can learn."""
    rng = np.random.default_rng(seed)
    names = [f"C{index + 1}" for index in range(len(num_embeddings))]
    effects = [rng.normal(size=n) for n in num_embeddings]
    splits: dict[Split, SplitInfo] = {}
    for split, num_rows in (rows or {"train": 1000, "validation": 200, "test": 200}).items():
        table, label_mean = _table(
            rng, num_rows, names, num_embeddings, effects, list_fields, num_dense, rating
        )
        half = num_rows // 2 // row_group * row_group or num_rows
        parts = []
        for part, start in enumerate(range(0, num_rows, half or 1)):
            rows_of_part = table.slice(start, min(half, num_rows - start))
            parts.append(
                write_part(folder, f"{split}/part-{part:05d}.parquet", rows_of_part, row_group)
            )
        splits[split] = SplitInfo(num_rows=num_rows, label_mean=label_mean, parts=tuple(parts))
    info = DatasetInfo(
        source="synthetic",
        task="rating" if rating else "click",
        dense=tuple(
            DenseStats(
                name=f"I{i + 1}", transform="none", mean=0, std=1, min=0, max=1, num_missing=0
            )
            for i in range(num_dense)
        ),
        fields=tuple(
            FieldInfo(
                stats=FieldStats(name=name, num_embeddings=n, num_lookups=splits["train"].num_rows),
                num_distinct=n - 2,
                missing_id=n - 2,
                unknown_id=n - 1,
                is_list=name in list_fields,
            )
            for name, n in zip(names, num_embeddings, strict=True)
        ),
        splits=splits,
        num_rows=sum(split.num_rows for split in splits.values()),
        num_rejects=0,
        provenance=Provenance(mixdim_version="test", created="", files=(), options={}),
    )
    write_dataset_info(info, folder)
    return info


def rewrite(
    folder: Path, change: Callable[[pa.Table], pa.Table], *splits: Split, row_group: int = 64
) -> None:
    """Change the parts of some splits, or of all, and what ``dataset.json`` says of them."""
    info = read_dataset_info(folder)
    changed = dict(info.splits)
    for split in splits or tuple(changed):
        parts = (
            write_part(folder, part.path, change(pq.read_table(folder / part.path)), row_group)
            for part in changed[split].parts
        )
        changed[split] = replace(changed[split], parts=tuple(parts))
    write_dataset_info(replace(info, splits=changed), folder)


def write_part(folder: Path, path: str, table: pa.Table, row_group: int) -> PartInfo:
    """Write one part with its checksums."""
    writer = PartFileWriter(folder, path, table.schema)
    for first in range(0, len(table), row_group):
        writer.write(table.slice(first, row_group))
    return writer.close()


def _table(rng, num_rows, names, num_embeddings, effects, list_fields, num_dense, rating):
    columns = {}
    score = np.zeros(num_rows)
    for name, n, effect in zip(names, num_embeddings, effects, strict=True):
        lengths = rng.integers(0, 4, num_rows) if name in list_fields else np.ones(num_rows, int)
        ids = np.minimum((n * rng.random(lengths.sum()) ** 2).astype(np.int32), n - 1)
        score += np.bincount(np.repeat(np.arange(num_rows), lengths), effect[ids], num_rows)
        if name in list_fields:
            offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
            columns[name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))
        else:
            columns[name] = pa.array(ids)
    for index in range(num_dense):
        value = rng.random(num_rows).astype(np.float32)
        score += value - 0.5
        columns[f"I{index + 1}"] = pa.array(value)
    label = 3 + score / 2 if rating else (rng.random(num_rows) < 1 / (1 + np.exp(-score)))
    label = label.astype(np.float32)
    dense = [f"I{index + 1}" for index in range(num_dense)]
    schema = parts_schema(dense, {name: name in list_fields for name in names})
    arrays = {"label": pa.array(label)} | columns
    table = pa.table([arrays[name] for name in schema.names], schema=schema)
    return table, float(label.mean()) if num_rows else 0.0
