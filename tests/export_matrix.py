"""What an export costs and saves: every network x dtype x folding, against the run's own model.

    python -m tests.export_matrix --output docs/benchmarks/export.json

Trains every network once on made-up Criteo lines, with the popularity plan of a budget, exports it
in every way, and writes the figures as JSON and, beside it, as Markdown. Speed is predictions per
second of CPU time of one thread, which neighbours on the machine change less than the clock.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from models.embeddings.choices import Embeddings, MixedChoice
from models.embeddings.coded import DPQChoice, MGQEChoice
from models.embeddings.quotients import QuotientRemainderChoice
from models.networks import NETWORKS, PAIRWISE
from models.sizing import ServingDtype
from models.sizing.serving import WEIGHT_BITS
from service.__main__ import main as mixdim
from service.bench.machine import describe_machine
from service.config import TrainConfig
from service.data.dataset import read_dataset_info
from service.data.loader import Loader
from service.distributed import joined_ranks, launch
from service.export.config import ExportConfig, Tolerances
from service.export.export import export
from service.serving import Artifact, load
from service.serving.manifest import CODES_FOLDER, TABLES_FOLDER
from service.serving.raw_files import read_pieces
from service.sizing import read_sizing
from service.train.engine import build_engine
from service.train.loop import train

BATCH_SIZES = (1, 1024)
PAIR = ("C3", "C4")
KINDS: dict[str, Embeddings] = {
    "quotient_remainder": QuotientRemainderChoice(whole_rows=50),
    "dpq": DPQChoice(codes=16, groups=4),
    "mgqe": MGQEChoice(codes=64, tail_codes=16, groups=4),
}
"""Embeddings beside the plan's tables; with DeepFM."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Export every network in every way."""

    output: Path = Path("export.json")
    """Figures; a table of them stands beside it, as Markdown."""

    rows: int = 60_000
    """Lines to make up."""

    budget: str = "4x"
    """Of the plans, against uniform tables of 16."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    """Networks to train."""

    seconds: float = 0.4
    """CPU time of each measurement of speed."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One artifact."""

    network: str
    embeddings: str
    dtype: str
    projections: str
    auc: float
    log_loss: float
    auc_gap: float
    log_loss_gap: float
    table_bytes: int
    artifact_bytes: int
    training_table_bytes: int
    per_second: dict[str, float]
    """Predictions per second of CPU time: of ids, of raw rows, and of the run's own model, by
    rows that are scored together."""


def rate(call: Callable[[], object], rows: int, seconds: float) -> float:
    """Rows per second of this process's CPU time."""
    call()
    calls, start = 0, time.process_time()
    while time.process_time() < start + seconds:
        call()
        calls += 1
    return calls * rows / (time.process_time() - start)


def prepared(folder: Path, config: Matrix) -> Path:
    """The dataset, and raw lines of the same kind."""
    made = ["prepare", "synthetic", "--rows", str(config.rows), "--scale", "0.002"]
    assert mixdim([*made, "--output", str(folder / "data")]) == 0
    raw = ["prepare", "synthetic", "--rows", str(max(BATCH_SIZES)), "--scale", "0.002"]
    assert mixdim([*raw, "--raw", str(folder / "raw.tsv")]) == 0
    return folder / "data"


def sized(folder: Path, data: Path, scheme: Sequence[str], fields: Sequence[str] = ()) -> Path:
    """A sizing plan."""
    path = folder / f"sizing-{len(list(folder.glob('sizing-*')))}.json"
    named = ["--fields", *fields] if fields else []
    assert mixdim(["size", str(data), *scheme, "--output", str(path), *named]) == 0
    return path


def trained(folder: Path, data: Path, sizing: Path, kind: str, choice: Embeddings) -> TrainConfig:
    """One epoch."""
    network = NETWORKS[kind]()
    for name, layers in {"hidden": (64, 32), "bottom": (32,), "top": (64,)}.items():
        if name in network.__dataclass_fields__:
            network = replace(network, **{name: layers})
    config = TrainConfig(
        data=data,
        sizing=sizing,
        output=folder / f"{kind}-{choice.kind}",
        network=network,
        embeddings=choice,
        batch_size=1024,
        log_every=1000,
        checkpoint_every=0,
        matmul="mkl",
        device="cpu",
    )
    launch(train, config, nproc=1, name="train")
    return config


def training_rates(config: TrainConfig, seconds: float) -> dict[str, float]:
    """How fast the run's own model scores prepared batches."""
    rates = {}
    for size in BATCH_SIZES:
        own = replace(config, batch_size=size)
        info = read_dataset_info(own.data)
        plan = replace(read_sizing(own.sizing).plan, join=own.network.join)
        with joined_ranks("cpu") as ranks:
            model = build_engine(own, info, plan, ranks).model.eval()
            layout = own.embeddings.layout(plan)
            batch = next(iter(Loader(own.data, info, "test", layout, batch_size=size).batches()))
            with torch.no_grad():
                found = rate(lambda: model(batch), size, seconds)  # noqa: B023
            rates[f"training model, {size}"] = found
    return rates


def served_rates(artifact: Artifact, raw: Path, seconds: float) -> dict[str, float]:
    """How fast an artifact scores ids, and raw rows."""
    (piece,) = read_pieces(raw, artifact.form, artifact.inputs)
    rates = {}
    for size in BATCH_SIZES:
        table = piece.columns.slice(0, size)
        columns = artifact.encode(table).columns
        rates[f"ids, {size}"] = rate(lambda: artifact.score(columns), size, seconds)  # noqa: B023
        rates[f"raw rows, {size}"] = rate(lambda: artifact.predict(table), size, seconds)  # noqa: B023
    return rates


def cells(config: Matrix, folder: Path) -> Iterator[Cell]:
    """Every artifact of every network."""
    data = prepared(folder, config)
    popularity = ["--scheme", "popularity", "--budget", config.budget]
    plans = {
        False: sized(folder, data, popularity),
        True: sized(folder, data, popularity, PAIR),
    }
    uniform = sized(folder, data, ["--scheme", "uniform", "--dim", "16"])
    asked = [(kind, plans[kind in PAIRWISE], MixedChoice()) for kind in config.networks]
    asked += [("deepfm", uniform, choice) for choice in KINDS.values()]
    for kind, sizing, choice in asked:
        run = trained(folder, data, sizing, kind, choice)
        yield from of_run(config, run, folder / "raw.tsv")


def of_run(config: Matrix, run: TrainConfig, raw: Path) -> Iterator[Cell]:
    """Every artifact of a run."""
    own = training_rates(run, config.seconds)
    is_coded = run.embeddings.kind in {"dpq", "mgqe"}
    for dtype in ("fp32",) if is_coded else tuple(WEIGHT_BITS):
        kept = of_artifact(config, run, raw, dtype, own, fold=False)
        yield kept
        if kept.projections != "none":
            yield of_artifact(config, run, raw, dtype, own, fold=True)


def of_artifact(
    config: Matrix,
    run: TrainConfig,
    raw: Path,
    dtype: ServingDtype,
    own: Mapping[str, float],
    *,
    fold: bool,
) -> Cell:
    """Make an artifact and measure it."""
    output = run.output.parent / f"{run.output.name}-{dtype}-{fold}"
    asked = ExportConfig(
        run=run.output,
        output=output,
        dtype=dtype,
        fold_projections=fold,
        tolerance=Tolerances(auc=1, log_loss=1),
    )
    manifest = launch(export, asked, nproc=1, name="export")
    gate = manifest.gate
    return Cell(
        network=run.network.kind,
        embeddings=run.embeddings.kind,
        dtype=dtype,
        projections=manifest.projections,
        auc=gate.run["auc"],
        log_loss=gate.run["log_loss"],
        auc_gap=gate.gaps["auc"],
        log_loss_gap=gate.gaps["log_loss"],
        table_bytes=manifest.num_bytes(TABLES_FOLDER, CODES_FOLDER),
        artifact_bytes=manifest.num_bytes(),
        training_table_bytes=_allocated(run),
        per_second={**served_rates(load(output), raw, config.seconds), **own},
    )


def _allocated(run: TrainConfig) -> int:
    plan = replace(read_sizing(run.sizing).plan, join=run.network.join)
    tables = [table.stored for table in run.embeddings.layout(plan).tables()]
    return sum(4 * table.num_embeddings * table.embedding_dim for table in tables)


def as_table(found: Sequence[Cell]) -> str:
    """A row an artifact."""
    names = [f"{what}, {size}" for what in ("raw rows", "ids") for size in BATCH_SIZES]
    names += [f"training model, {size}" for size in BATCH_SIZES]
    head = ["network", "embeddings", "dtype", "projections", "AUC gap", "log loss gap"]
    lines = [" | ".join([*head, "table bytes", "of training's", "artifact bytes", *names])]
    lines.append(" | ".join(["---"] * 4 + ["---:"] * (5 + len(names))))
    for cell in found:
        share = cell.table_bytes / cell.training_table_bytes
        figures = [f"{cell.auc_gap:+.6f}", f"{cell.log_loss_gap:+.6f}", f"{cell.table_bytes:,}"]
        figures += [f"{share:.0%}", f"{cell.artifact_bytes:,}"]
        figures += [f"{cell.per_second[name]:,.0f}" for name in names]
        kinds = [cell.network, cell.embeddings, cell.dtype, cell.projections]
        lines.append(" | ".join([*kinds, *figures]))
    return "".join(f"| {line} |\n" for line in lines)


def asked() -> Matrix:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=Matrix.__doc__)
    parser.add_argument("--output", type=Path, default=Matrix.output)
    parser.add_argument("--rows", type=int, default=Matrix.rows)
    parser.add_argument("--budget", default=Matrix.budget)
    parser.add_argument("--networks", nargs="+", default=Matrix.networks, choices=tuple(NETWORKS))
    parser.add_argument("--seconds", type=float, default=Matrix.seconds)
    return Matrix(**vars(parser.parse_args()))


def main() -> None:
    """Measure, and write the figures."""
    config = asked()
    torch.set_num_threads(1)
    command = f"python -m tests.export_matrix --rows {config.rows} --seconds {config.seconds}"
    record = {"command": command, "machine": describe_machine(), "cells": []}
    found: list[Cell] = []
    with tempfile.TemporaryDirectory() as folder:
        for cell in cells(config, Path(folder)):
            found.append(cell)
            record["cells"] = [asdict(each) for each in found]
            config.output.write_text(json.dumps(record, indent=1) + "\n")
            config.output.with_suffix(".table.md").write_text(as_table(found))


if __name__ == "__main__":
    main()
