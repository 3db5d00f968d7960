"""Scores of a finished run on any dataset of the same fields: the function behind ``evaluate``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from torch import nn

from models.layers.linear import set_matmul
from models.tables import SizingPlan
from service.checkpoint import Checkpoints
from service.config import TrainConfig
from service.data.dataset import DatasetInfo, Split, read_dataset_info
from service.data.loader import Loader
from service.distributed import Ranks, joined_ranks
from service.run_folder import SIZING_FILE, RunFolder
from service.sizing import odd_table, read_sizing
from service.train.engine import build_engine
from service.train.evaluation import predict, score
from service.train.slices import SliceScores, by_frequency, check_slice


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Score a run's checkpoint on a split."""

    run: Path
    """Run folder written by ``mixdim train``."""

    data: Path | None = None
    """Dataset folder; the one that was trained on by default."""

    split: Split = "test"
    """Split to score."""

    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""

    slices: tuple[str, ...] = ()
    """Fields by whose frequency in training the scores are also given."""

    batch_size: int = 8192
    """Examples per rank and step."""

    nproc: int = 1
    """Ranks to start on this machine."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to evaluate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateResult:
    """Scores of one checkpoint on one split."""

    checkpoint: str
    split: Split
    scores: dict[str, float]
    slices: Mapping[str, SliceScores] = field(default_factory=dict)
    """Scores by field and slice of frequency."""
    rank: int = 0
    """The rank that says so."""


def evaluate_run(config: EvaluateConfig) -> EvaluateResult:
    """Score a checkpoint on the ranks that this process is one of; any number of them.

    Raises:
        FileNotFoundError: If there is no run, no dataset or no checkpoint.
        ValueError: If the dataset's fields are not the run's, the split is empty, or a slice's
            field is none that examples have one id of.
    """
    trained = RunFolder(config.run).read_config()
    data = config.data or trained.data
    info = read_dataset_info(data)
    sizing = read_sizing(config.run / SIZING_FILE)
    sizing.check_against(info)
    for name in config.slices:
        check_slice(info, name)
    with joined_ranks(config.device) as ranks:
        set_matmul(ranks.from_first(lambda: set_matmul(trained.matmul)))
        model, checkpoint = _restored(config, trained, info, sizing.plan, ranks)
        loader = Loader(
            data,
            info,
            config.split,
            sizing.plan,
            batch_size=config.batch_size,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
        predicted = predict(model, loader, ranks)
        scores, slices = ranks.from_first(
            lambda: (
                score(predicted.predictions, predicted.labels, info.task),
                by_frequency(predicted, data, info, config.split, config.slices),
            )
        )
        return EvaluateResult(
            checkpoint=checkpoint,
            split=config.split,
            scores=asdict(scores),
            slices=slices,
            rank=ranks.rank,
        )


def _restored(
    config: EvaluateConfig,
    trained: TrainConfig,
    info: DatasetInfo,
    plan: SizingPlan,
    ranks: Ranks,
) -> tuple[nn.Module, str]:
    """The run's model with the weights of a checkpoint, and the checkpoint's name."""
    # Tables are placed anew for these ranks; nothing is updated, so any optimizer will do that
    # takes their widths.
    frozen = replace(trained.optimizer, sparse="amsgrad" if odd_table(plan) else "sgd")
    placed_anew = replace(trained, batch_size=config.batch_size, plan=None, optimizer=frozen)
    engine = build_engine(placed_anew, info, plan, ranks)
    folder = RunFolder(config.run).checkpoints
    checkpoints = Checkpoints(folder, ranks)
    path = checkpoints.best() if config.checkpoint == "best" else checkpoints.last()
    if path is None:
        raise FileNotFoundError(f"{folder} holds no checkpoint; go on with `mixdim train --resume`")
    checkpoints.load(engine.model, None, path)
    return engine.model, path.name
