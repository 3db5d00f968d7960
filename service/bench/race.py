"""``mixdim bench race``: one epoch of what a user would train with instead, beside the product.

Every contender is a fresh process with the Python of its own environment, reads the same Parquet
parts and trains by its own means (`service.bench.peers`). The clock runs from before reading to
the end of the last step; the test split is scored afterwards, by one function for all.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc

from models.layers import has_fast_bf16
from models.sizing import Uniform, plan_bytes
from service.bench import lookup, step
from service.bench.harness import Contender, Figures, OnRun, Report, race, silent
from service.bench.options import LookupConfig, NetworkName, RaceOfPeersConfig, StepConfig
from service.bench.peers.call import call
from service.bench.peers.environment import environment
from service.bench.peers.registry import PEERS, Peer
from service.bench.peers.task import RaceTask
from service.bench.trainers import ENTRANTS
from service.data.dataset import DatasetInfo, read_dataset_info
from service.sizing import read_sizing

HEADLINE: Final = "examples_per_second"


@dataclass(frozen=True, slots=True)
class Runner:
    """How a contender is called."""

    python: Path
    module: str
    variant: str
    sizing: Path | None = None


def run(config: RaceOfPeersConfig, on_run: OnRun = silent) -> Report:
    """Race everybody.

    Raises:
        ValueError: If the dataset is not one of clicks with single values and dense columns, or a
            contender's name is unknown.
        FileNotFoundError: If there is no dataset or sizing plan.
        RuntimeError: If an environment cannot be made, or a contender fails.
    """
    info = read_dataset_info(config.data)
    step.check_kind(config.data, info)
    contenders = _chosen(config, [*_ours(config, info), *_peers(config), *_bounds(config, info)])
    return race(
        contenders,
        config.race,
        on_run,
        benchmark="race",
        headline=HEADLINE,
        options=_options(config, info),
    )


def _ours(config: RaceOfPeersConfig, info: DatasetInfo) -> Iterator[Contender]:
    """The product on uniform tables and on every plan that is given, fp32 and bf16."""
    uniform = Uniform(dim=config.dim)(info.field_stats)
    plans: list[tuple[str, Path | None, float]] = [
        ("uniform", None, plan_bytes(uniform).training_bytes)
    ]
    for path in config.sizings:
        sizing = read_sizing(path)
        sizing.check_against(info)
        plans.append((path.stem, path.absolute(), plan_bytes(sizing.plan).training_bytes))
    for network in config.networks:
        for name, sizing_file, num_bytes in plans:
            for precision in ("fp32", "bf16") if has_fast_bf16() else ("fp32",):
                runner = Runner(
                    python=Path(sys.executable),
                    module="ours",
                    variant=precision,
                    sizing=sizing_file,
                )
                yield Contender(
                    name=f"{network}/mixdim-{name}-{precision}",
                    about=f"the product, {precision}, tables of {num_bytes / 2**20:,.1f} MiB",
                    run=partial(_run, config, network, runner),
                )


def _peers(config: RaceOfPeersConfig) -> Iterator[Contender]:
    wanted = [peer for peer in PEERS if not config.only or peer.name in config.only]
    pythons: dict[str, Path] = {}
    for network in config.networks:
        for peer in wanted:
            if network in peer.networks:
                yield Contender(
                    name=f"{network}/{peer.name}",
                    about=peer.about,
                    run=partial(_run, config, network, _runner(config, peer, pythons)),
                )


def _runner(config: RaceOfPeersConfig, peer: Peer, pythons: dict[str, Path]) -> Runner:
    if peer.environment not in pythons:
        folder = config.environments / peer.environment
        pythons[peer.environment] = environment(folder, peer.installs)
    return Runner(pythons[peer.environment], peer.module, peer.variant)


def _bounds(config: RaceOfPeersConfig, info: DatasetInfo) -> Iterator[Contender]:
    """Less than the whole work: the layers alone, the lookup alone, the memory alone."""
    steps = StepConfig(
        data=config.data, batch_size=config.batch_size, dim=config.dim, threads=config.threads
    )
    for network in config.networks:
        for entrant in ENTRANTS:
            if entrant.is_bound and (has_fast_bf16() or not entrant.bf16):
                yield Contender(
                    name=f"{network}/{entrant.name}",
                    about=entrant.about,
                    run=partial(step.run_entrant, steps, info, network, entrant),
                    is_bound=True,
                )
    lookups = LookupConfig(
        data=config.data, dim=config.dim, batch_size=config.batch_size, threads=config.threads
    )
    for contender in lookup.contenders(lookups, info):
        name = f"{config.networks[0]}/{contender.name}-alone"
        yield replace(contender, name=name, is_bound=True)


def _chosen(config: RaceOfPeersConfig, contenders: Sequence[Contender]) -> list[Contender]:
    names = [contender.name.rpartition("/")[2] for contender in contenders]
    if unknown := [name for name in config.only if name not in names]:
        raise ValueError(
            f"--only {unknown}: no such contenders here; choose from {list(dict.fromkeys(names))}"
        )
    chosen = zip(names, contenders, strict=True)
    return [found for name, found in chosen if not config.only or name in config.only]


def _run(
    config: RaceOfPeersConfig, network: NetworkName, runner: Runner, repetition: int
) -> Figures:
    """One process of one contender."""
    with tempfile.TemporaryDirectory(prefix="mixdim-race-") as folder:
        is_first = repetition == 0
        scores = Path(folder) / "scores.npy" if is_first else None
        task = RaceTask(
            data=config.data.absolute(),
            variant=runner.variant,
            network=network,
            batch_size=config.batch_size,
            dim=config.dim,
            threads=config.threads,
            seed=config.seed,
            max_seconds=config.max_seconds if is_first else config.later_max_seconds,
            sizing=runner.sizing,
            scores=scores,
        )
        found = call(
            runner.python, runner.module, asdict(task), Path(folder), threads=config.threads
        )
        figures: dict[str, float] = found["figures"]
        if scores is not None and figures["trained_ratio"] == 1.0:
            figures["auc"] = _auc(task, scores)
        return figures


def _auc(task: RaceTask, scores: Path) -> float:
    """Exact area under the curve of the test split, for all contenders alike."""
    labels = torch.from_numpy(task.read("test").labels.astype(np.int64))
    return float(binary_auroc(torch.from_numpy(np.load(scores)), labels))


def _options(config: RaceOfPeersConfig, info: DatasetInfo) -> dict[str, Any]:
    return asdict(config) | {
        "data": config.data.name,
        "sizings": [path.name for path in config.sizings],
        "environments": config.environments.name,
        "installs": {peer.name: peer.installs for peer in PEERS},
        "rows": {split: found.num_rows for split, found in info.splits.items()},
        "num_embeddings": sum(field.stats.num_embeddings for field in info.fields),
    }
