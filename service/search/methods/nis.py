"""``mixdim search nis``: a controller learns by rewards which rows and columns there should be."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from pydantic import ConfigDict

from models.embeddings.choice import Alternation
from models.search.choices import NISChoice
from models.search.nis_options import Sizes, cells_of, profiles
from models.search.row_blocks import Prices, Profile, best_blocks, row_ends
from models.sizing import uniform_bytes
from models.sizing.searched import SearchedBlocks
from models.tables import Block
from service.search.methods.base import Found

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage

logger = logging.getLogger(__name__)

Logits = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
THETA: Final = "controller.theta"


@dataclass(frozen=True, kw_only=True, slots=True)
class NIS:
    """A controller, rewarded on validation examples, decides on rows and columns of every table."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = True

    kind: Literal["nis"] = "nis"

    sizes: Sizes = "multi"
    """``single``: one width a field, for as many of its ids as have a row; ``multi``: frequent ids
    may have wider rows."""

    row_shares: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 1.0)
    """Shares of a field's rows, most frequent ids first, at which its row blocks end."""

    column_blocks: int = 4
    """Blocks that the columns are cut into."""

    penalty: float = 0.1
    """Reward that exceeding the budget by as much again costs."""

    epochs: int = 0
    """Epochs of the super-net; 0 for as many as the plan is trained for."""

    warm_up: float = 0.25
    """Share of them in which all is on and only weights learn."""

    lr: float = 0.02
    """Learning rate of the controller, by Adam."""

    weight_steps: int = 1
    """Steps of the weights between two of the controller."""

    def __post_init__(self) -> None:
        shares = self.row_shares
        if (
            not shares
            or list(shares) != sorted(set(shares))
            or not 0 < shares[0] <= shares[-1] <= 1
        ):
            raise ValueError(
                f"row_shares={shares}, expected rising shares in (0, 1]; try 0.1 0.3 0.5 0.7 1"
            )
        if self.epochs < 0:
            raise ValueError(f"epochs={self.epochs}, expected 0 or more; try 1")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up={self.warm_up}, expected in [0, 1); try 0.25")
        NISChoice(column_blocks=self.column_blocks, penalty=self.penalty)  # raises where it cannot
        Alternation(lr=self.lr, weight_steps=self.weight_steps)

    def run(self, search: "Search") -> Found:
        """Train super-net and controller, and take the likeliest choice that fits the budget."""
        dim = search.config.dim
        ends = {
            stats.name: row_ends(stats.num_embeddings, self.row_shares) for stats in search.fields
        }
        everything = search.unbounded(
            SearchedBlocks(method=self.kind, blocks=_whole(ends, dim), out_dim=dim)
        )
        prices = Prices(
            out_dim=dim,
            join=search.config.train.network.join,
            optimizer=search.config.train.optimizer.sparse,
        )

        def blocks_of(theta: Sequence[Logits]) -> dict[str, tuple[Block, ...]]:
            values = {
                name: self._profiles(logits, len(own), dim)
                for (name, own), logits in zip(ends.items(), theta, strict=True)
            }
            return best_blocks(values, ends, prices, search.budget_bytes)

        epochs = self.epochs or search.config.train.epochs
        choice = self._choice(search, epochs)
        choice.layout(everything.plan)  # these refuse what cannot be before anything is trained:
        blocks_of([self._undecided(len(own)) for own in ends.values()])
        stage = search.train_super_net(everything, choice, epochs)
        theta = search.measure("controller", lambda: (_theta(stage), 0))
        if not np.any(theta):
            logger.warning(
                "the controller has made no step, and every choice is as good to it as the "
                "cheapest; give more --epochs, a smaller --batch-size or a lower --method.warm-up"
            )
        blocks = blocks_of([np.asarray(logits) for logits in theta])
        sizing = search.fixed(SearchedBlocks(method=self.kind, blocks=blocks, out_dim=dim))
        notes = {
            "theta": dict(zip(ends, theta, strict=True)),
            "row_ends": {name: list(own) for name, own in ends.items()},
        }
        return Found(sizing=sizing, notes=notes)

    def _choice(self, search: "Search", epochs: int) -> NISChoice:
        optimizer = search.config.train.optimizer.sparse
        share = 1.0
        if search.budget_bytes is not None:
            uniform = uniform_bytes(search.fields, search.config.dim, optimizer)
            share = min(1.0, search.budget_bytes / uniform)
        return NISChoice(
            sizes=self.sizes,
            column_blocks=self.column_blocks,
            budget_ratio=share,
            penalty=self.penalty,
            alternation=Alternation(
                weight_steps=self.weight_steps,
                lr=self.lr,
                pretrain_examples=round(self.warm_up * search.num_examples(epochs)),
            ),
        )

    def _undecided(self, num_rows: int) -> Logits:
        """A controller's logits of a field before it has learned anything."""
        return np.zeros(cells_of(self.sizes, num_rows, self.column_blocks).shape[:2])

    def _profiles(self, theta: Logits, num_rows: int, dim: int) -> dict[Profile, float]:
        """What may become of a field, and the log of its share."""
        cells = cells_of(self.sizes, num_rows, self.column_blocks)
        own = theta[:, : cells.shape[1]]  # (J, K): others stand for blocks that the field has not
        own = own - own.max(axis=1, keepdims=True)
        log_shares = own - np.log(np.exp(own).sum(axis=1, keepdims=True))
        return profiles(log_shares, cells, dim // self.column_blocks)


def _whole(ends: Mapping[str, tuple[int, ...]], dim: int) -> dict[str, tuple[Block, ...]]:
    """A table as wide as can be for every run of every field."""
    return {
        name: tuple(
            Block(num_embeddings=int(rows), embedding_dim=dim, asked_dim=dim)
            for rows in np.diff((0, *own))
        )
        for name, own in ends.items()
    }


def _theta(stage: "Stage") -> list[Any]:
    """The controller's logits at the end of the super-net's training, ``(F, J, K)``."""
    from service.checkpoint import StoredTensors, last_checkpoint
    from service.warm_up import EMBEDDINGS

    path = last_checkpoint(stage.folder / "checkpoints")
    assert path is not None  # a stage that has ended has left one
    found: list[Any] = StoredTensors(path).read(f"{EMBEDDINGS}{THETA}").tolist()
    return found
