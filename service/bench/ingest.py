"""``mixdim bench ingest``: lines per second from raw text to a dataset folder."""

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import csv

from service.bench.harness import Contender, Figures, OnRun, RaceConfig, Report, race, silent
from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.readers.criteo import CRITEO_LINES, Criteo
from service.data.readers.raw import write_raw
from service.data.readers.synthetic import Synthetic

HEADLINE: Final = "examples_per_second"
BLOCK_BYTES: Final = 1 << 20
"""Text that the bound parses at a time, as much as `prepare`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """From Criteo-shaped text to a dataset folder: two passes, vocabularies, parts."""

    rows: int = 1_000_000
    """Lines of made-up text."""

    scale: float = 1.0
    """Size of the vocabularies against Criteo's Kaggle log."""

    min_count: int = 10
    """Training lookups that a value needs to get an id of its own."""

    memory: str = "64MiB"
    """Memory for counting of the run that spills."""

    threads: int = 0
    """Threads that parse; 0 for one a core."""

    race: RaceConfig = field(default_factory=lambda: RaceConfig(repeats=3))
    """Repeats and quiet."""


def run(config: IngestConfig, on_run: OnRun = silent) -> Report:
    """Race ``prepare`` with and without spilling against parsing alone."""
    with tempfile.TemporaryDirectory(prefix="mixdim-ingest-") as folder:
        raw = Path(folder) / "raw.tsv"
        source = Synthetic(rows=config.rows, scale=config.scale)
        write_raw(PrepareConfig(source=source), source, raw, lambda _: None)
        contenders = [
            Contender(name=name, about=about, run=partial(_run, work, config, raw), is_bound=bound)
            for name, about, work, bound in (
                ("prepare", "the whole job", _prepare, False),
                ("prepare-spilled", "the same, counts spilled to disk", _prepare_spilled, False),
                ("parse", "pyarrow parses the text once, nothing more", _parse, True),
            )
        ]
        return race(
            contenders,
            config.race,
            on_run,
            benchmark="ingest",
            headline=HEADLINE,
            options=asdict(config) | {"raw_bytes": raw.stat().st_size},
        )


Work = Callable[[IngestConfig, Path], None]


def _run(work: Work, config: IngestConfig, raw: Path, _repetition: int) -> Figures:
    start = time.perf_counter()
    work(config, raw)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        HEADLINE: config.rows / seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
    }


def _prepare(config: IngestConfig, raw: Path, memory: str = "1GiB") -> None:
    with tempfile.TemporaryDirectory(dir=raw.parent) as folder:
        prepare(
            PrepareConfig(
                source=Criteo(inputs=(raw,)),
                output=Path(folder) / "dataset",
                min_count=config.min_count,
                memory=memory,
                threads=config.threads,
            )
        )


def _prepare_spilled(config: IngestConfig, raw: Path) -> None:
    _prepare(config, raw, config.memory)


def _parse(config: IngestConfig, raw: Path) -> None:
    if config.threads:
        pa.set_cpu_count(config.threads)
    reader = csv.open_csv(
        raw,
        read_options=csv.ReadOptions(column_names=list(CRITEO_LINES.names), block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(delimiter=CRITEO_LINES.delimiter, quote_char=False),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(CRITEO_LINES.names, pa.string())
        ),
    )
    for _batch in reader:
        pass
