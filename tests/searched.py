"""Searches and plans without one, trained alike, at equal bytes, paired by seed.

``python -m tests.searched --data DATA --output FOLDER --budgets 8x --seeds 0 1 2`` measures what
docs/benchmarks/searched.md says; without DATA on the clicks of `tests.planted`, made up for each
seed. Runs that FOLDER has are not trained again. The uniform training that several searches begin
with is trained once a seed; its cost counts in each.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from models.networks import DeepFMNetwork, FMNetwork, Network, WideDeepNetwork
from models.sizing import PopularityRule, SizingScheme, Uniform
from service.config import OptimizerConfig, TrainConfig
from service.search.config import SearchConfig
from service.search.methods import METHODS
from service.search.methods.base import Found
from service.search.record import RETRAINED
from service.search.run import trained
from service.search.search import STAGES, Search
from tests.planted import write_planted

RECORDS: Final = "searched.jsonl"
TABLE: Final = "searched.md"
BASE: Final = "base"
NETWORKS: Final[Mapping[str, Network]] = {
    "fm": FMNetwork(),
    "deepfm": DeepFMNetwork(hidden=(64,)),
    "wide_deep": WideDeepNetwork(hidden=(64,)),
}


@dataclass(frozen=True, kw_only=True)
class Unsearched:
    """A plan that needs no search, started from the same uniform training as the searched ones."""

    scheme: SizingScheme = field(default_factory=Uniform)
    start: str = "warm"

    def run(self, search: Search) -> Found:
        sizing = search.size(self.scheme)
        if self.start == "fresh":
            return Found(sizing=sizing)
        base = search.train(BASE, search.uniform())
        return Found(sizing=sizing, retrain={"warm_start": base.folder})


SEARCHES: Final[Mapping[str, Any]] = {
    "uniform": Unsearched(),
    "uniform, fresh": Unsearched(start="fresh"),
    "popularity": Unsearched(scheme=PopularityRule()),
    "random": METHODS["random"](trials=3, candidates=(1, 2, 4, 8, 16)),
    "sseds": METHODS["sseds"](),
    "sseds, fresh": METHODS["sseds"](start="fresh"),
    "sseds, signed": METHODS["sseds"](signed=True),
    "sseds, signed, validation": METHODS["sseds"](signed=True, split="validation"),
    "sseds, greedy": METHODS["sseds"](spend="saliency"),
    "sseds, greedy per byte": METHODS["sseds"](spend="saliency_per_byte"),
    "spectral": METHODS["spectral"](blocks=1, rows="keep"),
    "spectral, fresh": METHODS["spectral"](blocks=1, rows="keep", start="fresh"),
    "spectral, 4 blocks": METHODS["spectral"](rows="keep"),
    "spectral, rows": METHODS["spectral"](blocks=1),
    "spectral, 4 blocks, rows": METHODS["spectral"](),
    "autodim": METHODS["autodim"](),
    "optembed": METHODS["optembed"](),
    "prune-regrow": METHODS["prune-regrow"](),
    "prune-regrow, 2 rounds": METHODS["prune-regrow"](rounds=2),
}


def measure(options: argparse.Namespace, budget: str, seed: int, name: str) -> dict[str, Any]:
    """Search and train one plan."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        search = Search(_config(options, budget, seed, folder), lambda stage: None)
        kept = options.output / f"{BASE}-{options.network}-{seed}"
        if kept.is_dir():
            shutil.copytree(kept, folder / STAGES)
        found = SEARCHES[name].run(search)
        result = trained(search, found)
        if not kept.is_dir() and (folder / STAGES / BASE).is_dir():
            shutil.copytree(folder / STAGES / BASE, kept / BASE)
            shutil.copy(folder / STAGES / f"{BASE}.json", kept)
        return {
            **{"network": options.network, "budget": budget, "seed": seed, "name": name},
            "auc": result.test["auc"],
            "log_loss": result.test["log_loss"],
            "training_bytes": found.sizing.totals["training_bytes"],
            "budget_bytes": search.budget_bytes,
            "widths": {
                field: [block.embedding_dim for block in blocks]
                for field, blocks in found.sizing.fields.items()
            },
            "search_examples": sum(s.examples for s in search.stages if s.name != RETRAINED),
            "seconds": {stage.name: round(stage.seconds, 2) for stage in search.stages},
        }


def _config(options: argparse.Namespace, budget: str, seed: int, folder: Path) -> SearchConfig:
    train = TrainConfig(
        data=options.data or _planted(options.output / f"planted-{seed}", seed),
        output=folder,
        network=NETWORKS[options.network],
        optimizer=OptimizerConfig(sparse="adagrad"),
        epochs=options.epochs,
        patience=1,
        batch_size=options.batch_size,
        seed=seed,
        device="cpu",
        matmul="mkl",
        log_every=1000,
        checkpoint_every=0,
        keep_checkpoints=1,
    )
    return SearchConfig(train=train, budget=budget)


def _planted(folder: Path, seed: int) -> Path:
    if not folder.exists():
        folder.mkdir()
        write_planted(folder, seed=seed, num_train=100_000)
    return folder


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """Means over seeds, and the difference to uniform's AUC at the same budget, paired by seed."""
    cells: dict[tuple[str, str, str], dict[int, Mapping[str, Any]]] = {}
    for record in records:
        key = record["network"], record["budget"], record["name"]
        cells.setdefault(key, {})[record["seed"]] = record
    lines = [
        "| network | budget | plan | seeds | AUC | log loss | AUC above uniform | bytes used |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (network, budget, name), runs in sorted(cells.items(), key=_order):
        base = cells.get((network, budget, "uniform"), {})
        gains = [runs[seed]["auc"] - base[seed]["auc"] for seed in runs.keys() & base.keys()]
        used = fmean(run["training_bytes"] / run["budget_bytes"] for run in runs.values())
        auc, loss = (fmean(run[key] for run in runs.values()) for key in ("auc", "log_loss"))
        lines.append(
            f"| {network} | {budget} | {name} | {len(runs)} | {auc:.4f} | {loss:.4f} | "
            f"{_spread(gains)} | {used:.1%} |"
        )
    return "\n".join(lines) + "\n"


def _order(cell: tuple[tuple[str, str, str], object]) -> tuple[str, str, int]:
    (network, budget, name), _ = cell
    return network, budget, list(SEARCHES).index(name)


def _spread(gains: Sequence[float]) -> str:
    if not gains:
        return ""
    return f"{fmean(gains):+.4f}" + (f" ± {stdev(gains):.4f}" if len(gains) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--network", choices=NETWORKS, default="deepfm")
    parser.add_argument("--budgets", nargs="+", default=["8x"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=2048)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / RECORDS
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {tuple(r[key] for key in ("network", "budget", "seed", "name")) for r in records}
    for seed in options.seeds:
        for budget in options.budgets:
            for name in options.searches:
                if (options.network, budget, seed, name) in done:
                    continue
                records.append(measure(options, budget, seed, name))
                with path.open("a") as file:
                    file.write(json.dumps(records[-1]) + "\n")
    (options.output / TABLE).write_text(table(records))


if __name__ == "__main__":
    main()
