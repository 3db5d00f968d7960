"""``mixdim evaluate RUN --split test``: score a run's checkpoint."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from service.data.dataset import Split
from service.run_folder import without_nan

if TYPE_CHECKING:
    from service.train.evaluate_run import ServedScores


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateCommand:
    """Score a run's checkpoint on a split."""

    run: tyro.conf.Positional[Path]
    """Run folder written by ``mixdim train``."""

    data: Path | None = None
    """Dataset folder; the one that was trained on by default."""

    split: Split = "test"
    """Split to score."""

    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""

    slices: tuple[str, ...] = ()
    """Fields by whose frequency in training (head, torso, tail, unseen) the scores are also given,
    as in ``--slices item_id user_id``."""

    dtype: Literal["fp16", "int8", "int4"] | None = None
    """Score a second time with every table rounded as its export in this dtype would be."""

    batch_size: int = 8192
    """Examples per rank and step."""

    nproc: int = 1
    """Ranks to start on this machine; may differ from the training's."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to evaluate."""

    json: bool = False
    """Print the scores as JSON."""


def main(argv: Sequence[str]) -> int:
    """Score a checkpoint and print AUC, log loss, NE and calibration, or MSE and RMSE."""
    command = tyro.cli(EvaluateCommand, args=list(argv), prog="mixdim evaluate")

    from service.distributed import launch
    from service.train.evaluate_run import EvaluateConfig, evaluate_run

    options = dataclasses.asdict(command)
    del options["json"]
    result = launch(
        evaluate_run, EvaluateConfig(**options), nproc=command.nproc, name="mixdim-evaluate"
    )
    if result.rank != 0:
        return 0
    if command.json:
        content = dataclasses.asdict(result)
        del content["rank"]
        print(json.dumps(without_nan(content)))
        return 0
    print(f"{result.split} split, {result.checkpoint} of {command.run}")
    if result.served is None:
        for name, value in result.scores.items():
            print(f"  {name:12} {value:,.6g}")
    else:
        _print_served(result.scores, result.served)
    _print_slices(result.slices)
    if result.served is not None and result.served.slices:
        print(f"with tables in {result.served.dtype}")
        _print_slices(result.served.slices)
    return 0


def _print_served(scores: Mapping[str, float], served: "ServedScores") -> None:
    """Scores in fp32 beside those of rounded tables."""
    print(f"  {'':14} {'fp32':>14} {served.dtype:>14} {'change':>14}")
    for name, value in scores.items():
        change = f"{served.changes[name]:+14,.6f}" if name in served.changes else ""
        print(f"  {name:14} {value:>14,.6g} {served.scores[name]:>14,.6g} {change}".rstrip())
    before, after = served.fp32_serving_bytes, served.serving_bytes
    share = f"{after / before:.1%}"
    print(f"  {'serving bytes':14} {before:>14,} {after:>14,} {share:>14}")


def _print_slices(by_field: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    for field, slices in by_field.items():
        print(f"by frequency of {field}")
        for name, scores in slices.items():
            figures = "  ".join(f"{key} {value:,.6g}" for key, value in scores.items())
            print(f"  {name:12} {figures}")
