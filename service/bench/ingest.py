"""``mixdim bench ingest``: lines per second from raw text to a dataset folder."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv

from service.bench.harness import Contender, Figures, OnRun, RaceConfig, Report, race, silent
from service.bench.ingest_check import check_agreement
from service.bench.peers.answer import cpu_seconds, peak_rss_bytes
from service.bench.peers.call import call
from service.bench.peers.environment import environment
from service.bench.peers.ingest_task import IngestTask
from service.bench.peers.registry import INGEST_PEERS, Peer
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

    environments: Path = Path("environments")
    """Folder for the other libraries' virtual environments; made where they are missing."""

    only: tuple[str, ...] = ()
    """Contenders to run, such as ``prepare`` and ``polars``; all by default."""

    race: RaceConfig = field(default_factory=lambda: RaceConfig(repeats=3))
    """Repeats and quiet."""


def run(config: IngestConfig, on_run: OnRun = silent) -> Report:
    """Race ``prepare`` with and without spilling against other libraries and parsing alone.

    Raises:
        ValueError: If a contender's name is unknown, or a library gives other ids than ``prepare``.
        RuntimeError: If an environment cannot be made, or a library fails.
    """
    peers = _chosen_peers(config)
    with tempfile.TemporaryDirectory(prefix="mixdim-ingest-") as folder:
        raw, expected = Path(folder) / "raw.tsv", Path(folder) / "expected"
        source = Synthetic(rows=config.rows, scale=config.scale)
        write_raw(PrepareConfig(source=source), source, raw, lambda _: None)
        if peers:
            prepare(_config(config, raw, expected, fractions=(1.0, 0.0, 0.0)))
        contenders = [
            Contender(name=name, about=about, run=partial(_run, work, config, raw), is_bound=bound)
            for name, about, work, bound in OWN
            if not config.only or name in config.only
        ]
        contenders += [
            Contender(
                name=peer.name,
                about=peer.about,
                run=partial(_run_peer, peer, _python(config, peer), config, raw, expected),
            )
            for peer in peers
        ]
        return race(
            contenders,
            config.race,
            on_run,
            benchmark="ingest",
            headline=HEADLINE,
            options=_options(config, raw),
        )


def _chosen_peers(config: IngestConfig) -> list[Peer]:
    names = [*(name for name, *_ in OWN), *(peer.name for peer in INGEST_PEERS)]
    if unknown := [name for name in config.only if name not in names]:
        raise ValueError(f"--only {unknown}: no such contenders; choose from {names}")
    return [peer for peer in INGEST_PEERS if not config.only or peer.name in config.only]


def _python(config: IngestConfig, peer: Peer) -> Path:
    return environment(config.environments / peer.environment, peer.installs)


def _options(config: IngestConfig, raw: Path) -> dict[str, Any]:
    return asdict(config) | {
        "environments": config.environments.name,
        "installs": {peer.name: peer.installs for peer in INGEST_PEERS},
        "raw_bytes": raw.stat().st_size,
    }


Work = Callable[[IngestConfig, Path], None]


def _run(work: Work, config: IngestConfig, raw: Path, _repetition: int) -> Figures:
    start = time.perf_counter()
    work(config, raw)
    seconds = time.perf_counter() - start
    return {
        HEADLINE: config.rows / seconds,
        "cpu_seconds": cpu_seconds(),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def _run_peer(
    peer: Peer, python: Path, config: IngestConfig, raw: Path, expected: Path, repetition: int
) -> Figures:
    """One process of another library; what it wrote the first time is checked."""
    with tempfile.TemporaryDirectory(dir=raw.parent, prefix=f"{peer.name}-") as folder:
        threads = config.threads or len(os.sched_getaffinity(0))
        task = IngestTask(raw=raw, output=Path(folder), min_count=config.min_count, threads=threads)
        found: dict[str, float] = call(
            python, peer.module, asdict(task), Path(folder), threads=threads
        )["figures"]
        if repetition == 0:
            check_agreement(Path(folder), expected)
    return {HEADLINE: config.rows / found.pop("seconds"), **found}


def _config(config: IngestConfig, raw: Path, output: Path, **changes: Any) -> PrepareConfig:
    asked = PrepareConfig(
        source=Criteo(inputs=(raw,)),
        output=output,
        min_count=config.min_count,
        threads=config.threads,
    )
    return replace(asked, **changes)


def _prepare(config: IngestConfig, raw: Path, **changes: Any) -> None:
    with tempfile.TemporaryDirectory(dir=raw.parent) as folder:
        prepare(_config(config, raw, Path(folder) / "dataset", **changes))


def _prepare_spilled(config: IngestConfig, raw: Path) -> None:
    _prepare(config, raw, memory=config.memory)


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


OWN: Final = (
    ("prepare", "the whole job", _prepare, False),
    ("prepare-spilled", "the same, counts spilled to disk", _prepare_spilled, False),
    ("parse", "pyarrow parses the text once, nothing more", _parse, True),
)
"""The product and its bound: name, what it is, how it is run, whether it is a bound."""
