"""Every network with every sizing, trained and evaluated by what the command line calls.

Importable by spawned processes: many runs share one set of ranks, which take seconds to start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.networks import NETWORKS
from models.sizing import SIZING, SizingScheme, Spectral
from models.tables import Block
from service.config import OptimizerConfig, TrainConfig
from service.data.dataset import Task
from service.distributed import joined_ranks, launch
from service.sizing import FORMAT_VERSION, SizingFile, write_sizing
from service.sizing_request import SizingRequest, size_dataset
from service.train.evaluate_run import EvaluateConfig, evaluate_run
from service.train.loop import train
from tests.datasets import write_dataset

ROWS: Final = {"C1": 40, "C2": 7, "C3": 300, "C4": 120}
PAIR: Final = ("C1", "C3")
PAIRS_ONLY: Final = {"mf", "dotbias"}
"""Networks of two fields; all others take any."""

# Rows, width, hashed ids.
PACKED: Final = {
    "C1": [(40, 2, 0)],
    "C2": [(7, 1, 0)],
    "C3": [(20, 8, 0), (130, 2, 0), (150, 1, 0)],
    "C4": [(120, 2, 0)],
}
HASHED: Final = {
    "C1": [(10, 8, 0), (5, 4, 25)],
    "C2": [(7, 8, 0)],
    "C3": [(50, 8, 0), (50, 4, 199), (1, 4, 0)],
    "C4": [(30, 4, 90)],
}
BY_HAND: Final = {"packed": PACKED, "hashed": HASHED}
BLOCKS: Final = "blocks"
"""Popularity within fields; every other scheme of the registry has its own name here."""

SIZINGS: Final = (*SIZING, BLOCKS, *BY_HAND)
TASKS: Final[tuple[Task, ...]] = ("click", "rating")
GLOBAL_BATCH: Final = 64
EPOCHS: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One run."""

    network: str
    sizing: str
    task: Task
    nproc: int

    @property
    def name(self) -> str:
        """As it is called in folders and reports."""
        return f"{self.network}-{self.sizing}-{self.task}-{self.nproc}"


CASES: Final = [
    Case(network=network, sizing=sizing, task=task, nproc=nproc)
    for row, network in enumerate(NETWORKS)
    for column, sizing in enumerate(SIZINGS)
    for turn, task in enumerate(TASKS)
    for nproc in (1, 2)
    if nproc == 1 or (row + column) % len(TASKS) == turn
]
"""All on one rank; on two, where a run takes longer, clicks and ratings in turns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a run."""

    trained: dict[str, float]
    """Scores that training ended with."""
    evaluated: dict[str, float]
    """Scores of the evaluation afterwards."""
    error: str = ""


def write_data(folder: Path) -> None:
    """Clicks and ratings of the same fields, with the counts that blocks are cut by, and a run of
    each that spectral sizing measures."""
    for task in TASKS:
        path = folder / task
        write_dataset(
            path,
            num_embeddings=list(ROWS.values()),
            list_fields=("C4",),
            rows={"train": 640, "validation": 64, "test": 130},
            rating=task == "rating",
        )
        (path / "vocab").mkdir()
        columns = pq.read_table(path / "train").to_pydict()
        for name, rows in ROWS.items():
            ids = columns[name]
            ids = [i for bag in ids for i in bag] if isinstance(ids[0], list) else ids
            counts = np.sort(np.bincount(ids, minlength=rows))[::-1]
            pq.write_table(pa.table({"count": counts}), path / "vocab" / f"{name}.parquet")
        warm_up = Case(network="fm", sizing="uniform", task=task, nproc=1)
        config = replace(config_of(warm_up, folder), output=folder / "warm-up" / task)
        launch(train, config, nproc=1, name="warm-up")


def sizing_of(case: Case, data: Path) -> SizingFile:
    """The plan of a case."""
    names = PAIR if case.network in PAIRS_ONLY else tuple(ROWS)
    if case.sizing in BY_HAND:
        blocks = {name: BY_HAND[case.sizing][name] for name in names}
        fields = {
            name: tuple(
                Block(num_embeddings=n, embedding_dim=d, asked_dim=d, hashed_ids=hashed)
                for n, d, hashed in cuts
            )
            for name, cuts in blocks.items()
        }
        return SizingFile(format_version=FORMAT_VERSION, fields=fields, out_dim=8)
    kind, blocks_each = ("popularity", 3) if case.sizing == BLOCKS else (case.sizing, 1)
    scheme: SizingScheme = SIZING[kind]()
    if isinstance(scheme, Spectral):
        scheme = Spectral(warm_up=str(data.parent / "warm-up" / case.task))
    return size_dataset(data, SizingRequest(scheme=scheme, fields=names, blocks=blocks_each))


def config_of(case: Case, folder: Path) -> TrainConfig:
    """A run of two short epochs, its plan written beside the data."""
    path = folder / "sizings" / f"{case.name}.json"
    write_sizing(sizing_of(case, folder / case.task), path)
    return TrainConfig(
        data=folder / case.task,
        sizing=path,
        output=folder / "runs" / case.name,
        network=NETWORKS[case.network](),
        optimizer=OptimizerConfig(sparse="adagrad", sparse_lr=0.05, dense_lr=2e-3),
        epochs=EPOCHS,
        patience=EPOCHS + 1,
        batch_size=GLOBAL_BATCH // case.nproc,
        log_every=640 // GLOBAL_BATCH,
        checkpoint_every=0,
        keep_checkpoints=1,
        device="cpu",
        matmul="mkl",
    )


def run_all(configs: Sequence[TrainConfig]) -> list[Outcome]:
    """Train and evaluate on the ranks that this process is one of; an error ends its run alone."""
    outcomes = []
    with joined_ranks("cpu"):
        for config in configs:
            try:
                outcomes.append(_run(config))
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                outcomes.append(Outcome(trained={}, evaluated={}, error=repr(error)))
    return outcomes


def _run(config: TrainConfig) -> Outcome:
    trained = train(config)
    evaluated = evaluate_run(EvaluateConfig(run=config.output, device="cpu"))
    return Outcome(trained=trained.scores, evaluated=evaluated.scores)
