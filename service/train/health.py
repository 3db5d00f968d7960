"""The health of a run's embeddings, measured for those who watch and for nobody else.

Tables are looked at when a checkpoint is written, losses by frequency when a split is evaluated:
no step gets longer. Where no metrics are served, nothing is measured. No figure has a part in the
training: with and without them it gives the same digits.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from models.layout import Layout
from service.config import TrainConfig
from service.data.dataset import DatasetInfo, Split
from service.data.loader import Loader
from service.metrics.embeddings import EmbeddingMetrics
from service.train.engine import Engine
from service.train.evaluation import Predicted
from service.train.frequency_losses import FrequencyLosses
from service.train.table_health import TableHealth


class Health:
    """Measures one rank's part of the embeddings.

    Args:
        config: The run; without a port for metrics nothing is measured.
        info: Its dataset.
        layout: Its tables.
        engine: The sharded model as training starts, with its optimizer.
        metrics: Where the figures go.
    """

    def __init__(
        self,
        config: TrainConfig,
        info: DatasetInfo,
        layout: Layout,
        engine: Engine,
        metrics: EmbeddingMetrics,
    ) -> None:
        self._data, self._info, self._layout = config.data, info, layout
        self._is_on = config.metrics_port > 0
        self._metrics = metrics
        self._losses: dict[Split, FrequencyLosses] = {}
        self._looked_at_step = 0  # nothing has moved before the first step
        if self._is_on:
            with self._timed():
                self._tables = TableHealth(engine.model, engine.optimizer, layout, metrics)

    def look(self, step: int) -> None:
        """Measure the tables as they are after a step, once: an epoch may end on a checkpoint."""
        if self._is_on and step != self._looked_at_step:
            self._looked_at_step = step
            with self._timed():
                self._tables.look()

    def judge(self, split: Split, predicted: Predicted) -> None:
        """Measure losses by frequency; on one rank, which has all predictions."""
        if not self._is_on:
            return
        with self._timed():
            if split not in self._losses:
                fields = set(self._layout.fields)
                self._losses[split] = FrequencyLosses(self._data, self._info, split, fields)
            for field, name, loss, num_rows in self._losses[split].of(predicted):
                self._metrics.set_slice(split, field, name, loss, num_rows)

    def count_unknown(self, split: Split, loader: Loader) -> None:
        """Show how much of this rank's part of an evaluated split is outside the vocabulary."""
        for field, num_lookups in loader.num_lookups.items():
            if num_lookups:
                self._metrics.set_unknown(split, field, loader.num_unknown[field] / num_lookups)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._metrics.seconds.inc(time.perf_counter() - started)
