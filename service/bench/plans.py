"""``mixdim bench plans``: how fast sizing plans train, and what their ranks send each other.

Traffic is measured, not computed: what the loopback device has carried between the ranks, TCP
headers included. Others on the machine must be silent meanwhile, or the job be in a network
namespace of its own: ``unshare -rn sh -c 'ip link set lo up; mixdim bench plans ...'``.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Final

import torch
from torch import nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.optim.optimizers import in_backward_optimizer_filter

from models.layers import set_matmul
from models.networks import NETWORKS
from models.sizing import plan_bytes
from models.tables import SizingPlan
from service.bench.harness import Contender, Figures, OnRun, Report, race, silent
from service.bench.options import PlansConfig
from service.bench.traffic import Carried, accounted, payload_bytes
from service.config import OptimizerConfig, Precision, TrainConfig
from service.data.batch import Batch
from service.data.dataset import DatasetInfo, read_dataset_info
from service.data.loader import Loader
from service.distributed import Ranks, joined_ranks, launch
from service.sizing import read_sizing
from service.train.engine import build_engine
from service.train.task import StepOutput
from sharding.constraints import ShardingConfig

HEADLINE: Final = "examples_per_second"


def run(config: PlansConfig, on_run: OnRun = silent) -> Report:
    """Race sizing plans, each on the same ranks, network and data.

    Args:
        config: What to race.
        on_run: Told about every finished run.

    Raises:
        ValueError: If a plan is not of this dataset, or the data has too few batches.
        FileNotFoundError: If there is no dataset or sizing plan.
    """
    info = read_dataset_info(config.data)
    _check_rows(config, info)
    contenders = list(_contenders(config, info))
    options = asdict(config) | {
        "data": config.data.name,
        "sizings": [path.name for path in config.sizings],
    }
    return race(
        contenders,
        config.race,
        on_run,
        benchmark="plans",
        headline=HEADLINE,
        options=options,
    )


def _contenders(config: PlansConfig, info: DatasetInfo) -> Iterator[Contender]:
    for path, precision, num_ranks in product(config.sizings, config.precisions, config.nproc):
        sizing = read_sizing(path)
        sizing.check_against(info)
        job = Job(config=config, plan=sizing.plan, precision=precision, num_ranks=num_ranks)
        name = f"{precision}, {num_ranks} rank{'s' * (num_ranks > 1)}"
        yield Contender(
            name=f"{name}/{path.stem}" if len(config.sizings) > 1 else f"{path.stem}/{name}",
            about=_about(sizing.plan),
            run=partial(_run, job, info),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One plan on some ranks."""

    config: PlansConfig
    plan: SizingPlan
    precision: Precision
    num_ranks: int


def _check_rows(config: PlansConfig, info: DatasetInfo) -> None:
    most = max(ranks * config.rank_batch_size(ranks) for ranks in config.nproc)
    found = info.splits["train"].num_rows // most
    needed = config.warmup_steps + config.steps
    if found < needed:
        raise ValueError(
            f"{config.data} has {found} training batches of {most} examples over all ranks, "
            f"expected warmup_steps + steps = {needed}; lower them or prepare more rows"
        )


def _about(plan: SizingPlan) -> str:
    stored = sum(table.stored.embedding_dim for table in plan.tables())
    kib = plan_bytes(plan).training_bytes / 1024
    return f"widths add up to {stored:,}, {kib:,.0f} KiB, model sees {plan.out_dim}"


def _run(job: Job, info: DatasetInfo, _repetition: int) -> Figures:
    """One repetition of one plan, in processes of its own."""
    return launch(_run_rank, job, info, nproc=job.num_ranks, name="mixdim-bench-plans")


def _run_rank(job: Job, info: DatasetInfo) -> Figures:
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // job.num_ranks))
    config = job.config
    with joined_ranks("cpu") as ranks:
        set_matmul(ranks.from_first(lambda: set_matmul("auto")))
        engine = build_engine(_train_config(job), info, job.plan, ranks)
        pipeline: TrainPipelineSparseDist[Batch, StepOutput] = TrainPipelineSparseDist(
            engine.model, engine.optimizer, ranks.device
        )
        batches = _batches(job, info, ranks)
        for _ in range(config.warmup_steps):
            pipeline.progress(batches)
        start = _Moment.of(ranks)
        for _ in range(config.steps):
            pipeline.progress(batches)
        end = _Moment.of(ranks)
        examples = config.steps * config.rank_batch_size(job.num_ranks) * ranks.world_size
        (cpu_seconds,) = ranks.sums(end.cpu_seconds - start.cpu_seconds)
        figures = {
            HEADLINE: examples / (end.seconds - start.seconds),
            "examples_per_cpu_second": examples / cpu_seconds,
            "sum_of_widths": sum(table.stored.embedding_dim for table in job.plan.tables()),
        }
        if ranks.world_size == 1:
            return figures
        payload = _payload(job, info, engine.model)
        return figures | accounted(payload, start.carried, end.carried, config.steps)


def _train_config(job: Job) -> TrainConfig:
    return TrainConfig(
        network=NETWORKS[job.config.network](),
        optimizer=OptimizerConfig(),
        sharding=_sharding(job.config),
        batch_size=job.config.rank_batch_size(job.num_ranks),
        device="cpu",
        precision=job.precision,
    )


def _batches(job: Job, info: DatasetInfo, ranks: Ranks) -> Iterator[Batch]:
    loader = Loader(
        job.config.data,
        info,
        "train",
        job.plan,
        batch_size=job.config.rank_batch_size(job.num_ranks),
        rank=ranks.rank,
        world_size=ranks.world_size,
        seed=0,
    )
    return loader.batches()


def _sharding(config: PlansConfig) -> ShardingConfig:
    return ShardingConfig(
        types=("table_wise",), comms=config.comms, max_copied_rows=config.max_copied_rows
    )


def _payload(job: Job, info: DatasetInfo, model: nn.Module) -> dict[str, float]:
    """What a step ought to send; a field's ids go to the table that holds their rows."""
    poolings = {field.stats.name: field.stats.pooling_factor for field in info.fields}
    ids = {name: sum(b.num_ids for b in blocks) for name, blocks in job.plan.fields.items()}
    dense = in_backward_optimizer_filter(model.named_parameters())
    return payload_bytes(
        [(t, poolings[t.field] * t.num_ids / ids[t.field]) for t in job.plan.tables()],
        _sharding(job.config),
        batch_size=job.config.rank_batch_size(job.num_ranks),
        num_ranks=job.num_ranks,
        dense_weights=sum(weight.numel() for _, weight in dense),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Moment:
    """Clocks and counters at a moment that all ranks have come to."""

    seconds: float
    cpu_seconds: float
    carried: Carried

    @classmethod
    def of(cls, ranks: Ranks) -> "_Moment":
        ranks.gather(ranks.rank)
        return cls(
            seconds=time.perf_counter(), cpu_seconds=time.process_time(), carried=Carried.now()
        )
