"""Clicks whose fields need a known number of dimensions, and what spectral sizing makes of them.

``python -m tests.planted --seeds 5 --output docs/benchmarks/planted.json`` measures what
docs/spectral.md says; with ``--methods`` it is searches that are measured, see
`tests.planted_methods`.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np

from models.networks import DeepFMNetwork
from models.sizing import PopularityRule, SizingScheme, Spectral, Uniform, best_fit
from models.sizing.rounding import round_up
from models.sizing.spectral import second_moment
from models.tables import Block, SizingPlan
from service.config import OptimizerConfig, TrainConfig
from service.data.lookups import lookups_per_id
from service.search.methods import METHODS
from service.sizing import SizingFile, sizing_bytes, write_sizing
from service.sizing_request import SizingRequest, size_dataset
from service.train.loop import train
from service.warm_up import WarmUp
from tests.planted_data import SPECTRAL, TEACHERS, rows_of, write_planted
from tests.planted_methods import OPTIONS, spearman, survey

RANKS: Final = SPECTRAL.ranks
"""Dimensions that a field's vectors span; 0 for noise."""
ROWS: Final = rows_of(SPECTRAL)
WARM_UP_DIM: Final = 16


class Experiment:
    """Runs on the planted data of one seed."""

    def __init__(self, folder: Path, *, seed: int, num_train: int, epochs: int = 3) -> None:
        self.folder, self.seed, self.epochs = folder, seed, epochs
        write_planted(folder / "data", seed=seed, num_train=num_train)
        self.warm_up = folder / "warm-up"
        request = SizingRequest(scheme=Uniform(dim=WARM_UP_DIM))
        self.auc_of_warm_up = self.run("warm-up", size_dataset(folder / "data", request))

    def run(self, name: str, sizing: SizingFile, *, is_warm: bool = False) -> float:
        """Train a plan; the test AUC of its best epoch."""
        path = self.folder / f"{name}.json"
        write_sizing(sizing, path)
        config = TrainConfig(
            data=self.folder / "data",
            sizing=path,
            output=self.folder / name,
            network=DeepFMNetwork(hidden=(64,)),
            optimizer=OptimizerConfig(sparse="adagrad"),
            epochs=self.epochs,
            patience=1,
            batch_size=512,
            seed=self.seed,
            warm_start=self.warm_up if is_warm else None,
            device="cpu",
            matmul="mkl",
            log_every=1000,
            checkpoint_every=0,
            keep_checkpoints=1,
        )
        return train(config).scores["auc"]

    def size(self, scheme: SizingScheme, budget: int | None = None) -> SizingFile:
        """The plan of a scheme, its fields as wide as the warm-up's behind the projections."""
        request = SizingRequest(
            scheme=scheme,
            budget=None if budget is None else str(budget),
            optimizer="adagrad",
            out_dim=WARM_UP_DIM,
        )
        return size_dataset(self.folder / "data", request)


def plain_ranks(experiment: Experiment, share: float = 0.95) -> list[int]:
    """Ranks as the singular values of the tables alone would have them, by popularity."""
    warm_up, ranks = WarmUp(experiment.warm_up), []
    for name, num_ids in ROWS.items():
        counts = lookups_per_id(experiment.folder / "data", name)
        moment = second_moment(
            (vectors, counts[first : first + len(vectors)])
            for first, vectors in warm_up.pieces(name, 0, num_ids)
        )
        energy = np.cumsum(np.linalg.eigvalsh(moment)[::-1])
        ranks.append(int(np.argmax(energy >= share * energy[-1])) + 1)
    return ranks


def planted_plan(budget: int | None = None) -> SizingFile:
    """The plan of someone who knows the ranks; under a budget they are its shape."""
    fields = {
        name: (Block(num_embeddings=ROWS[name], embedding_dim=round_up(rank), asked_dim=rank),)
        for name, rank in RANKS.items()
    }
    plan = SizingPlan(fields=fields, out_dim=WARM_UP_DIM)
    if budget is not None:
        grid = Spectral().grid
        plan = best_fit(plan, budget, grid=grid, optimizer="adagrad", out_dim=WARM_UP_DIM).plan
    return SizingFile(
        format_version=1, fields=plan.fields, out_dim=plan.out_dim, optimizer="adagrad"
    )


def measure(folder: Path, seed: int, num_train: int) -> dict[str, Any]:
    """Ranks that are found, and AUC of plans at equal bytes, of one seed."""
    experiment = Experiment(folder, seed=seed, num_train=num_train)
    spectral = Spectral(warm_up=str(experiment.warm_up))
    free = experiment.size(spectral)
    found = {name: blocks[0].asked_dim for name, blocks in free.fields.items()}
    planted_bytes = sizing_bytes(planted_plan()).training_bytes
    plans = {
        ("planted", "all"): planted_plan(),
        ("planted", "half"): planted_plan(planted_bytes // 2),
    }
    for share, budget in (("all", planted_bytes), ("half", planted_bytes // 2)):
        plans["spectral", share] = experiment.size(spectral, budget)
        plans["popularity", share] = experiment.size(PopularityRule(), budget)
        plans["uniform", share] = experiment.size(Uniform(), budget)
    runs = [
        {
            "plan": name,
            "bytes": share,
            "training_bytes": sizing_bytes(plan).training_bytes,
            "dims": plan.plan.dims(),
            "auc": {
                start: experiment.run(f"{name}-{share}-{start}", plan, is_warm=start == "warm")
                for start in ("scratch", "warm")
            },
        }
        for (name, share), plan in plans.items()
    ]
    return {
        "seed": seed,
        "effective_ranks": found,
        "spearman": spearman(list(found.values()), list(RANKS.values())),
        "spearman_of_plain_spectra": spearman(plain_ranks(experiment), list(RANKS.values())),
        "auc_of_warm_up": experiment.auc_of_warm_up,
        "runs": runs,
    }


def summary(seeds: Sequence[Mapping[str, Any]], num_train: int) -> dict[str, Any]:
    """Means over seeds, and what every plan loses to the planted one, paired by seed."""
    table = []
    for index, run in enumerate(seeds[0]["runs"]):
        planted = 0 if run["bytes"] == "all" else 1
        row: dict[str, Any] = {"plan": run["plan"], "bytes": run["bytes"]}
        for start in ("scratch", "warm"):
            auc = [seed["runs"][index]["auc"][start] for seed in seeds]
            best = [seed["runs"][planted]["auc"][start] for seed in seeds]
            lost = [a - b for a, b in zip(best, auc, strict=True)]
            row[start] = {
                "auc": fmean(auc),
                "lost_to_planted": fmean(lost),
                "std_of_lost": stdev(lost) if len(lost) > 1 else 0.0,
            }
        table.append(row)
    return {
        "num_train": num_train,
        "planted_ranks": RANKS,
        "rows": ROWS,
        "spearman": [seed["spearman"] for seed in seeds],
        "spearman_of_plain_spectra": [seed["spearman_of_plain_spectra"] for seed in seeds],
        "auc_of_warm_up": fmean(seed["auc_of_warm_up"] for seed in seeds),
        "plans": table,
        "seeds": seeds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--train", type=int, default=100_000)
    parser.add_argument("--output", type=Path, required=True)
    names = list(dict.fromkeys([*METHODS, *OPTIONS]))
    parser.add_argument("--methods", nargs="+", choices=names, help="searches to measure")
    parser.add_argument("--teachers", nargs="+", choices=list(TEACHERS), default=list(TEACHERS))
    parser.add_argument("--budgets", nargs="+", default=["4x", "none"])
    options = parser.parse_args()
    if options.methods:
        cases = itertools.product(options.teachers, range(options.seeds))
        survey(options.output, list(cases), options.methods, options.budgets, options.train)
        return
    seeds: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            seeds.append(measure(Path(folder), seed, options.train))
        options.output.write_text(json.dumps(summary(seeds, options.train), indent=1) + "\n")


if __name__ == "__main__":
    main()
