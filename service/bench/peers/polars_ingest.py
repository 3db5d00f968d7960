"""Ingest by Polars: count with ``group_by``, rank, ``join``."""

import polars as pl

from service.bench.peers.ingest_task import DENSE, FIELDS, LABEL, ROWS_FILE, IngestTask, take_part


def ingest(task: IngestTask) -> None:
    """Read, count, join, write."""
    raw = pl.read_csv(
        task.raw,
        separator="\t",
        has_header=False,
        quote_char=None,
        schema={
            LABEL: pl.Int8(),
            **dict.fromkeys(DENSE, pl.Int64()),
            **dict.fromkeys(FIELDS, pl.String()),
        },
    ).lazy()
    ranked = pl.collect_all([_ranked(raw.select(value=name), task.min_count) for name in FIELDS])
    for name, values in zip(FIELDS, ranked, strict=True):
        values.select("value", "count").write_parquet(task.output / f"{name}.parquet")
    ids = [_ids(raw, name, values) for name, values in zip(FIELDS, ranked, strict=True)]
    numbers = [
        pl.col(name).clip(0).cast(pl.Float64).log1p().cast(pl.Float32).fill_null(-1.0)
        for name in DENSE
    ]
    columns = pl.collect_all([raw.select(pl.col(LABEL).cast(pl.Float32), *numbers), *ids])
    pl.concat(columns, how="horizontal").write_parquet(
        task.output / ROWS_FILE, compression="uncompressed", statistics=False
    )


def _ranked(values: pl.LazyFrame, min_count: int) -> pl.LazyFrame:
    """The values that occur often enough, by count and value."""
    counts = values.drop_nulls().group_by("value").len("count")
    often = counts.filter(pl.col("count") >= min_count)
    return often.sort("count", "value", descending=[True, False]).with_row_index("id")


def _ids(raw: pl.LazyFrame, name: str, values: pl.DataFrame) -> pl.LazyFrame:
    ids = values.lazy().select(pl.col("value").alias(name), pl.col("id").cast(pl.Int32))
    special = pl.when(pl.col(name).is_null()).then(len(values)).otherwise(len(values) + 1)
    found = raw.select(name).join(ids, on=name, how="left", maintain_order="left")
    return found.select(pl.col("id").fill_null(special.cast(pl.Int32)).alias(name))


if __name__ == "__main__":
    take_part(ingest, ("polars",))
