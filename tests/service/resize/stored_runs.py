"""Runs of random weights and states, resized; importable by spawned ranks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.distributed._shard.sharded_tensor import ShardedTensor

from models.networks import Network
from models.tables import SizingPlan
from service.checkpoint import Checkpoints, Progress, StoredTensors, last_checkpoint
from service.checkpoint.optimizer_state import OptimizerView
from service.config import OptimizerConfig, TrainConfig
from service.data.dataset import read_dataset_info
from service.data.loader import Loader
from service.distributed import Ranks, Result, joined_ranks, launch
from service.resize import writer
from service.resize.resume import resumed_from
from service.run_folder import SIZING_FILE, RunFolder
from service.sizing import read_sizing, write_sizing
from service.train.engine import Engine, build_engine
from service.warm_up import PROJECTIONS, TABLES, projection_slots
from tests.service.warm_runs import Sizes, make_config

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

STEP = 7


def run_of(
    folder: Path,
    name: str,
    sizes: Sizes,
    out_dim: int,
    *,
    network: Network | None = None,
    optimizer: str = "adagrad",
    **changes: object,
) -> TrainConfig:
    """A run of a plan on the folder's data."""
    config = make_config(folder, name, sizes, out_dim, network=network)
    rates = OptimizerConfig(sparse=optimizer, sparse_lr=0.1)  # type: ignore[arg-type]
    return replace(config, optimizer=rates, **changes)  # type: ignore[arg-type]


def plan_of(config: TrainConfig) -> SizingPlan:
    return replace(read_sizing(config.sizing).plan, join=config.network.join)


def _engine(config: TrainConfig, ranks: Ranks) -> Engine:
    return build_engine(config, read_dataset_info(config.data), plan_of(config), ranks)


def _tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, ShardedTensor):
        return [shard.tensor for shard in value.local_shards()]
    return [value] if isinstance(value, torch.Tensor) and value.dim() else []


def store(config: TrainConfig) -> None:
    """Write a run that was stopped at a step, whose weights and states are random."""
    with joined_ranks("cpu") as ranks:
        engine = _engine(config, ranks)
        _fill(engine, seed=ranks.rank)
        folder = RunFolder(config.output)
        ranks.from_first(lambda: folder.make_ready(config, last_step=0, last_validated=0))
        order = {
            "seed": config.seed,
            "shuffle": config.shuffle,
            "global_batch_size": config.batch_size * ranks.world_size,
            "data_sha256": read_dataset_info(config.data).content_sha256,
        }
        progress = Progress(step=STEP, batch=STEP, order=order, best_step=3, best_score=0.9)
        checkpoints = Checkpoints(folder.checkpoints, ranks)
        checkpoints.save(engine.model, engine.optimizer, progress)
        if ranks.is_first:
            note(config)


@torch.no_grad()
def _fill(engine: Engine, seed: int) -> None:
    torch.manual_seed(seed)
    for weight in engine.model.state_dict().values():
        for tensor in _tensors(weight):
            tensor.copy_(torch.randn(tensor.shape) / 3)
    for states in OptimizerView(engine.model, engine.optimizer).state.values():
        for state in states.values():
            for tensor in _tensors(state):
                tensor.copy_(torch.rand(tensor.shape))


def note(config: TrainConfig) -> None:
    """Write down what a run's folder says of it."""
    RunFolder(config.output).write_run(config, {})
    write_sizing(read_sizing(config.sizing), config.output / SIZING_FILE)


def resize(config: TrainConfig) -> None:
    """Write the first checkpoint of a run that goes on from another."""
    with joined_ranks("cpu") as ranks:
        resumed_from(config, ranks)
        if ranks.is_first:
            note(config)


def store_and_resize(old: TrainConfig, new: TrainConfig) -> None:
    """Both, with pieces so small that every rank makes several of each table."""
    writer.PIECE_BYTES = 256  # type: ignore[misc]
    with joined_ranks("cpu"):
        store(old)
        resize(new)


def alone(entry: Callable[..., Result], *arguments: object, **more: object) -> Result:
    """Run on one rank as the command does, logs and warnings included."""
    return launch(partial(entry, **more), *arguments, nproc=1, name="alone")


def scores(config: TrainConfig, *, steps: int = 0) -> npt.NDArray[np.float32]:
    """What a run's newest checkpoint says of the validation split, and after more steps on it."""
    with joined_ranks("cpu") as ranks:
        engine = _engine(config, ranks)
        checkpoints = Checkpoints(config.output / "checkpoints", ranks)
        path = checkpoints.last()
        assert path is not None
        checkpoints.load(engine.model, engine.optimizer, path)
        info = read_dataset_info(config.data)
        loader = Loader(config.data, info, "validation", plan_of(config), batch_size=300)
        batch = next(iter(loader.batches()))
        for _ in range(steps):
            loss, _ = engine.model(batch)
            engine.optimizer.zero_grad()
            loss.backward()
            engine.optimizer.step()
        engine.model.eval()
        with torch.no_grad():
            _, (_, predictions, _) = engine.model(batch)
        if steps:
            checkpoints.save(engine.model, engine.optimizer, Progress(step=STEP + steps))
        return predictions.numpy().copy()


def stored(config: TrainConfig) -> StoredTensors:
    path = last_checkpoint(config.output / "checkpoints")
    assert path is not None
    return StoredTensors(path)


def everything(config: TrainConfig) -> dict[str, Array]:
    """All tensors of a run's newest checkpoint."""
    tensors = stored(config)
    return {name: tensors.read(name) for name in tensors.shapes}


def vectors(config: TrainConfig) -> dict[str, Doubles]:
    """By field, the vector of every id: one id after the other, in float64."""
    tensors, plan = everything(config), plan_of(config)
    slots = projection_slots(plan)
    found: dict[str, list[Doubles]] = {name: [] for name in plan.fields}
    for table in plan.tables():
        flat = tensors[f"{TABLES}{table.name}.weight"].astype(np.float64).reshape(-1)
        for position in range(table.num_ids):
            at = position % table.num_embeddings * table.embedding_dim
            row = flat[at : at + table.embedding_dim]
            if table.name in slots:
                index, slot = slots[table.name]
                row = row @ tensors[f"{PROJECTIONS}{index}"][slot].astype(np.float64)
            vector = np.zeros(plan.target_dim(table))
            vector[: len(row)] = row
            found[table.field].append(vector)
    return {name: np.stack(rows) for name, rows in found.items()}


def same(first: Mapping[str, Doubles], second: Mapping[str, Doubles]) -> bool:
    """Whether fields' vectors are the same, with zeros behind them in one of the two."""
    for name in first:
        a, b = first[name], second[name]
        width = max(a.shape[1], b.shape[1])
        a, b = (np.pad(v, ((0, 0), (0, width - v.shape[1]))) for v in (a, b))
        if not np.allclose(a, b, rtol=0, atol=2e-6):
            return False
    return True
