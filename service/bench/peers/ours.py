"""The product, as `mixdim train` drives it: its loader, engine and pipeline on one rank."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import cast, get_args

import torch
from torch import Tensor

from models.layers import set_matmul
from models.sizing import Uniform
from models.tables import SizingPlan
from service.allocator import keep_freed_memory
from service.bench.options import NetworkName
from service.bench.peers.task import Clock, Predict, RaceTask, Split, TimeIsUp, take_part
from service.bench.trainers import ProductTrainer, Work
from service.data.batch import Batch
from service.data.dataset import DatasetInfo, read_dataset_info
from service.data.loader import Loader
from service.distributed import joined_ranks
from service.sizing import read_sizing


def train(task: RaceTask, clock: Clock, stack: ExitStack) -> Predict:
    """One epoch."""
    torch.set_num_threads(task.threads)
    set_matmul("auto")
    info = read_dataset_info(task.data)
    plan = _plan(task, info)
    assert task.network in get_args(NetworkName)
    work = Work(
        network=cast(NetworkName, task.network),
        info=info,
        plan=plan,
        ranks=stack.enter_context(joined_ranks("cpu")),
        batch_size=task.batch_size,
        bf16=task.variant == "bf16",
        seed=task.seed,
    )
    trainer = ProductTrainer(work)

    def batches(split: Split, seed: int | None = None) -> Iterator[Batch]:
        loader = Loader(task.data, info, split, plan, batch_size=task.batch_size, seed=seed)
        return loader.batches()

    epoch = batches("train", task.seed)
    with suppress(StopIteration, TimeIsUp):
        while True:
            trainer.step(epoch)
            clock.step()

    @torch.no_grad()
    def predict() -> Iterator[Tensor]:
        for batch in batches("test"):
            yield trainer.predict(batch)[batch.weights > 0].float()

    return lambda: torch.cat(list(predict())).numpy()


def _plan(task: RaceTask, info: DatasetInfo) -> SizingPlan:
    if task.sizing is None:
        return Uniform(dim=task.dim)(info.field_stats)
    sizing = read_sizing(task.sizing)
    sizing.check_against(info)
    return sizing.plan


if __name__ == "__main__":
    keep_freed_memory()
    with ExitStack() as ranks:
        take_part(
            lambda task, clock: train(task, clock, ranks),
            ("torchrec", "fbgemm-gpu-cpu", "torch", "numpy"),
        )
