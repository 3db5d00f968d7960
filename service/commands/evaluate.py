"""``mixdim evaluate RUN --split test``: score a run's checkpoint."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from service.data.dataset import Split
from service.run_folder import without_nan


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
    for name, value in result.scores.items():
        print(f"  {name:12} {value:,.6g}")
    for field, slices in result.slices.items():
        print(f"by frequency of {field}")
        for name, scores in slices.items():
            figures = "  ".join(f"{key} {value:,.6g}" for key, value in scores.items())
            print(f"  {name:12} {figures}")
    return 0
