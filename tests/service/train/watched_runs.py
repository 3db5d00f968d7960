"""Runs that are watched, for tests that start them on several ranks."""

import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from prometheus_client import CollectorRegistry
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from service.config import TrainConfig
from service.data.dataset import read_dataset_info
from service.data.loader import Loader
from service.distributed import joined_ranks
from service.metrics import EmbeddingMetrics
from service.sizing import read_sizing
from service.train.engine import build_engine
from service.train.initialise import local_shards, table_name
from service.train.loop import train
from service.train.table_health import TableHealth

Figures = dict[str, dict[str, float]]
"""By table, by metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What was seen of some runs."""

    page: str
    """The fullest page that the first rank has served."""
    health: list[list[tuple[Figures, dict[str, int]]]]
    """By run and rank, what the rank sees of its tables, and the first rows that it holds."""


def watch(
    plain: TrainConfig, watched: TrainConfig, others: Sequence[TrainConfig], steps: int
) -> Seen:
    """Train twice, unwatched and watched; do some steps of others, and look at their tables."""
    with joined_ranks("cpu") as ranks:
        train(plain)
        with reading(watched.metrics_port + ranks.local_rank) as pages:
            train(watched)
        health = [ranks.gather(_health(config, steps, ranks)) for config in others]
        return Seen(page=max(pages, key=len), health=health)


@contextmanager
def reading(port: int) -> Iterator[list[str]]:
    """Read a page again and again while something else goes on."""
    pages, is_over = [""], threading.Event()

    def read() -> None:
        while not is_over.wait(0.02):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                    pages.append(page.read().decode())
            except OSError:
                continue

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield pages
    finally:
        is_over.set()
        thread.join()


def _health(config, steps, ranks):
    info, plan = read_dataset_info(config.data), read_sizing(config.sizing).plan
    engine = build_engine(config, info, plan, ranks)
    registry = CollectorRegistry()
    health = TableHealth(engine.model, engine.optimizer, plan, EmbeddingMetrics(registry))
    loader = Loader(
        config.data,
        info,
        "train",
        plan,
        batch_size=config.batch_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        seed=config.seed,
    )
    pipeline = TrainPipelineSparseDist(engine.model, engine.optimizer, ranks.device)
    batches = islice(loader.batches(), steps)
    for _ in range(steps):
        pipeline.progress(batches)
    health.look()
    figures: Figures = {}
    for family in registry.collect():
        for sample in family.samples:
            if table := sample.labels.get("table"):
                figures.setdefault(table, {})[sample.name.removeprefix("mixdim_table_")] = (
                    sample.value
                )
    first_rows = {
        table_name(key): row
        for key, weight in engine.model.state_dict().items()
        if table_name(key)
        for _, row, _ in local_shards(weight)
    }
    return figures, first_rows
