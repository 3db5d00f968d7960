"""``mixdim bench step``: examples per second of whole training steps, loading included.

Repetition 0 trains a whole epoch and scores the validation split; the others train as many steps
as the configuration says. The first steps, in which buffers, threads and the heap find their size,
are never counted.
"""

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import torch
from torchmetrics.functional.classification import binary_auroc

from models.layers import has_fast_bf16, set_matmul
from models.sizing import Uniform
from service.allocator import keep_freed_memory
from service.bench.harness import Contender, Figures, OnRun, Report, race, silent
from service.bench.options import NetworkName, StepConfig
from service.bench.trainers import ENTRANTS, Entrant, Trainer, Work
from service.data.batch import Batch
from service.data.dataset import DatasetInfo, Split, read_dataset_info
from service.data.loader import Loader
from service.distributed import joined_ranks

HEADLINE: Final = "examples_per_second"


def run(config: StepConfig, on_run: OnRun = silent) -> Report:
    """Race all contenders.

    Args:
        config: What to race.
        on_run: Told about every finished run.

    Raises:
        ValueError: If the dataset has list-valued fields or no click labels, or a contender's
            name is unknown.
        FileNotFoundError: If there is no dataset.
    """
    info = read_dataset_info(config.data)
    _check_data(config, info)
    entrants = _entrants(config.only)
    contenders = [
        Contender(
            name=f"{network}/{entrant.name}",
            about=entrant.about,
            run=partial(run_entrant, config, info, network, entrant),
            is_bound=entrant.is_bound,
        )
        for network in config.networks
        for entrant in entrants
    ]
    return race(
        contenders,
        config.race,
        on_run,
        benchmark="step",
        headline=HEADLINE,
        options=_options(config, info),
    )


def check_kind(data: Path, info: DatasetInfo) -> None:
    """Whether peers can train on a dataset.

    Raises:
        ValueError: If it is not of clicks with single values and dense columns.
    """
    lists = [field.stats.name for field in info.fields if field.is_list]
    if info.task != "click" or lists or not info.dense:
        raise ValueError(
            f"{data}: task={info.task!r}, list-valued fields {lists}, {len(info.dense)} "
            f"dense columns; expected clicks, single values and dense columns, as "
            f"`mixdim prepare synthetic` makes"
        )


def _check_data(config: StepConfig, info: DatasetInfo) -> None:
    check_kind(config.data, info)
    num_batches = info.splits["train"].num_rows // config.batch_size
    if num_batches < config.warmup_steps + config.steps:
        raise ValueError(
            f"{config.data} has {num_batches} training batches of {config.batch_size}, expected "
            f"warmup_steps={config.warmup_steps} and steps={config.steps}; lower them or prepare "
            f"more rows"
        )


def _entrants(only: tuple[str, ...]) -> list[Entrant]:
    known = [entrant for entrant in ENTRANTS if has_fast_bf16() or not entrant.bf16]
    names = [entrant.name for entrant in known]
    if unknown := [name for name in only if name not in names]:
        raise ValueError(f"--only {unknown}: no such contenders here; choose from {names}")
    return [entrant for entrant in known if not only or entrant.name in only]


def run_entrant(
    config: StepConfig, info: DatasetInfo, network: NetworkName, entrant: Entrant, repetition: int
) -> Figures:
    """One repetition of one contender, in a process of its own."""
    if entrant.keeps_memory:
        keep_freed_memory()
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    set_matmul(entrant.matmul)
    plan = Uniform(dim=config.dim)(info.field_stats)
    batches = partial(_batches, config, info)
    with joined_ranks("cpu") as ranks:
        work = Work(
            network=network,
            info=info,
            plan=plan,
            ranks=ranks,
            batch_size=config.batch_size,
            bf16=entrant.bf16,
            seed=config.seed,
        )
        trainer = entrant.build(work)
        if entrant.is_bound:
            same = repeat(next(batches("train")))
            figures = _time_steps(trainer, same, config, config.steps)
        else:
            limit = None if repetition == 0 else config.steps
            figures = _time_steps(trainer, batches("train"), config, limit)
            if repetition == 0:
                figures |= _scores(trainer, batches("validation"))
        return figures | {"peak_rss_bytes": _peak_rss_bytes()}


def _batches(config: StepConfig, info: DatasetInfo, split: Split) -> Iterator[Batch]:
    plan = Uniform(dim=config.dim)(info.field_stats)
    seed = config.seed if split == "train" else None
    loader = Loader(config.data, info, split, plan, batch_size=config.batch_size, seed=seed)
    return loader.batches()


def _time_steps(
    trainer: Trainer, batches: Iterator[Batch], config: StepConfig, limit: int | None
) -> dict[str, float]:
    """Warm up, then train ``limit`` steps, or what is left of the epoch."""
    for _ in range(config.warmup_steps):
        trainer.step(batches)
    num_steps = 0
    start, cpu_start = time.perf_counter(), time.process_time()
    try:
        while num_steps != limit:
            trainer.step(batches)
            num_steps += 1
    except StopIteration:
        # The last batch of an epoch may be smaller; leaving it out does nobody a favour.
        num_steps -= 1
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    num_examples = num_steps * config.batch_size
    return {
        HEADLINE: num_examples / seconds,
        # With one thread, this figure hardly minds neighbours that slow the wall clock down.
        "examples_per_cpu_second": num_examples / cpu_seconds,
    }


@torch.no_grad()
def _scores(trainer: Trainer, batches: Iterator[Batch]) -> dict[str, float]:
    probabilities, labels = [], []
    for batch in batches:
        is_example = batch.weights > 0
        probabilities.append(trainer.predict(batch).float()[is_example])
        labels.append(batch.labels[is_example])
    predicted, clicked = torch.cat(probabilities), torch.cat(labels)
    log_loss = torch.nn.functional.binary_cross_entropy(predicted.double(), clicked.double())
    return {"auc": float(binary_auroc(predicted, clicked.long())), "log_loss": float(log_loss)}


def _peak_rss_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _options(config: StepConfig, info: DatasetInfo) -> dict[str, Any]:
    options = asdict(config) | {"data": config.data.name}
    rows = {split: found.num_rows for split, found in info.splits.items()}
    ids = sum(field.stats.num_embeddings for field in info.fields)
    return options | {"rows": rows, "num_fields": len(info.fields), "num_embeddings": ids}
