"""``mixdim bench lookup``: forward, backward and update of a plan's tables, and nothing else.

The bound is what the memory would allow: every lookup reads a row, and the update reads and writes
a row and its optimizer state. Traffic is counted without caches, so small tables may beat it.
"""

# Shapes:  B batch

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from typing import Final

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)

from models.embeddings.packed import feature_names
from models.sizing import Uniform
from models.tables import FLOAT_BYTES, SizingPlan
from service.bench import calibration
from service.bench.harness import Contender, Figures, OnRun, Report, race, silent
from service.bench.options import LookupConfig
from service.data.dataset import DatasetInfo, read_dataset_info
from service.data.loader import Loader
from service.sizing import read_sizing

HEADLINE: Final = "examples_per_second"
NUM_BATCHES: Final = 16
"""Batches that are held in memory and looked up in turn."""
COPY_BYTES: Final = 256 << 20
"""Size of the block that is copied to measure the memory; larger than caches."""


def run(config: LookupConfig, on_run: OnRun = silent) -> Report:
    """Race the kernel against the memory, or calibrate where a cluster is to be written.

    Raises:
        FileNotFoundError: If there is no dataset or sizing plan.
        ValueError: If the plan is not of this dataset.
    """
    if config.write_cluster is not None:
        return calibration.run(config, on_run)
    info = read_dataset_info(config.data)
    return race(
        contenders(config, info),
        config.race,
        on_run,
        benchmark="lookup",
        headline=HEADLINE,
        options=asdict(config)
        | {"data": config.data.name, "sizing": config.sizing and config.sizing.name},
    )


def contenders(config: LookupConfig, info: DatasetInfo) -> list[Contender]:
    """The kernel and the memory, on the tables of a plan."""
    plan = _plan(config, info)
    return [
        Contender(
            name="fbgemm",
            about="forward, backward and row-wise Adagrad in one kernel",
            run=partial(_run_kernel, config, info, plan),
        ),
        Contender(
            name="memory",
            about="the same bytes, copied",
            run=partial(_run_copy, config, info, plan),
            is_bound=True,
        ),
    ]


def bytes_per_example(info: DatasetInfo, plan: SizingPlan) -> float:
    """Memory traffic of one example: a row and its gradient, then the row and its state again.

    A row of ``d`` is read in forward, and read and written in the update (``3 d``); its gradient is
    written and read (``2 d``), and so is one number of state (``2``). The block that an id goes to
    is not known here: it counts by its share of the ids. Packed rows count as they are stored.
    """
    poolings = {field.stats.name: field.stats.pooling_factor for field in info.fields}
    ids = {name: sum(block.num_ids for block in blocks) for name, blocks in plan.fields.items()}
    return sum(
        poolings[table.field]
        * table.num_ids
        / ids[table.field]
        * (5 * table.stored.embedding_dim + 2)
        * FLOAT_BYTES
        for table in plan.tables()
    )


def _plan(config: LookupConfig, info: DatasetInfo) -> SizingPlan:
    if config.sizing is None:
        return Uniform(dim=config.dim)(info.field_stats)
    sizing = read_sizing(config.sizing)
    sizing.check_against(info)
    return sizing.plan


def _run_kernel(
    config: LookupConfig, info: DatasetInfo, plan: SizingPlan, _repetition: int
) -> Figures:
    torch.set_num_threads(config.threads)
    lists = [field.stats.name for field in info.fields if field.is_list]
    stored = [table.stored for table in plan.tables()]
    served = [index for index, t in enumerate(plan.tables()) for _ in feature_names(t, lists)]
    kernel = SplitTableBatchedEmbeddingBagsCodegen(
        [(t.num_embeddings, t.embedding_dim, *_place(config)) for t in stored],
        feature_table_map=served,
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=0.05,
        device=torch.device(config.device),
    )
    kernel.init_embedding_weights_uniform(-0.1, 0.1)
    loader = Loader(config.data, info, "train", plan, batch_size=config.batch_size, seed=0)
    device = torch.device(config.device)
    features = [batch.features.to(device) for batch in islice(loader.batches(), NUM_BATCHES)]
    width = sum(stored[index].embedding_dim for index in served)
    grads = [torch.randn(f.stride(), width, device=device) for f in features]

    def look_up(step: int) -> None:
        batch, grad = features[step % len(features)], grads[step % len(features)]
        offsets = batch.offsets()[: len(served) * batch.stride() + 1].long()  # without slots
        kernel(batch.values()[: offsets[-1]].long(), offsets).backward(grad)

    seconds = _seconds(look_up, config)
    num_examples = sum(features[step % len(features)].stride() for step in range(config.steps))
    traffic = bytes_per_example(info, plan)
    return {
        HEADLINE: num_examples / seconds,
        "gigabytes_per_second": num_examples * traffic / seconds / 1e9,
        **({"hbm_bytes": torch.cuda.max_memory_allocated()} if config.device == "cuda" else {}),
    }


def _run_copy(
    config: LookupConfig, info: DatasetInfo, plan: SizingPlan, _repetition: int
) -> Figures:
    torch.set_num_threads(config.threads)
    source = torch.ones(COPY_BYTES // FLOAT_BYTES, device=config.device)
    target = torch.empty_like(source)
    num_copies = 10
    seconds = _seconds(lambda _step: target.copy_(source), replace(config, steps=num_copies))
    bandwidth = 2 * COPY_BYTES * num_copies / seconds  # read and written
    return {
        HEADLINE: bandwidth / bytes_per_example(info, plan),
        "gigabytes_per_second": bandwidth / 1e9,
    }


def _place(config: LookupConfig) -> tuple[EmbeddingLocation, ComputeDevice]:
    if config.device == "cuda":
        return EmbeddingLocation.DEVICE, ComputeDevice.CUDA
    return EmbeddingLocation.HOST, ComputeDevice.CPU


def _seconds(work: Callable[[int], object], config: LookupConfig) -> float:
    """Time of the configured calls, after a tenth as many to warm up."""
    for step in range(max(1, config.steps // 10)):
        work(step)
    start = _now(config)
    for step in range(config.steps):
        work(step)
    return _now(config) - start


def _now(config: LookupConfig) -> float:
    """Seconds, once a GPU has done what it was told."""
    if config.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
