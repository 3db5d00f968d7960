"""Synthetic logs as raw files, for readers of Criteo's form."""

from pathlib import Path

import pyarrow as pa

from service.data.ingest.options import PrepareConfig, Progress, Report
from service.data.ingest.ordered import map_in_order
from service.data.readers.base import Block, Reading
from service.data.readers.blocks import COMPRESSIONS
from service.data.readers.synthetic import Synthetic, SyntheticDataset, describe_teacher

TEACHER_SUFFIX = ".teacher.json"


def write_raw(config: PrepareConfig, source: Synthetic, path: Path, report: Report) -> list[Path]:
    """Write raw text, and what the teacher knows to ``<path>.teacher.json``.

    Args:
        config: Seed, threads, and whether files that are there already may be replaced.
        source: What to make.
        path: File to write; several days are several files named after it.
        report: Called after every chunk with the state of the work.

    Returns:
        The files of text, in order.

    Raises:
        FileExistsError: If a file exists and may not be replaced.
    """
    paths = day_paths(path, source.days)
    for existing in filter(Path.exists, paths):
        if not config.overwrite:
            raise FileExistsError(f"{existing} exists; choose another --raw or add --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = [day.with_name(f".partial-{day.name}") for day in paths]
    dataset = source.open(Reading(seed=config.seed))
    try:
        _write_days(dataset, partial, config.num_threads, report)
        path.with_name(path.name + TEACHER_SUFFIX).write_text(describe_teacher(dataset))
        for written, day in zip(partial, paths, strict=True):
            written.replace(day)
    finally:
        for written in partial:
            written.unlink(missing_ok=True)
    return paths


def day_paths(path: Path, days: int) -> list[Path]:
    """Names of the files: ``day.tsv.gz``, or ``day_0.tsv.gz``, ``day_1.tsv.gz``, ..."""
    if days == 1:
        return [path]
    stem, dot, endings = path.name.partition(".")
    return [path.with_name(f"{stem}_{day}{dot}{endings}") for day in range(days)]


def _write_days(
    dataset: SyntheticDataset, paths: list[Path], num_threads: int, report: Report
) -> None:
    config = dataset.config
    texts = map_in_order(lambda block: (block, dataset.text(block)), dataset.blocks(), num_threads)
    ends = [config.rows * (day + 1) // config.days for day in range(config.days)]
    rest: list[tuple[int, bytes]] = []
    num_rows = 0
    for path, end in zip(paths, ends, strict=True):
        with _open_compressed(path) as file:
            while num_rows < end:
                if not rest:
                    block, text = next(texts)
                    rest = [(block.num_lines, text)]
                    report(_progress(block, config))
                taken = min(end - num_rows, rest[0][0])
                text, rest = _cut(rest[0], taken)
                file.write(text)
                num_rows += taken


def _cut(lines: tuple[int, bytes], taken: int) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The first lines, and what is left."""
    num_lines, text = lines
    if taken == num_lines:
        return text, []
    *head, tail = text.split(b"\n", taken)
    return b"\n".join(head) + b"\n", [(num_lines - taken, tail)]


def _open_compressed(path: Path) -> pa.NativeFile:
    return pa.output_stream(str(path), compression=COMPRESSIONS.get(path.suffix.lower()))


def _progress(block: Block, config: Synthetic) -> Progress:
    num_rows = block.first_index + block.num_lines
    return Progress(
        name="write raw text", num_rows=num_rows, bytes_read=num_rows, num_bytes=config.rows
    )
