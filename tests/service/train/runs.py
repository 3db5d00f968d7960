"""Runs of the real engine that tests start on several ranks; importable by spawned processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.embeddings.mixed import MixedEmbeddings
from models.layers.linear import set_matmul
from models.networks import DLRMNetwork
from models.tables import Block, SizingPlan
from service.config import OptimizerConfig, TrainConfig
from service.data.batch import FeatureBuilder
from service.data.dataset import read_dataset_info
from service.data.examples import Columns
from service.data.loader import Loader
from service.distributed import joined_ranks
from service.sizing import SizingFile, read_sizing, write_sizing
from service.train.engine import build_engine
from service.train.record import held_bytes
from sharding.cluster import local
from sharding.constraints import ShardingConfig, ShardingType
from sharding.planner import plan_module, sharders
from tests.datasets import write_dataset

MIXED = {"C1": [(40, 8)], "C2": [(7, 16)], "C3": [(100, 16), (200, 8)], "C4": [(500, 4)]}
"""Widths of the fields, C3 in two blocks."""


def make_run(
    folder: Path, *, rows: Mapping[str, int] | None = None, **changes: object
) -> TrainConfig:
    """Write a dataset and a mixed plan of two-block, narrow and wide tables; configure a run."""
    write_dataset(
        folder / "data",
        num_embeddings=(40, 7, 300, 500),
        list_fields=("C4",),
        rows=dict(rows or {"train": 4000, "validation": 500, "test": 500}),
    )
    plan = {
        name: tuple(Block(num_embeddings=n, embedding_dim=d, asked_dim=d) for n, d in blocks)
        for name, blocks in MIXED.items()
    }
    write_sizing(SizingFile(format_version=1, fields=plan, out_dim=16), folder / "sizing.json")
    settings: dict[str, object] = {
        "data": folder / "data",
        "sizing": folder / "sizing.json",
        "output": folder / "run",
        "network": DLRMNetwork(bottom=(16,), top=(16,)),
        "batch_size": 128,
        "log_every": 5,
        "checkpoint_every": 0,
        "matmul": "mkl",
    }
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


def sharded(kind: str, optimizer: str) -> dict[str, object]:
    """Settings that put every table under one sharding type."""
    return {
        "sharding": ShardingConfig(types=(kind,)),  # type: ignore[arg-type]
        "optimizer": OptimizerConfig(sparse=optimizer),  # type: ignore[arg-type]
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What a few steps of training did."""

    losses: list[float]
    """Mean loss of the global batch, by step."""
    predictions: npt.NDArray[np.float32]
    """Of all examples of all steps, in the order of the data."""
    moved: dict[str, float]
    """Largest change of a weight, by table; local shards of the first rank."""
    held_bytes: int
    """Weights and optimizer state of the tables over all ranks."""
    plan: SizingPlan


def trace(config: TrainConfig, steps: int) -> Trace:
    """Train some steps and write down everything that must not depend on the ranks."""
    with joined_ranks("cpu") as ranks:
        set_matmul("mkl")
        info = read_dataset_info(config.data)
        plan = read_sizing(config.sizing).plan
        engine = build_engine(config, info, plan, ranks)
        before = _tables(engine.model)
        loader = Loader(
            config.data,
            info,
            "train",
            config.embeddings.layout(plan),
            batch_size=config.batch_size,
            rank=ranks.rank,
            world_size=ranks.world_size,
            seed=config.seed,
        )
        pipeline = TrainPipelineSparseDist(engine.model, engine.optimizer, ranks.device)
        engine.model.train()
        batches = loader.batches()
        losses, predictions = [], []
        sizes = [loader.size_of_batch(batch) for batch in range(steps)]
        for size in sizes:
            loss, predicted, _ = pipeline.progress(batches)
            (total,) = ranks.sums(float(loss))
            losses.append(total / ranks.world_size)
            # Only the last ranks' shares can end in padding.
            predictions.append(np.concatenate(ranks.gather(predicted.numpy()))[:size])
        after = _tables(engine.model)
        return Trace(
            losses=losses,
            predictions=np.concatenate(predictions),
            moved={name: float(np.abs(after[name] - before[name]).max()) for name in after},
            held_bytes=int(sum(ranks.sums(*[sum(held_bytes(engine).values())]))),
            plan=plan,
        )


def trace_each(configs: Sequence[TrainConfig], steps: int) -> list[Trace]:
    """The same for several runs, one after the other."""
    with joined_ranks("cpu"):
        return [trace(config, steps) for config in configs]


def _tables(model: object) -> dict[str, npt.NDArray[np.float32]]:
    tables = {}
    for key, weight in model.state_dict().items():  # type: ignore[attr-defined]
        if ".embedding_bags." in key:
            shards = weight.local_shards() if hasattr(weight, "local_shards") else None
            tensors = [shard.tensor for shard in shards] if shards is not None else [weight]
            if tensors:
                tables[key] = np.concatenate([t.detach().numpy().ravel() for t in tensors]).copy()
    return tables


def forward_of_example(golden: Mapping[str, Any], kind: ShardingType) -> list[list[float]]:
    """The vectors of rows 0 to 4 of the paper's example, through a sharded collection.

    Fused kernels need widths of multiples of 4: the example's 4 and 2 become 8 and 4 by columns of
    zeros, which change no vector.
    """
    blocks = ((2, 8), (3, 4))
    plan = SizingPlan(
        fields={
            "f": tuple(Block(num_embeddings=n, embedding_dim=d, asked_dim=d) for n, d in blocks)
        },
        out_dim=8,
    )
    with joined_ranks("cpu") as ranks:
        embeddings = MixedEmbeddings(plan, device="meta")
        with torch.no_grad():
            embeddings.unify.projections[0].copy_(_padded(golden["P1"], 4, 8)[None])
        config = ShardingConfig(types=(kind,))
        cluster = local(ranks.world_size)
        model = DistributedModelParallel(
            embeddings,
            device=ranks.device,
            plan=plan_module(embeddings, cluster, 5, config),
            sharders=sharders(config),
        )
        for name, rows, (num_rows, width) in zip(("f/0", "f/1"), ("E0", "E1"), blocks, strict=True):
            weight = model.state_dict()[f"tables.embedding_bags.{name}.weight"]
            full = _padded(golden[rows], num_rows, width)
            for shard in weight.local_shards():
                first = shard.metadata.shard_offsets[0]
                shard.tensor.copy_(full[first : first + shard.tensor.shape[0]])
        columns = Columns(
            labels=np.zeros(5, np.float32),
            dense=np.zeros((5, 0), np.float32),
            ids=np.arange(5, dtype=np.int32)[None],
            lists=(),
        )
        found = model(FeatureBuilder(plan)(columns)).side_by_side
        vectors: list[list[float]] = found[:, :4].tolist()
        return vectors


def _padded(rows: list[list[float]], num_rows: int, width: int) -> torch.Tensor:
    padded = torch.zeros(num_rows, width)
    values = torch.tensor(rows)
    padded[: values.shape[0], : values.shape[1]] = values
    return padded
