"""``mixdim search autoemb``: widths by popularity, chosen softly by a controller, then for good."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from models.embeddings.choice import Alternation
from models.search.choices import AutoEmbChoice, check_candidates
from models.search.popularity_runs import Runs, runs_of
from models.search.row_blocks import Prices, Profile, best_blocks
from models.sizing import equipartition
from models.sizing.searched import SearchedBlocks
from models.tables import Block
from service.data.lookups import lookups_per_id
from service.search.methods.base import Found, candidates_up_to

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage

MOST_WAYS: Final = 2**12
"""Ways to give the groups of a field widths that are gone through, in about a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoEmb:
    """A controller weighs widths for every id by its popularity; groups of ids get the best."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = True

    kind: Literal["autoemb"] = "autoemb"

    candidates: tuple[int, ...] = (2, 8, 32)
    """Widths to choose from; those above --dim are left out, --dim itself is always one."""

    groups: int = 4
    """Groups that a field's ids are cut into in the end, looked up equally often together."""

    epochs: int = 0
    """Epochs of the super-net; 0 for as many as the plan is trained for."""

    lr: float = 1e-3
    """Learning rate of the controllers, by Adam."""

    weight_steps: int = 1
    """Steps of the weights between two of the controllers."""

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"groups={self.groups}, expected at least 1; try 4")
        if self.epochs < 0:
            raise ValueError(f"epochs={self.epochs}, expected 0 or more; try 1")
        check_candidates(self.candidates)
        Alternation(lr=self.lr, weight_steps=self.weight_steps)

    def run(self, search: "Search") -> Found:
        """Train super-net and controllers, then give every group what it is worth most with."""
        dim = search.config.dim
        choice = AutoEmbChoice(
            candidates=candidates_up_to(dim, self.candidates),
            alternation=Alternation(lr=self.lr, weight_steps=self.weight_steps),
        )
        self._check_ways(len(choice.candidates))
        config, names = search.config.train, [stats.name for stats in search.fields]
        ends = {name: self._ends(lookups_per_id(config.data, name)) for name in names}
        prices = Prices(out_dim=dim, join=config.network.join, optimizer=config.optimizer.sparse)

        def blocks_of(worth: Mapping[str, NDArray[np.float64]]) -> dict[str, tuple[Block, ...]]:
            values = {name: profiles(own, choice.candidates) for name, own in worth.items()}
            return best_blocks(values, ends, prices, search.budget_bytes)

        nothing = {n: np.zeros((len(own), len(choice.candidates))) for n, own in ends.items()}
        blocks_of(nothing)  # refuses a budget that nothing fits, before anything is trained
        epochs = self.epochs or config.epochs
        stage = search.train_super_net(search.uniform(), choice, epochs)
        runs = runs_of(search.fields)
        shares = search.measure("controllers", lambda: (_shares(stage, runs), 0))
        blocks = blocks_of(
            {
                name: group_worth(
                    np.asarray(shares[name]),
                    runs[name],
                    lookups_per_id(config.data, name),
                    ends[name],
                )
                for name in names
            }
        )
        notes = {"shares": shares, "levels": {n: list(own.levels) for n, own in runs.items()}}
        sizing = search.fixed(SearchedBlocks(method=self.kind, blocks=blocks, out_dim=dim))
        return Found(sizing=sizing, notes=notes)

    def _check_ways(self, num_widths: int) -> None:
        most = math.floor(math.log(MOST_WAYS, max(num_widths, 2)))
        if self.groups > most:
            raise ValueError(
                f"groups={self.groups}, expected at most {most} with {num_widths} widths: every "
                f"way to give them to the groups of a field is gone through; or fewer candidates"
            )

    def _ends(self, counts: NDArray[np.int64]) -> list[int]:
        """First id behind every group of a field."""
        return equipartition(counts, min(self.groups, len(counts)))[1:]


def group_worth(
    shares: NDArray[np.float64], runs: Runs, counts: NDArray[np.int64], ends: Sequence[int]
) -> NDArray[np.float64]:
    """Lookups of every group, each times the share that its id gives a candidate ``(G, N)``.

    Args:
        shares: Of every run of ids and candidate ``(P, N)``.
        runs: The runs.
        counts: Lookups of every id.
        ends: First id behind every group.
    """
    of_ids = shares[np.searchsorted(runs.ends, np.arange(len(counts)), side="right")]
    starts = [0, *ends[:-1]]
    worth: NDArray[np.float64] = np.add.reduceat(counts[:, None] * of_ids, starts, axis=0)
    return worth


def profiles(worth: NDArray[np.float64], candidates: Sequence[int]) -> dict[Profile, float]:
    """Every way to give groups widths, and what it is worth."""
    return {
        tuple(candidates[n] for n in way): float(sum(worth[g, n] for g, n in enumerate(way)))
        for way in product(range(len(candidates)), repeat=len(worth))
    }


def _shares(stage: "Stage", runs: dict[str, Runs]) -> dict[str, Any]:
    """What the controllers make of every run of ids in the end, ``(P, N)`` a field."""
    import torch

    from models.search.autoemb import Controller
    from service.checkpoint import StoredTensors, last_checkpoint
    from service.warm_up import EMBEDDINGS

    path = last_checkpoint(stage.folder / "checkpoints")
    assert path is not None  # a stage that has ended has left one
    stored = StoredTensors(path)
    prefix = f"{EMBEDDINGS}controller."
    state = {
        name.removeprefix(prefix): torch.from_numpy(stored.read(name))
        for name in stored.shapes
        if name.startswith(prefix)
    }
    num_fields, _, num_candidates = state["outer"].shape
    controller = Controller(num_fields, num_candidates)
    controller.load_state_dict(state)
    found = {}
    with torch.no_grad():
        for field, (name, own) in enumerate(runs.items()):
            levels = torch.tensor(own.levels)[:, None].expand(-1, num_fields)
            found[name] = controller(levels)[:, field].tolist()
    return found
