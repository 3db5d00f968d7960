"""``mixdim bench checkpoint``: how fast checkpoints come and go, and what training notices.

The bounds are the disk alone: as many bytes, written and flushed, or read, as plain files. What is
read has left the page cache before.
"""

# Shapes:  B batch

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardingEnv
from torchrec.optim.keyed import CombinedOptimizer

from models.tables import FLOAT_BYTES
from service.bench.checkpoint_options import CheckpointConfig
from service.bench.harness import Contender, Figures, OnRun, Report, race, silent
from service.checkpoint import Checkpoints, Progress, examined
from service.config import OptimizerConfig
from service.distributed import joined_ranks
from service.logs import configure_logs
from service.metrics import peak_memory_bytes
from service.train.optimizers import build_optimizer, fuse_optimizer
from sharding.cluster import local
from sharding.constraints import ShardingConfig
from sharding.planner import place_module, sharders, to_plan

HEADLINE: Final = "bytes_per_second"
NUM_TABLES: Final = 8
EMBEDDING_DIM: Final = 32
BATCH_SIZE: Final = 1024


def run(config: CheckpointConfig, on_run: OnRun = silent) -> Report:
    """Race saving, loading and checking against the disk, for tables of every size."""
    contenders = [
        Contender(
            name=f"{mebibytes} MiB/{name}",
            about=about,
            run=partial(measure, config, mebibytes, way),
            is_bound=is_bound,
        )
        for mebibytes in config.mebibytes
        for name, about, way, is_bound in WAYS
    ]
    return race(
        contenders,
        config.race,
        on_run,
        benchmark="checkpoint",
        headline=HEADLINE,
        options=asdict(config) | {"folder": str(config.folder)},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trained:
    """A model that trains on random ids."""

    model: nn.Module
    optimizer: CombinedOptimizer
    batch: KeyedJaggedTensor
    checkpoints: Checkpoints
    folder: Path

    def step_seconds(self) -> float:
        """Time of one step: forward, backward and update."""
        start = time.perf_counter()
        self.model(self.batch).sum().backward()
        return time.perf_counter() - start

    def save(self) -> Path:
        """Save now."""
        self.checkpoints.save(self.model, self.optimizer, Progress(step=1))
        path = self.checkpoints.last()
        assert path is not None
        return path


Way = Callable[[_Trained], Figures]
"""Does one thing with a model; its figures but the headline, and the ``seconds`` it took."""


def measure(config: CheckpointConfig, mebibytes: int, way: Way, _repetition: int) -> Figures:
    """Do one thing with a model of this size, in a folder of its own."""
    configure_logs()
    torch.set_num_threads(config.threads)
    config.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=config.folder) as name,
        _trained(mebibytes << 20, Path(name)) as trained,
    ):
        figures = dict(way(trained))
    num_bytes = figures.pop("bytes", mebibytes << 20)
    return {HEADLINE: num_bytes / figures["seconds"], **figures}


@contextmanager
def _trained(num_bytes: int, folder: Path) -> Iterator[_Trained]:
    """Tables of so many bytes with row-wise Adagrad, some steps into their training."""
    rows = max(1, num_bytes // (NUM_TABLES * EMBEDDING_DIM * FLOAT_BYTES))
    with joined_ranks("cpu") as ranks, Checkpoints(folder, ranks) as checkpoints:
        model, optimizer = _model(rows, ranks.device)
        ids = torch.randint(rows, (NUM_TABLES * BATCH_SIZE,))
        batch = KeyedJaggedTensor(
            keys=[f"f{index}" for index in range(NUM_TABLES)],
            values=ids,
            lengths=torch.ones(len(ids), dtype=torch.int32),
        )
        trained = _Trained(
            model=model, optimizer=optimizer, batch=batch, checkpoints=checkpoints, folder=folder
        )
        trained.step_seconds()
        yield trained


class _Lookup(nn.Module):
    """A collection that answers with one tensor."""

    def __init__(self, tables: EmbeddingBagCollection) -> None:
        super().__init__()
        self.tables = tables

    def forward(self, features: KeyedJaggedTensor) -> Tensor:
        """``(B, sum of widths)``."""
        values: Tensor = self.tables(features).values()
        return values


def _model(rows: int, device: torch.device) -> tuple[nn.Module, CombinedOptimizer]:
    tables = EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=f"t{index}",
                num_embeddings=rows,
                embedding_dim=EMBEDDING_DIM,
                feature_names=[f"f{index}"],
            )
            for index in range(NUM_TABLES)
        ],
        device=torch.device("meta"),
    )
    optimizer = OptimizerConfig(sparse="rowwise_adagrad")
    fuse_optimizer(tables, optimizer, device)
    module, sharding = _Lookup(tables), ShardingConfig()
    everyone = dist.group.WORLD
    assert everyone is not None  # joined_ranks has made it
    model = DistributedModelParallel(
        module,
        env=ShardingEnv.from_process_group(everyone),
        device=device,
        plan=to_plan(place_module(module, local(1), BATCH_SIZE, sharding), module),
        sharders=sharders(sharding),
        init_data_parallel=False,
    )
    for weight in model.state_dict().values():
        for shard in weight.local_shards():
            shard.tensor.uniform_()  # else the memory is not there yet
    return model, build_optimizer(model, optimizer)


def _save_beside(trained: _Trained) -> Figures:
    alone = sorted(trained.step_seconds() for _ in range(21))[10]
    start = time.perf_counter()
    trained.checkpoints.begin(trained.model, trained.optimizer, Progress(step=1))
    stall = time.perf_counter() - start
    meanwhile = []
    while trained.checkpoints.is_writing:
        meanwhile.append(trained.step_seconds())
    trained.checkpoints.finish()
    seconds = time.perf_counter() - start
    figures = {"seconds": seconds, "stall_seconds": stall, "peak_rss_bytes": peak_memory_bytes()}
    if meanwhile:
        figures["step_slowdown"] = sorted(meanwhile)[len(meanwhile) // 2] / alone
        figures["longest_step_seconds"] = max(meanwhile)
    return figures


def _save_waiting(trained: _Trained) -> Figures:
    seconds = _seconds(
        lambda: trained.checkpoints.save(trained.model, trained.optimizer, Progress(step=1))
    )
    return {"seconds": seconds, "stall_seconds": seconds, "peak_rss_bytes": peak_memory_bytes()}


def _load(trained: _Trained) -> Figures:
    path = trained.save()
    _forget(path)
    load = partial(trained.checkpoints.load, trained.model, trained.optimizer, path)
    return {"seconds": _seconds(load), "peak_rss_bytes": peak_memory_bytes()}


def _check(trained: _Trained) -> Figures:
    path = trained.save()
    _forget(path)
    return {"seconds": _seconds(lambda: examined(path))}


def _write(trained: _Trained) -> Figures:
    weights = [weight.local_shards()[0].tensor for weight in trained.model.state_dict().values()]
    content = [memoryview(weight.numpy()).cast("B") for weight in weights]

    def write() -> None:
        with (trained.folder / "plain").open("wb") as file:
            for piece in content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    return {"seconds": _seconds(write), "bytes": sum(piece.nbytes for piece in content)}


def _read(trained: _Trained) -> Figures:
    path = trained.save()
    _forget(path)

    def read() -> None:
        buffer = bytearray(4 << 20)
        for file in _files(path):
            with file.open("rb", buffering=0) as opened:
                while opened.readinto(buffer):
                    pass

    return {"seconds": _seconds(read), "bytes": sum(file.stat().st_size for file in _files(path))}


def _files(path: Path) -> list[Path]:
    return sorted(path.iterdir())


def _forget(path: Path) -> None:
    """Have the page cache drop a checkpoint, which has been flushed."""
    for file in _files(path):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


WAYS: Final[list[tuple[str, str, Way, bool]]] = [
    ("beside", "saved beside the training, from a copy", _save_beside, False),
    ("waiting", "saved while the training waits", _save_waiting, False),
    ("load", "loaded into the model, from the disk", _load, False),
    ("check", "every byte compared with the manifest", _check, False),
    ("write", "as many bytes, written and flushed", _write, True),
    ("read", "as many bytes, read from the disk", _read, True),
]
"""Name, meaning, what is done, and whether it is a bound."""
