"""``mixdim prepare SOURCE INPUT... --output DATA``: raw logs in, a dataset folder out."""

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from service.commands.progress import shown_progress
from service.data.dataset import DATASET_FILE, DatasetInfo
from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.ingest.rejects import REJECTS_FILE
from service.data.readers.raw import write_raw
from service.data.readers.synthetic import Synthetic

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """Raw logs in, a dataset folder out: Parquet parts, vocabularies, statistics."""

    config: PrepareConfig

    json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print dataset.json instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Prepare a dataset; print what is in it."""
    arguments = tyro.cli(
        Arguments,
        prog="mixdim prepare",
        args=list(argv),
        config=(
            tyro.conf.CascadeSubcommandArgs,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
        ),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as on Ctrl-C
    try:
        if isinstance(arguments.config.source, Synthetic) and arguments.config.source.raw:
            _write_raw(arguments.config, arguments.config.source, arguments.config.source.raw)
        else:
            _prepare(arguments.config, as_json=arguments.json)
    except KeyboardInterrupt:
        sys.stderr.write("mixdim prepare: interrupted; nothing was written\n")
        return INTERRUPTED
    return 0


def _prepare(config: PrepareConfig, *, as_json: bool) -> None:
    start = time.perf_counter()
    with shown_progress() as report:
        info = prepare(config, report)
    if as_json:
        print((config.output / DATASET_FILE).read_text(), end="")
    else:
        _show(info, config, time.perf_counter() - start)


def _write_raw(config: PrepareConfig, source: Synthetic, path: Path) -> None:
    with shown_progress() as report:
        written = write_raw(config, source, path, report)
    for day in written:
        print(day)


def _show(info: DatasetInfo, config: PrepareConfig, seconds: float) -> None:
    lines = info.num_rows + info.num_rejects
    console = Console(highlight=False, soft_wrap=True)
    console.print(_field_table(info))
    for name, split in info.splits.items():
        console.print(f"{name:10}  {split.num_rows:>12,} rows, mean label {split.label_mean:.4f}")
    rejects = f"{info.num_rejects:,} rejects"
    if info.num_rejects:
        rejects += f" (see {config.output / REJECTS_FILE})"
    console.print(f"{lines:,} lines = {info.num_rows:,} rows + {rejects}")
    console.print(f"{lines / seconds:,.0f} lines/s, {seconds:.1f} s -> {config.output}")


def _field_table(info: DatasetInfo) -> Table:
    table = Table(box=None, header_style="")
    for header in ("field", "distinct", "ids", "lookups", "coverage", "missing id", "unknown id"):
        table.add_column(header, justify="left" if header == "field" else "right")
    for field in info.fields:
        stats = field.stats
        table.add_row(
            stats.name,
            f"{field.num_distinct:,}",
            f"{stats.num_embeddings:,}",
            f"{stats.num_lookups:,}",
            f"{stats.coverage_ratio:.2%}",
            f"{field.missing_id:,}",
            f"{field.unknown_id:,}",
        )
    return table
