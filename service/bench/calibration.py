"""``mixdim bench lookup --write-cluster FILE``: how long lookups take here, for the planner.

Groups of tables of every width, from cache-resident to far beyond the cache, are looked up, their
gradients applied, and the speeds fitted with which `sharding.cost` prices a plan. Groups of mixed
tables, which the fit does not see, tell how far its predictions are off. Where the machine has
cores for several ranks, the links between them are timed, too.

Neighbours on a shared machine make calls slower, never faster: a group's time is that of its
fastest call in all repetitions. The table shows the median over repetitions beside it.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing import get_context
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)

from service.allocator import keep_freed_memory
from service.bench.harness import OnRun, Report, Run, Subject, silent
from service.bench.links import measure_links
from service.bench.machine import Load, describe_machine, wait_until_quiet
from service.bench.options import LookupConfig
from service.sharding_file import write_cluster
from sharding.calibration import Lookup, calibrate, median_error_ratio, predicted_seconds
from sharding.cluster import Cluster, local

logger = logging.getLogger(__name__)

Kind = Literal["group", "single", "uneven", "mixed"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

HEADLINE: Final = "nanoseconds_per_id"
WIDTHS: Final = (4, 8, 16, 32, 64, 128)
CHECK_SEEDS: Final = (1, 2, 3, 4, 5)
"""Groups of mixed tables to check with."""
NUM_CHECK_TABLES: Final = 26
_ABOUT: Final = "tables of width {}: forward, backward and row-wise Adagrad"
NUM_BATCHES: Final = 8
"""Batches that are looked up in turn, so that a table in memory stays out of the cache."""
MAX_CALLS: Final = 30
MAX_SECONDS: Final = 0.15
"""Calls of a measurement, and the time after which it ends earlier."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Tables that are looked up together."""

    name: str
    about: str
    shapes: tuple[tuple[int, int], ...]
    """Rows and columns of every table."""
    num_ids: int
    """Ids in every table."""
    kind: Kind
    """Speeds are fitted to groups; single, uneven and mixed tables check them."""


def run(config: LookupConfig, on_run: OnRun = silent) -> Report:
    """Measure, fit, write the cluster, and report every group beside its prediction."""
    groups = [*_grid(config.calibration_mebibytes), *_checks(config.calibration_mebibytes)]
    rounds = [_round(config, groups, number) for number in range(config.race.repeats)]
    measured = {
        kind: [
            Lookup(
                shapes=group.shapes,
                num_ids=group.num_ids,
                seconds=min(figures[group.name] for figures, _ in rounds),
            )
            for group in groups
            if group.kind == kind
        ]
        for kind in KINDS
    }
    cluster = calibrate(_this_machine(config), measured["group"], _source())
    if cluster.num_ranks > 1:
        speed = measure_links(cluster.num_ranks)
        cluster = replace(cluster, intra_host_bytes_per_second=speed)
    report = _report(config, groups, rounds, cluster)
    on_run(report)
    for kind, lookups in measured.items():
        error = median_error_ratio(lookups, cluster)
        logger.info("%s: half of the predictions are off by less than %.0f %%", kind, 100 * error)
    if config.write_cluster is not None:
        write_cluster(cluster, config.write_cluster)
        logger.info("written to %s", config.write_cluster)
    return report


def _grid(mebibytes: Sequence[int]) -> Iterator[Group]:
    """Single tables and groups of equal ones, of every width and size."""
    for (count, ids), total in product(((1, (4096,)), (16, (1024, 4096))), mebibytes):
        for num_ids, width in product(ids, WIDTHS):
            rows = max(1, (total << 20) // (count * (4 * width + 4)))
            yield Group(
                name=f"{count} x {total / count:g} MiB, {num_ids:,} ids/width {width}",
                about=_ABOUT.format(width),
                shapes=((rows, width),) * count,
                num_ids=num_ids,
                kind="single" if count == 1 else "group",
            )


def _checks(mebibytes: Sequence[int]) -> Iterator[Group]:
    """Groups like a click log's: rows over many orders of magnitude; one width, or any."""
    largest_bytes = (max(mebibytes) << 20) // 4
    for seed in CHECK_SEEDS:
        random = np.random.default_rng(seed)
        widths = random.choice(WIDTHS, NUM_CHECK_TABLES)
        rows = (largest_bytes / (4 * widths + 4)) ** random.uniform(0, 1, NUM_CHECK_TABLES)
        yield Group(
            name=f"{NUM_CHECK_TABLES} mixed, 4,096 ids/mixed {seed}",
            about=f"{NUM_CHECK_TABLES} tables of mixed rows and widths, not in the fit",
            shapes=tuple((int(n), int(d)) for n, d in zip(rows, widths, strict=True)),
            num_ids=4096,
            kind="mixed",
        )
    exponents = np.linspace(0, 1, NUM_CHECK_TABLES)
    rows = (largest_bytes / (4 * max(WIDTHS) + 4)) ** exponents
    for width in WIDTHS:
        yield Group(
            name=f"{NUM_CHECK_TABLES} uneven, 4,096 ids/width {width}",
            about=_ABOUT.format(width),
            shapes=tuple((int(n), width) for n in rows),
            num_ids=4096,
            kind="uneven",
        )


def _round(
    config: LookupConfig, groups: Sequence[Group], number: int
) -> tuple[dict[str, float], float]:
    """Every group once, in one fresh process and an order of its own; seconds by name."""
    wait_until_quiet(max_ratio=0.1, timeout_seconds=config.race.quiet_seconds)
    before = Load.now()
    order = np.random.default_rng(number).permutation(len(groups))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        figures = pool.submit(_measure_all, config.threads, [groups[i] for i in order]).result()
    logger.info("repetition %d of %d is measured", number + 1, config.race.repeats)
    return figures, Load.now().foreign_ratio_since(before)


def _measure_all(threads: int, groups: Sequence[Group]) -> dict[str, float]:
    keep_freed_memory()
    torch.set_num_threads(threads)
    return {group.name: measure(group) for group in groups}


def measure(group: Group) -> float:
    """Seconds of one forward, backward and update: the fastest of some calls."""
    kernel = SplitTableBatchedEmbeddingBagsCodegen(
        [(*shape, EmbeddingLocation.HOST, ComputeDevice.CPU) for shape in group.shapes],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=0.05,
        device=torch.device("cpu"),
    )
    kernel.init_embedding_weights_uniform(-0.1, 0.1)
    batches = [
        torch.cat([torch.randint(rows, (group.num_ids,)) for rows, _ in group.shapes])
        for _ in range(NUM_BATCHES)
    ]
    offsets = torch.arange(group.num_ids * len(group.shapes) + 1)
    gradient = torch.randn(group.num_ids, sum(columns for _, columns in group.shapes))
    fastest, start = float("inf"), time.perf_counter()
    for call in range(MAX_CALLS):
        before = time.perf_counter()
        kernel(batches[call % NUM_BATCHES], offsets).backward(gradient)
        if call > 1:  # the first ones grow the heap
            fastest = min(fastest, time.perf_counter() - before)
        if call > NUM_BATCHES and time.perf_counter() - start > MAX_SECONDS:
            break
    return fastest


def _report(
    config: LookupConfig,
    groups: Sequence[Group],
    rounds: Sequence[tuple[Mapping[str, float], float]],
    cluster: Cluster,
) -> Report:
    def figures(group: Group, seconds: float) -> dict[str, float]:
        num_ids = group.num_ids * len(group.shapes)
        step = Lookup(shapes=group.shapes, num_ids=group.num_ids, seconds=seconds)
        predicted = predicted_seconds(step, cluster)
        return {
            HEADLINE: seconds / num_ids * 1e9,
            "predicted": predicted / num_ids * 1e9,
            "predicted_/_measured": predicted / seconds,
        }

    return Report(
        benchmark="lookup",
        headline=HEADLINE,
        options={
            **asdict(config),
            "data": None,
            "write_cluster": config.write_cluster and config.write_cluster.name,
            "cluster": asdict(cluster),
        },
        contenders=[Subject(name=group.name, about=group.about) for group in groups],
        runs=[
            Run(
                contender=group.name,
                repetition=number,
                figures=figures(group, seconds[group.name]),
                foreign_ratio=foreign_ratio,
            )
            for number, (seconds, foreign_ratio) in enumerate(rounds)
            for group in groups
        ],
    )


def _this_machine(config: LookupConfig) -> Cluster:
    """As many ranks as have ``threads`` cores each."""
    return local(max(1, len(os.sched_getaffinity(0)) // config.threads))


def _source() -> str:
    machine: Mapping[str, Any] = describe_machine()
    packages = machine["packages"]
    kernels = next((f"{n} {v}" for n, v in packages.items() if n.startswith("fbgemm")), "fbgemm")
    return f"measured by `mixdim bench lookup`: {machine['cores']} x {machine['cpu']}, {kernels}"
