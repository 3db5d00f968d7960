"""How well tables use their rows and their width, on a sample of the shards that a rank holds.

Ids are ranks by frequency, so a shard's sample is its first rows, which are looked up most, and
rows evenly spaced over the rest. Nothing is drawn at random and no rank is asked: looking changes
no digit of a training.
"""

# Shapes:  n sampled rows, d width of a table

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torchrec.optim.keyed import CombinedOptimizer

from models.layout import Layout
from service.checkpoint.optimizer_state import OptimizerView
from service.metrics.embeddings import EmbeddingMetrics
from service.train.initialise import local_shards, table_name

HEAD_ROWS: Final = 1024
"""Rows that are looked at from the first on."""
SPREAD_ROWS: Final = 1024
"""Rows that are looked at in all the others."""
SIGNS_OF_USE: Final = ("sum", "exp_avg_sq")
"""State of optimizers that is 0 until a row has its first gradient, and not after."""


class TableHealth:
    """Looks at the tables of a model now and then, and shows what it sees.

    Args:
        model: Holds the tables, sharded or not; what they are now is what they move from.
        optimizer: Its optimizer: what it remembers of a row says whether the row was ever read.
        layout: Names and shapes of the tables.
        metrics: Where the figures go.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: CombinedOptimizer,
        layout: Layout,
        metrics: EmbeddingMetrics,
    ) -> None:
        self._model, self._optimizer, self._metrics = model, optimizer, metrics
        self._tables = {table.name: table for table in layout.tables()}
        self._sums: dict[str, Tensor] = {}
        """Of the sampled rows' elements at the last look, by which moved ones are told."""
        self._touched: dict[str, Tensor] = {}
        for key, _, shard in self._shards():
            self._metrics.rows.labels(table=table_name(key)).set(self._num_rows(key, shard))
            self._sums[key] = _sums(shard[sampled_rows(shard)])
            self._touched[key] = torch.zeros_like(self._sums[key], dtype=torch.bool)

    @torch.no_grad()
    def look(self) -> None:
        """Measure all tables; after at least one step."""
        state = OptimizerView(self._model, self._optimizer).state
        for key, place, shard in self._shards():
            rows = sampled_rows(shard)
            values = shard[rows]
            sums = _sums(values)
            moved = sums != self._sums[key]
            self._sums[key] = sums
            if (signs := _signs_of_use(state.get(key, {}))) is not None:
                of_shard, _, _ = list(local_shards(signs))[place]
                self._touched[key] = of_shard[rows].flatten(1).ne(0).any(dim=1)
            else:  # plain SGD remembers nothing: what moved under these eyes
                self._touched[key] |= moved
            self._show(key, values, moved, len(shard))

    def _show(self, key: str, values: Tensor, moved: Tensor, num_rows: int) -> None:
        table, touched = self._tables[table_name(key)], self._touched[key]
        figures = {"moved": share(moved, num_rows), "touched": share(touched, num_rows)}
        # A packed table stores several rows in one.
        read = values[touched].reshape(-1, min(table.embedding_dim, values.shape[1]))
        if len(read) and (rank := effective_rank(read)):
            figures["norm"] = float(read.norm(dim=1).mean())
            figures["rank"] = rank
            figures["saturation"] = rank / read.shape[1]
        self._metrics.set_table(table.name, figures)

    def _shards(self) -> Iterator[tuple[str, int, Tensor]]:
        """Of every table that this rank holds: key, number and tensor of its largest shard."""
        for key, weight in self._model.state_dict().items():
            if table_name(key) in self._tables:
                shards = [shard for shard, _, _ in local_shards(weight)]
                place = max(range(len(shards)), key=lambda i: shards[i].numel(), default=None)
                if place is not None and shards[place].numel():
                    yield key, place, shards[place]

    def _num_rows(self, key: str, shard: Tensor) -> int:
        table = self._tables[table_name(key)]
        return min(len(shard) * table.packing, table.num_embeddings)


def sampled_rows(shard: Tensor) -> Tensor:
    """Rows of a shard to look at ``(n,)``: the first ones, and some of all others."""
    num_rows = len(shard)
    if num_rows <= HEAD_ROWS + SPREAD_ROWS:
        return torch.arange(num_rows, device=shard.device)
    # In whole numbers: float32 would not tell neighbours apart beyond 16 million.
    spread = torch.arange(SPREAD_ROWS) * (num_rows - HEAD_ROWS) // SPREAD_ROWS + HEAD_ROWS
    return torch.cat([torch.arange(HEAD_ROWS), spread]).to(shard.device)


def share(flags: Tensor, num_rows: int) -> float:
    """Share of all rows that a flag holds of, from that of the sampled ones ``(n,)``."""
    if len(flags) == num_rows:
        return float(flags.double().mean())
    head, spread = flags[:HEAD_ROWS].double().mean(), flags[HEAD_ROWS:].double().mean()
    return float((HEAD_ROWS * head + (num_rows - HEAD_ROWS) * spread) / num_rows)


def effective_rank(rows: Tensor) -> float:
    """How many directions rows ``(n, d)`` use, 1 to d; 0 if all are 0.

    The exponential of the entropy of the singular values, taken as shares of their sum.

    Source:
        Roy and Vetterli, *The Effective Rank*, EUSIPCO 2007.
    """
    wide = rows.double()
    singular = torch.linalg.eigvalsh(wide.T @ wide).clamp_min(0).sqrt()
    total = singular.sum()
    return float(torch.special.entr(singular / total).sum().exp()) if total > 0 else 0.0


def _signs_of_use(state: Mapping[str, Any]) -> Any | None:
    return next((state[name] for name in SIGNS_OF_USE if name in state), None)


def _sums(values: Tensor) -> Tensor:
    return values.double().sum(dim=1)
