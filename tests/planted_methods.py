"""Widths that searches give to fields of known rank: ``python -m tests.planted --methods ...``.

What was measured before is kept in the output and not measured again, so methods, seeds and
budgets can be added, and a run that was stopped goes on.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.networks import DeepFMNetwork
from service.config import OptimizerConfig, TrainConfig
from service.data.dataset import read_dataset_info
from service.search.config import SearchConfig
from service.search.methods import METHODS
from service.search.run import SIZING_FILE, search
from service.sizing import read_sizing
from tests.planted_data import TEACHERS, rows_of, write_planted

DIM: Final = 16
OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "random": {"candidates": (1, 2, 4, 8, 12, 16)},
    "autodim": {"candidates": (1, 2, 4, 8, 12, 16)},
    # It likes width for what is learned by heart, for which examples must come again and again.
    "autodim-s": {"candidates": (1, 2, 4, 8, 12, 16), "epochs": 9},
    "sseds/validation": {"split": "validation", "signed": True},
}
"""Options that differ from a method's own; behind a stroke, what a variant of it is called."""


def survey(
    output: Path,
    cases: Sequence[tuple[str, int]],
    methods: Sequence[str],
    budgets: Sequence[str],
    num_train: int,
) -> None:
    """Search every case by every method; the file is written anew after each search.

    Args:
        output: A JSON file, and beside it a Markdown file of the same name.
        cases: Teachers and seeds.
        methods: Searches by name, or variants of `OPTIONS`.
        budgets: Bytes, shares of uniform, or ``none`` for the method's own rule.
        num_train: Training examples.
    """
    found: dict[str, Any] = json.loads(output.read_text()) if output.is_file() else {}
    for teacher, seed in cases:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            write_planted(data, seed=seed, num_train=num_train, planted=TEACHERS[teacher])
            for method in methods:
                for budget in budgets:
                    key = f"{teacher} {method} {budget} {num_train} {seed}"
                    if key in found:
                        continue
                    config = search_of(Path(folder), method, budget, seed, epochs=3)
                    found[key] = {
                        "teacher": teacher,
                        "method": method,
                        "budget": budget,
                        "num_train": num_train,
                        "seed": seed,
                    } | judged(teacher, config)
                    output.write_text(json.dumps(found, indent=1) + "\n")
                    output.with_suffix(".md").write_text(as_markdown(list(found.values())))


def search_of(folder: Path, method: str, budget: str, seed: int, *, epochs: int) -> SearchConfig:
    """A search on the data in ``folder/data``."""
    return SearchConfig(
        method=METHODS[method.partition("/")[0]](**OPTIONS.get(method, {})),
        train=TrainConfig(
            data=folder / "data",
            output=folder / f"{method.replace('/', '-')}-{budget}",
            network=DeepFMNetwork(hidden=(64,)),
            optimizer=OptimizerConfig(sparse="adagrad"),
            epochs=epochs,
            patience=1,
            batch_size=512,
            seed=seed,
            device="cpu",
            matmul="mkl",
            log_every=1000,
            checkpoint_every=0,
            keep_checkpoints=1,
        ),
        budget=None if budget == "none" else budget,
        dim=DIM,
        retrain=budget != "none",  # plans of unlike bytes have nothing to be compared in
    )


def judged(teacher: str, config: SearchConfig) -> dict[str, Any]:
    """What a search finds, or why it cannot."""
    try:
        record = search(config, lambda stage: None)
    except ValueError as error:  # no plan fits, or the method has no rule of its own
        return {"error": str(error)}
    planted = TEACHERS[teacher]
    widths = _widths(config)
    return {
        "widths": widths,
        "order": order_of(widths, planted.ranks, rows_of(planted)),
        "auc": record.test.get("auc"),
        "search_examples": record.cost["examples"],
        "training_bytes": record.figures["training_bytes"],
    }


def _widths(config: SearchConfig) -> dict[str, float]:
    """Widest block of every field, 0 where it is dropped; what was asked for without a budget."""
    fields = read_sizing(config.train.output / SIZING_FILE).fields
    return {
        stats.name: max(
            (
                block.embedding_dim if config.budget else block.asked_dim
                for block in fields.get(stats.name, ())
            ),
            default=0,
        )
        for stats in read_dataset_info(config.train.data).field_stats
    }


def order_of(
    widths: Mapping[str, float], ranks: Mapping[str, int], rows: Mapping[str, int]
) -> dict[str, Any]:
    """How widths follow ranks.

    Returns:
        Mean widths of wide, narrow and noise fields, of all of them and by number of ids, and
        whether these means fall in this order; Spearman's correlation of widths and ranks.
    """
    classes = sorted(set(ranks.values()), reverse=True)
    small, large = sorted(set(rows.values()))
    sizes = {"all": (large, small), "large": (large,), "small": (small,)}
    means = {
        size: [
            fmean(widths[n] for n, rank in ranks.items() if rank == of and rows[n] in of_size)
            for of in classes
        ]
        for size, of_size in sizes.items()
    }
    has_order = {size: all(a > b for a, b in pairwise(of)) for size, of in means.items()}
    is_flat = len(set(widths.values())) == 1
    correlation = None if is_flat else spearman(list(widths.values()), list(ranks.values()))
    return {"means": means, "is_ordered": has_order, "spearman": correlation}


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Correlation of ranks, ties at their mean rank."""
    return float(np.corrcoef(_mean_ranks(first), _mean_ranks(second))[0, 1])


def _mean_ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def as_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """One line a teacher, method and budget, over its seeds."""
    lines = [
        "| teacher | method | budget | seeds | wide > narrow > noise | among large | among small "
        "| mean width: large | small | Spearman | test AUC |",
        "|---|---|---|---:|---:|---:|---:|---|---|---:|---:|",
    ]
    keys = dict.fromkeys((r["teacher"], r["method"], r["budget"]) for r in results)
    for key in keys:
        of_key = [r for r in results if (r["teacher"], r["method"], r["budget"]) == key]
        failed = [r for r in of_key if "error" in r]
        done = [r for r in of_key if "error" not in r]
        if not done:
            lines.append(f"| {' | '.join(key)} | {len(failed)} | {failed[0]['error']} |||||||")
            continue
        orders = [r["order"] for r in done]
        ordered = [
            f"{sum(order['is_ordered'][size] for order in orders)}/{len(orders)}"
            for size in ("all", "large", "small")
        ]
        means = [
            " > ".join(f"{m:.1f}" for m in np.mean([o["means"][size] for o in orders], axis=0))
            for size in ("large", "small")
        ]
        known = [o["spearman"] for o in orders if o["spearman"] is not None]
        correlation = f"{fmean(known):.2f}" if known else "flat"
        known_auc = [r["auc"] for r in done if r["auc"] is not None]
        auc = f"{fmean(known_auc):.4f}" if known_auc else ""
        cells = [*key, str(len(done)), *ordered, *means, correlation, auc]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
