"""Scores of a finished run on any dataset of the same fields: the function behind ``evaluate``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from torch import nn

from models.layers.linear import set_matmul
from models.layout import Layout
from models.sizing import Serving, plan_bytes
from models.tables import SizingPlan
from service.checkpoint import Checkpoints
from service.config import TrainConfig
from service.data.dataset import DatasetInfo, Split, read_dataset_info
from service.data.loader import Loader
from service.distributed import Ranks, joined_ranks
from service.run_folder import SIZING_FILE, RunFolder
from service.sizing import odd_table, read_sizing
from service.train.arithmetic import matmul_of
from service.train.engine import build_engine
from service.train.evaluation import predict, score
from service.train.served import RoundedDtype, round_tables
from service.train.slices import SliceScores, by_frequency, check_slice
from service.vocabulary_change import check_same_ids
from sharding.constraints import ShardingConfig


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

    dtype: RoundedDtype | None = None
    """Score a second time with the tables rounded as an export in this dtype would be."""

    batch_size: int = 8192
    """Examples per rank and step."""

    nproc: int = 1
    """Ranks to start on this machine."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to evaluate."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "nproc"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}, expected at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedScores:
    """Scores of a checkpoint whose tables are rounded as an export would be."""

    dtype: RoundedDtype
    scores: dict[str, float]
    changes: dict[str, float]
    """These scores less those in fp32."""
    slices: Mapping[str, SliceScores]
    serving_bytes: int
    """Of the tables in this dtype and the projections in fp32."""
    fp32_serving_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateResult:
    """Scores of one checkpoint on one split."""

    checkpoint: str
    split: Split
    scores: dict[str, float]
    slices: Mapping[str, SliceScores] = field(default_factory=dict)
    """Scores by field and slice of frequency."""
    served: ServedScores | None = None
    """The same with rounded tables, where a dtype was asked for."""
    rank: int = 0
    """The rank that says so."""


def evaluate_run(config: EvaluateConfig) -> EvaluateResult:
    """Score a checkpoint on the ranks that this process is one of; any number of them.

    Raises:
        FileNotFoundError: If there is no run, no dataset or no checkpoint.
        ValueError: If the dataset's fields are not the run's, the split is empty, or a slice's
            field is none that examples have one id of, the dtype does not take a width, or ids
            mean other values than in training.
    """
    folder = RunFolder(config.run)
    trained = folder.read_config()
    config = replace(config, data=config.data or trained.data)
    assert config.data is not None
    info = read_dataset_info(config.data)
    sizing = read_sizing(config.run / SIZING_FILE)
    sizing.check_against(info)
    _check_rows(info, config.split, config.data)
    for name in config.slices:
        check_slice(info, name)
    plan = replace(sizing.plan, join=trained.network.join)
    layout = trained.embeddings.layout(plan)
    if config.dtype is not None and trained.embeddings.kind != "mixed":
        raise ValueError(
            f"dtype={config.dtype!r} rounds the tables of a sizing plan, and {config.run} has "
            f"embeddings of kind {trained.embeddings.kind!r}; leave it out"
        )
    serving = Serving(dtype=config.dtype or "fp32", row_alignment=sizing.row_alignment)
    serving.check(plan)
    with joined_ranks(config.device) as ranks:
        set_matmul(ranks.from_first(lambda: set_matmul(matmul_of(trained, folder))))
        model, checkpoint = _restored(config, trained, info, plan, ranks)
        scored = _scored(config, info, layout, model, ranks)
        served = None
        if config.dtype is not None:
            round_tables(model, plan, config.dtype)
            rounded = _scored(config, info, layout, model, ranks)
            served = _served(config.dtype, plan, serving, scored, rounded)
        return EvaluateResult(
            checkpoint=checkpoint,
            split=config.split,
            scores=scored.scores,
            slices=scored.slices,
            served=served,
            rank=ranks.rank,
        )


def _check_rows(info: DatasetInfo, split: Split, data: Path) -> None:
    """Refuse a split without rows, and name those that have some."""
    if info.has_rows(split):
        return
    order: tuple[Split, ...] = ("test", "validation", "train")  # the least trained on first
    filled = [name for name in order if info.has_rows(name)]
    way_out = "prepare it again"
    if filled:
        way_out = f"give --split {filled[0]} (splits with rows: {', '.join(filled)})"
    raise ValueError(f"split {split!r} of {data} has no rows, expected at least 1; {way_out}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scored:
    scores: dict[str, float]
    slices: Mapping[str, SliceScores]


def _scored(
    config: EvaluateConfig, info: DatasetInfo, layout: Layout, model: nn.Module, ranks: Ranks
) -> _Scored:
    """The scores of a model as it is; the same on all ranks."""
    data = config.data
    assert data is not None
    loader = Loader(
        data,
        info,
        config.split,
        layout,
        batch_size=config.batch_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    predicted = predict(model, loader, ranks)
    return ranks.from_first(
        lambda: _Scored(
            scores=asdict(score(predicted.predictions, predicted.labels, info.task)),
            slices=by_frequency(predicted, data, info, config.split, config.slices),
        )
    )


def _served(
    dtype: RoundedDtype, plan: SizingPlan, serving: Serving, before: _Scored, after: _Scored
) -> ServedScores:
    return ServedScores(
        dtype=dtype,
        scores=after.scores,
        changes={
            name: value - before.scores[name]
            for name, value in after.scores.items()
            if name != "num_rows"
        },
        slices=after.slices,
        serving_bytes=plan_bytes(plan, serving=serving).serving_bytes,
        fp32_serving_bytes=plan_bytes(plan).serving_bytes,
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
    is_odd = odd_table(trained.embeddings.layout(plan)) is not None
    frozen = replace(trained.optimizer, sparse="amsgrad" if is_odd else "sgd")
    placed_anew = replace(trained, batch_size=config.batch_size, plan=None, optimizer=frozen)
    if config.dtype is not None:  # whole rows on one rank, for each has one scale
        whole_rows = ShardingConfig(
            kernel=trained.sharding.kernel, kernels=trained.sharding.kernels
        )
        placed_anew = replace(placed_anew, sharding=whole_rows)
    engine = build_engine(placed_anew, info, plan, ranks)
    folder = RunFolder(config.run).checkpoints
    checkpoints = Checkpoints(folder, ranks)
    path = checkpoints.best() if config.checkpoint == "best" else checkpoints.last()
    if path is None:
        raise FileNotFoundError(f"{folder} holds no checkpoint; go on with `mixdim train --resume`")
    progress = checkpoints.load(engine.model, None, path)
    seen, asked = trained.data, config.data or trained.data
    known = progress.order["data_sha256"]
    ranks.from_first(lambda: check_same_ids(seen, asked, plan.fields, old_sha256=known))
    return engine.model, path.name
