"""``mixdim search optembed``: one super-net of random prefixes, widths by evolution on it."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict

from models.search.choices import OptEmbedChoice
from models.search.evolution import Evolution, Generations
from models.sizing.base import check_width
from models.sizing.rounding import width_grid
from models.sizing.searched import Searched
from service.search.methods.base import Found

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class OptEmbed:
    """One training that shows random prefixes of vectors, and widths by evolution on it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = True

    kind: Literal["optembed"] = "optembed"

    candidates: tuple[int, ...] = ()
    """Widths that a field may have; all that the kernels take, up to --dim, by default."""

    epochs: int = 0
    """Epochs of the super-net; 0 for as many as the plan is trained for."""

    rounds: int = 30
    """Generations after the first one, which is drawn at random."""

    mutations: int = 10
    """Children of a generation that come from one parent."""

    crossovers: int = 10
    """Children that come from two."""

    parents: int = 15
    """Best choices so far, which a generation comes from."""

    mutation_ratio: float = 0.1
    """Share of its widths that a mutation draws anew."""

    examples: int = 1 << 16
    """Validation examples that a choice is judged by, at most."""

    def __post_init__(self) -> None:
        for width in self.candidates:
            check_width("candidates", width)
        for name, least in (("epochs", 0), ("rounds", 0), ("parents", 1), ("examples", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}={value}, expected at least {least}")
        if min(self.mutations, self.crossovers) < 0 or not self.mutations + self.crossovers:
            raise ValueError(
                f"mutations={self.mutations} and crossovers={self.crossovers}, expected some "
                f"children; try 10 of each"
            )
        if not 0 < self.mutation_ratio <= 1:
            raise ValueError(f"mutation_ratio={self.mutation_ratio}, expected in (0, 1]; try 0.1")

    def run(self, search: "Search") -> Found:
        """Train the super-net, let choices within the budget evolve on validation examples."""
        candidates = self._candidates(search.config.dim)
        search.check_budget(candidates)
        changes = {"epochs": self.epochs} if self.epochs else {}
        base = search.train(
            "super-net",
            search.uniform(),
            embeddings=OptEmbedChoice(candidates=candidates),
            **changes,
        )
        found = search.measure("evolution", lambda: self._evolve(search, base, candidates))
        sizing = search.fixed(Searched(method=self.kind, asked=found["widths"]))
        return Found(sizing=sizing, notes=found)

    def _candidates(self, dim: int) -> tuple[int, ...]:
        """Widths up to that of the super-net, rising.

        Raises:
            ValueError: If there are none.
        """
        asked = sorted(set(self.candidates)) or width_grid("mult4", 1, dim)
        fitting = tuple(width for width in asked if width <= dim)
        if not fitting:
            raise ValueError(
                f"candidates={self.candidates} are all wider than --dim {dim}; give "
                f"--dim {max(self.candidates)}"
            )
        return fitting

    def _evolve(
        self, search: "Search", base: "Stage", candidates: tuple[int, ...]
    ) -> tuple[dict[str, Any], int]:
        """The widths that validate best, and the number of examples that all choices saw."""
        from service.prefix_quality import PrefixQuality
        from service.warm_up import WarmUp

        quality = PrefixQuality(
            WarmUp(base.folder), search.config.train.data, "validation", self.examples
        )
        generations = Generations(
            rounds=self.rounds,
            mutations=self.mutations,
            crossovers=self.crossovers,
            parents=self.parents,
            mutation_ratio=self.mutation_ratio,
        )
        evolution = Evolution(
            search.costs(candidates), search.budget_bytes, search.rng(self.kind), generations
        )
        found = evolution.run(quality)
        return asdict(found), found.num_scored * quality.num_examples
