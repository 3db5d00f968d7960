"""``prepare``: raw logs in, a dataset folder out, in two streaming passes.

The first pass parses every line and counts the values of the training split; the second maps the
parsed values to ids and writes the parts. Between them, values are ranked into vocabularies.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from service import __version__
from service.data.dataset import (
    DatasetInfo,
    DenseStats,
    FieldInfo,
    Provenance,
    Split,
    SplitInfo,
    write_dataset_info,
)
from service.data.ingest.encoding import RowEncoder
from service.data.ingest.first_pass import Counted, count_values
from service.data.ingest.options import PrepareConfig, Progress, Report
from service.data.ingest.ordered import map_in_order
from service.data.ingest.parts import PartWriter
from service.data.ingest.scratch import Scratch, unpacked
from service.data.ingest.splits import SPLITS
from service.data.ingest.splitters import choose_splitter
from service.data.ingest.staging import check_output, staged_folder
from service.data.ingest.vocabulary import ValueIndex, Vocabulary
from service.data.readers.base import Dataset, Reading

RANKED_TOGETHER: Final = 2
"""Fields whose values are ranked at a time: each needs memory for all of its counts, sorted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """The vocabularies, as the second pass needs them."""

    fields: tuple[FieldInfo, ...]
    indexes: Mapping[str, ValueIndex]


def prepare(config: PrepareConfig, report: Report = lambda _: None) -> DatasetInfo:
    """Make a dataset folder.

    Args:
        config: Source and options.
        report: Called after every block with the state of the pass.

    Returns:
        What was written; also in ``dataset.json``.

    Raises:
        FileNotFoundError: If an input is missing.
        ValueError: If the input cannot be trained on: empty, too many malformed lines, one label.
        OSError: If the output cannot be written, or exists.
    """
    check_output(config.output, overwrite=config.overwrite)
    dataset = config.source.open(Reading(block_bytes=config.block_bytes, seed=config.seed))
    with staged_folder(config.output, overwrite=config.overwrite) as folder:
        splitter = choose_splitter(dataset, config, report)
        counted = count_values(dataset, config, splitter, folder, report)
        ranked = _rank_values(counted, config, folder)
        splits, dense = _write_parts(dataset, config, counted.parsed, ranked, folder, report)
        for name, text in dataset.attachments().items():
            (folder / name).write_text(text, encoding="utf-8")
        info = DatasetInfo(
            source=config.source.name,
            task=dataset.layout.task,
            dense=dense,
            fields=ranked.fields,
            splits=splits,
            num_rows=sum(split.num_rows for split in splits.values()),
            num_rejects=counted.num_rejects,
            provenance=Provenance(
                mixdim_version=__version__,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                files=tuple(dataset.files()),
                options=resolved_options(config),
            ),
        )
        write_dataset_info(info, folder)
    return info


def resolved_options(config: PrepareConfig) -> dict[str, object]:
    """Options that shape the result, for the record."""
    options = {name: value for name, value in asdict(config).items() if name not in IRRELEVANT}
    return {name: _plain(value) for name, value in options.items()}


IRRELEVANT = frozenset({"output", "overwrite", "threads", "block_bytes", "memory"})


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _rank_values(counted: Counted, config: PrepareConfig, folder: Path) -> Ranked:
    """Rank the values of `RANKED_TOGETHER` fields at a time, and let go of their counts."""
    (folder / "vocab").mkdir()

    def rank(name: str) -> tuple[FieldInfo, ValueIndex]:
        counter = counted.counters.by_name[name]
        vocabulary = Vocabulary.from_counts(
            counter.partitions(), num_missing=counter.num_missing, min_count=config.min_count
        )
        counter.clear()
        _write_vocabulary(vocabulary, folder / "vocab" / f"{name}.parquet")
        info = FieldInfo(
            stats=vocabulary.stats(name, counted.num_train_rows),
            num_distinct=vocabulary.num_distinct,
            missing_id=vocabulary.missing_id,
            unknown_id=vocabulary.unknown_id,
            is_list=counted.layout.fields[name],
        )
        return info, ValueIndex(vocabulary)

    ranked = list(map_in_order(rank, counted.layout.fields, RANKED_TOGETHER))
    shutil.rmtree(folder / "runs", ignore_errors=True)
    return Ranked(
        fields=tuple(info for info, _ in ranked),
        indexes={info.stats.name: index for info, index in ranked},
    )


def _write_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    table = pa.table({"value": vocabulary.values, "count": vocabulary.counts})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, row_group_size=1 << 20)


def _write_parts(
    dataset: Dataset,
    config: PrepareConfig,
    parsed: Scratch,
    ranked: Ranked,
    folder: Path,
    report: Report,
) -> tuple[dict[Split, SplitInfo], tuple[DenseStats, ...]]:
    """Map the parsed rows and write them; return the splits and the dense statistics."""
    encode = RowEncoder(layout=dataset.layout, indexes=ranked.indexes)
    writers = {split: PartWriter(folder, split, dataset.layout) for split in SPLITS}

    def encoded(content: bytes) -> tuple[int, list[pa.RecordBatch]]:
        rows = unpacked(content)
        return rows.bytes_read, encode(rows)

    num_rows = 0
    try:
        for bytes_read, batches in map_in_order(encoded, parsed.blocks(), config.num_threads):
            for writer, batch in zip(writers.values(), batches, strict=True):
                writer.add(batch)
                num_rows += batch.num_rows
            report(
                Progress(
                    name="pass 2/2: write",
                    num_rows=num_rows,
                    bytes_read=bytes_read,
                    num_bytes=dataset.num_bytes,
                )
            )
        splits = {split: writer.finish() for split, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.close()
    return splits, writers["train"].dense_stats()
