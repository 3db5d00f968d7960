"""``mixdim bench plans``: how fast sizing plans train, and what their ranks send each other.

Traffic is measured, not computed: what the loopback device has carried between the ranks, TCP
headers included. Others on the machine must be silent meanwhile, or the job be in a network
namespace of its own: ``unshare -rn sh -c 'ip link set lo up; mixdim bench plans ...'``.
"""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.networks import NETWORKS
from models.sizing import plan_bytes
from models.tables import SizingPlan
from service.bench.harness import Contender, Figures, OnRun, Report, race, silent
from service.bench.options import PlansConfig
from service.config import OptimizerConfig, TrainConfig
from service.data.batch import Batch
from service.data.dataset import DatasetInfo, read_dataset_info
from service.data.loader import Loader
from service.distributed import Ranks, joined_ranks, launch
from service.sizing import read_sizing
from service.train.engine import build_engine
from service.train.task import StepOutput
from sharding.constraints import ShardingConfig

HEADLINE: Final = "examples_per_second"
_COUNTERS: Final = Path("/proc/net/dev")


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
    contenders = []
    for path in config.sizings:
        sizing = read_sizing(path)
        sizing.check_against(info)
        contenders.append(
            Contender(
                name=path.stem,
                about=_about(sizing.plan),
                run=partial(_run, config, info, sizing.plan),
            )
        )
    options = asdict(config) | {
        "data": config.data.name,
        "sizings": [path.name for path in config.sizings],
    }
    return Report(
        benchmark="plans",
        headline=HEADLINE,
        options=options,
        contenders=contenders,
        runs=race(contenders, config.race, on_run),
    )


def _check_rows(config: PlansConfig, info: DatasetInfo) -> None:
    found = info.splits["train"].num_rows // (config.batch_size * config.nproc)
    needed = config.warmup_steps + config.steps
    if found < needed:
        raise ValueError(
            f"{config.data} has {found} training batches of {config.batch_size} on {config.nproc} "
            f"rank(s), expected warmup_steps + steps = {needed}; lower them or prepare more rows"
        )


def _about(plan: SizingPlan) -> str:
    stored = sum(table.stored.embedding_dim for table in plan.tables())
    kib = plan_bytes(plan).training_bytes / 1024
    return f"widths add up to {stored:,}, {kib:,.0f} KiB, model sees {plan.out_dim}"


def _run(config: PlansConfig, info: DatasetInfo, plan: SizingPlan, _repetition: int) -> Figures:
    """One repetition of one plan, in a process of its own."""
    arguments = config, info, plan
    return launch(_run_rank, *arguments, nproc=config.nproc, name="mixdim-bench-plans")


def _run_rank(config: PlansConfig, info: DatasetInfo, plan: SizingPlan) -> Figures:
    with joined_ranks("cpu") as ranks:
        train = TrainConfig(
            network=NETWORKS[config.network](),
            optimizer=OptimizerConfig(),
            sharding=ShardingConfig(types=("table_wise",)),
            batch_size=config.batch_size,
            device="cpu",
        )
        engine = build_engine(train, info, plan, ranks)
        pipeline: TrainPipelineSparseDist[Batch, StepOutput] = TrainPipelineSparseDist(
            engine.model, engine.optimizer, ranks.device
        )
        loader = Loader(
            config.data,
            info,
            "train",
            plan,
            batch_size=config.batch_size,
            rank=ranks.rank,
            world_size=ranks.world_size,
            seed=0,
        )
        batches = loader.batches()
        for _ in range(config.warmup_steps):
            pipeline.progress(batches)
        start, sent = _now(ranks)
        for _ in range(config.steps):
            pipeline.progress(batches)
        end, sent_then = _now(ranks)
        examples = config.steps * config.batch_size * ranks.world_size
        return {
            HEADLINE: examples / (end - start),
            "traffic_bytes_per_step": (sent_then - sent) / config.steps,
            "sum_of_widths": sum(table.stored.embedding_dim for table in plan.tables()),
        }


def _now(ranks: Ranks) -> tuple[float, int]:
    """Seconds, and bytes that the loopback device has carried, once all ranks have come here."""
    ranks.gather(ranks.rank)
    return time.perf_counter(), _loopback_bytes()


def _loopback_bytes() -> int:
    line = next(line for line in _COUNTERS.read_text().splitlines() if line.strip()[:3] == "lo:")
    return int(line.partition(":")[2].split()[8])  # sent; the same bytes are received
