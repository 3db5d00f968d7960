"""Warm-ups and runs that start from them, also on several ranks; importable by spawned ranks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models.embeddings.packed import unpack
from models.networks import (
    CollabNNNetwork,
    DCNv2Network,
    DeepFMNetwork,
    DLRMNetwork,
    DotBiasNetwork,
    FMNetwork,
    MFNetwork,
    NCFNetwork,
    Network,
    WideDeepNetwork,
)
from models.tables import Block, SizingPlan
from service.checkpoint import Checkpoints, best_checkpoint
from service.config import OptimizerConfig, TrainConfig
from service.data.dataset import read_dataset_info, write_dataset_info
from service.data.ingest.vocabulary import frequency_curve
from service.data.loader import Loader
from service.distributed import joined_ranks, launch
from service.sizing import SizingFile, read_sizing, write_sizing
from service.train.engine import build_engine
from service.train.loop import train
from service.train.warm_start import warm_start
from tests.datasets import rewrite, write_dataset

ROWS = {"C1": 40, "C2": 7, "C3": 300, "C4": 50}
NETWORKS: dict[str, Network] = {
    network.kind: network
    for network in (
        DLRMNetwork(bottom=(8,), top=(8,)),
        DCNv2Network(hidden=(8,), cross_rank=4),
        DeepFMNetwork(hidden=(8,)),
        FMNetwork(),
        WideDeepNetwork(hidden=(8,)),
        NCFNetwork(hidden=(8,)),
        MFNetwork(),
        DotBiasNetwork(y_range=(-1.0, 6.0)),
        CollabNNNetwork(num_hidden=8),
    )
}
"""A small one of every kind."""

Sizes = dict[str, list[tuple[int, int, int]]]
"""Of every field the blocks: rows, width, hashed ids."""


def uniform(dim: int) -> Sizes:
    """Every field equally wide."""
    return {name: [(n, dim, 0)] for name, n in ROWS.items()}


def make_data(folder: Path, *, rating: bool = False) -> Path:
    """A dataset with a list field, and the lookups of its ids."""
    write_dataset(
        folder,
        num_embeddings=list(ROWS.values()),
        list_fields=("C4",),
        rows={"train": 2000, "validation": 300, "test": 300},
        rating=rating,
    )
    (folder / "vocab").mkdir()
    columns = pq.read_table(folder / "train")
    ranks, curves = {}, {}
    for name, num_ids in ROWS.items():
        counts = np.bincount(_flat(columns[name]), minlength=num_ids)
        order = np.argsort(-counts, kind="stable")
        table = pa.table({"count": counts[order]})
        pq.write_table(table, folder / "vocab" / f"{name}.parquet")
        ranks[name] = np.argsort(order).astype(np.int32)
        curves[name] = frequency_curve(counts[order])
    info = read_dataset_info(folder)
    fields = [
        replace(own, stats=replace(own.stats, frequency_curve=curves[own.stats.name]))
        for own in info.fields
    ]
    write_dataset_info(replace(info, fields=tuple(fields)), folder)
    rewrite(folder, partial(_ranked, ranks=ranks))
    return folder


def _ranked(table: pa.Table, ranks: Mapping[str, npt.NDArray[np.int32]]) -> pa.Table:
    """Give the ids of a part their ranks by frequency, as ``prepare`` does."""
    for name, rank in ranks.items():
        column = table[name].combine_chunks()
        ids = pa.array(rank[_flat(column)])
        if pa.types.is_list(column.type):
            ids = pa.ListArray.from_arrays(column.offsets, ids, type=column.type)
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(place), ids)
    return table


def _flat(column):
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return (whole.flatten() if pa.types.is_list(whole.type) else whole).to_numpy()


def make_config(
    folder: Path, name: str, sizes: Sizes, out_dim: int, *, network: Network | None = None
) -> TrainConfig:
    """A short run of a plan on the folder's data, fields only where the plan has them."""
    fields = {
        field: tuple(
            Block(num_embeddings=n, embedding_dim=d, asked_dim=d, hashed_ids=hashed)
            for n, d, hashed in blocks
        )
        for field, blocks in sizes.items()
    }
    sizing = folder / f"{name}.json"
    write_sizing(SizingFile(format_version=1, fields=fields, out_dim=out_dim), sizing)
    return TrainConfig(
        data=folder / "data",
        sizing=sizing,
        output=folder / name,
        network=network or FMNetwork(),
        optimizer=OptimizerConfig(sparse="adagrad", sparse_lr=0.1),
        epochs=2,
        batch_size=128,
        device="cpu",
        matmul="mkl",
        pooling="mean",
    )


def warm_up(folder: Path, *, dim: int = 8, network: Network | None = None) -> TrainConfig:
    """Train a uniform run to start from."""
    config = make_config(folder, "warm-up", uniform(dim), dim, network=network)
    trained(config)
    return config


def trained(config: TrainConfig) -> None:
    """Train as the command does, logs and warnings included."""
    launch(train, config, nproc=1, name="train")


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A model before its first step."""

    tables: dict[str, npt.NDArray[np.float32]]
    """Whole tables, unpacked."""
    projections: list[npt.NDArray[np.float32]]
    scores: npt.NDArray[np.float32]
    """Of the validation split, in its order."""


def started(config: TrainConfig) -> Started:
    """Build a model, warm-start it where the configuration says so, and score with it."""
    with joined_ranks("cpu") as ranks:
        info = read_dataset_info(config.data)
        plan = replace(read_sizing(config.sizing).plan, join=config.network.join)
        engine = build_engine(config, info, plan, ranks)
        if config.warm_start is not None:
            warm_start(engine.model, config, info, plan, ranks)
        else:  # a finished run, as its best checkpoint has it
            checkpoint = best_checkpoint(config.output / "checkpoints")
            assert checkpoint is not None
            Checkpoints(config.output, ranks).load(engine.model, None, checkpoint)
        pieces = {
            name: _pieces(weight)
            for name, weight in engine.model.state_dict().items()
            if ".embedding_bags." in name
        }
        whole = [ranks.gather(part) for part in pieces.values()]
        tables = {
            table.name: unpack(torch.from_numpy(_joined(parts)), table).numpy()
            for table, parts in (
                (t, p)
                for t in plan.tables()
                for key, p in zip(pieces, whole, strict=True)
                if key.endswith(f".embedding_bags.{t.name}.weight")
            )
        }
        projections = [
            weight.detach().numpy().copy()
            for name, weight in engine.model.state_dict().items()
            if ".unify.projections." in name
        ]
        return Started(
            tables=tables,
            projections=projections,
            scores=scores_of(engine, config, info, plan, ranks),
        )


def _pieces(weight):
    if not hasattr(weight, "local_shards"):
        return [((0, 0), tuple(weight.shape), weight.detach().numpy().copy())]
    return [
        (
            tuple(s.metadata.shard_offsets),
            tuple(weight.metadata().size),
            s.tensor.detach().numpy().copy(),
        )
        for s in weight.local_shards()
    ]


def _joined(parts):
    found = [piece for of_rank in parts for piece in of_rank]
    whole = np.full(found[0][1], np.nan, dtype=np.float32)
    for (row, column), _, values in found:
        whole[row : row + values.shape[0], column : column + values.shape[1]] = values
    return whole


def scores_of(engine, config, info, plan: SizingPlan, ranks):
    loader = Loader(
        config.data,
        info,
        "validation",
        plan,
        batch_size=300 // ranks.world_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    engine.model.eval()
    with torch.no_grad():
        _, (_, predictions, _) = engine.model(next(iter(loader.batches())))
    return np.concatenate(ranks.gather(predictions.numpy()))
