"""Widths by evolution: the best choices of a generation change a little, and mix.

Source:
    Guo et al., *Single Path One-Shot Neural Architecture Search with Uniform Sampling*, ECCV 2020,
    arXiv:1904.00420, algorithm 1, as OptEmbed takes it over (see `models.search.optembed`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.search.random_search import Costs, draw

logger = logging.getLogger(__name__)

Genes = tuple[int, ...]
"""Widths in the order of the fields. A tuple: a child never changes what its parents are."""

MOST_TRIES: Final = 50
"""Children of one kind that are made in search of one that fits and is new."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generations:
    """How many choices are tried, and how they come about."""

    rounds: int = 30
    """Generations after the first one, which is drawn at random."""
    mutations: int = 10
    """Children of one parent each."""
    crossovers: int = 10
    """Children of two."""
    parents: int = 15
    """Best choices so far, which the next generation comes from."""
    mutation_ratio: float = 0.1
    """Share of its widths that a mutation draws anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evolved:
    """What evolution has come to."""

    widths: dict[str, int]
    """By field, those of the best choice."""
    score: float
    num_scored: int
    """Different choices that were judged."""
    best_scores: list[float]
    """Best so far after every generation."""


class Evolution:
    """A population of choices within a budget.

    Args:
        costs: What widths cost; costs of fields add up.
        budget_bytes: What a choice may cost, None for anything.
        rng: Where chance comes from.
        generations: How many choices, and how they come about.
    """

    def __init__(
        self,
        costs: Costs,
        budget_bytes: int | None,
        rng: np.random.Generator,
        generations: Generations,
    ) -> None:
        self._costs, self._budget, self._rng = costs, budget_bytes, rng
        self._how = generations
        self._fields = list(costs)
        self._widths = [sorted(of) for of in costs.values()]
        self.scores: dict[Genes, float] = {}

    def run(self, score: Callable[[Mapping[str, int]], float]) -> Evolved:
        """Judge generation after generation, and log every one.

        Of choices that score the same the cheaper one is better.

        Args:
            score: How good a choice is, more is better; asked once for every choice.

        Raises:
            PlanError: If not even the cheapest choice fits the budget.
        """
        children = [self.drawn() for _ in range(self._how.mutations + self._how.crossovers)]
        best_scores = []
        for generation in range(self._how.rounds + 1):
            for child in dict.fromkeys(children):
                if child not in self.scores:
                    self.scores[child] = score(self._named(child))
            parents = sorted(self.scores, key=self._rank)[: self._how.parents]
            best_scores.append(self.scores[parents[0]])
            logger.info(
                "generation %d of %d: %d choices tried, the best %.6g",
                *(generation, self._how.rounds, len(self.scores), best_scores[-1]),
            )
            children = self.children(parents)
        best = min(self.scores, key=self._rank)
        return Evolved(
            widths=self._named(best),
            score=self.scores[best],
            num_scored=len(self.scores),
            best_scores=best_scores,
        )

    def children(self, parents: Sequence[Genes]) -> list[Genes]:
        """A generation: all within the budget, and new as far as that can be had."""
        mutants = [self._new(lambda: self.mutated(parents)) for _ in range(self._how.mutations)]
        mixed = [self._new(lambda: self.crossed(parents)) for _ in range(self._how.crossovers)]
        return mutants + mixed

    def drawn(self) -> Genes:
        """One of all choices within the budget, all equally likely."""
        return tuple(draw(self._costs, self._budget, self._rng).values())

    def mutated(self, parents: Sequence[Genes]) -> Genes:
        """One parent, every width drawn anew by a small chance."""
        parent = parents[int(self._rng.integers(len(parents)))]
        changes = self._rng.random(len(parent)) < self._how.mutation_ratio
        return tuple(
            int(self._rng.choice(widths)) if change else width
            for width, widths, change in zip(parent, self._widths, changes, strict=True)
        )

    def crossed(self, parents: Sequence[Genes]) -> Genes:
        """Two parents, every width that of one of them."""
        one, other = (parents[int(self._rng.integers(len(parents)))] for _ in range(2))
        takes = self._rng.random(len(one)) < 0.5
        return tuple(np.where(takes, one, other).tolist())

    def cost(self, genes: Genes) -> int:
        """Bytes of a choice."""
        return sum(of[width] for of, width in zip(self._costs.values(), genes, strict=True))

    def _new(self, make: Callable[[], Genes]) -> Genes:
        known = None
        for _ in range(MOST_TRIES):
            child = make()
            if self._budget is None or self.cost(child) <= self._budget:
                if child not in self.scores:
                    return child
                known = child
        return known or self.drawn()

    def _rank(self, genes: Genes) -> tuple[float, int, Genes]:
        return -self.scores[genes], self.cost(genes), genes

    def _named(self, genes: Genes) -> dict[str, int]:
        return dict(zip(self._fields, genes, strict=True))
