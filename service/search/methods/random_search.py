"""``mixdim search random``: random widths, several times; the best on validation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import ConfigDict

from models.search.random_search import draw
from models.sizing.base import check_width
from models.sizing.searched import Searched
from service.search.methods.base import Found

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage

MOST_DRAWS: Final = 100
"""Draws in search of a plan that was not tried yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomSearch:
    """Random widths within the budget, several trials, the best on validation."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = True

    kind: Literal["random"] = "random"

    candidates: tuple[int, ...] = (2, 8, 16, 24, 32)
    """Widths that a field may draw; those above --dim are left out."""

    trials: int = 5
    """Plans that are trained."""

    examples: int = 0
    """Examples that all trials together may see, so that others are not outspent; there is always
    one trial, and more as long as one like the last still fits. 0 to go by --method.trials."""

    def __post_init__(self) -> None:
        for width in self.candidates:
            check_width("candidates", width)
        if not self.candidates:
            raise ValueError("candidates=(), expected widths; try 2 8 16 24 32")
        if self.trials < 1:
            raise ValueError(f"trials={self.trials}, expected at least 1; try 5")
        if self.examples < 0:
            raise ValueError(f"examples={self.examples}, expected 0 or more")

    def run(self, search: "Search") -> Found:
        """Train random plans and take the one that validates best; the first one of equals."""
        widths = sorted({width for width in self.candidates if width <= search.config.dim})
        if not widths:
            raise ValueError(
                f"candidates={self.candidates} are all wider than --dim {search.config.dim}; give "
                f"--dim {max(self.candidates)}"
            )
        rng, costs = search.rng(self.kind), search.costs(widths)
        tried: dict[tuple[int, ...], Stage] = {}
        best: tuple[float, Found] | None = None
        while self._goes_on(list(tried.values())):
            for _ in range(MOST_DRAWS):
                chosen = draw(costs, search.budget_bytes, rng)
                if tuple(chosen.values()) not in tried:
                    break
            else:
                break
            sizing = search.fixed(Searched(method=self.kind, asked=chosen))
            stage = search.train(f"trial-{len(tried)}", sizing)
            tried[tuple(chosen.values())] = stage
            if best is None or stage.score > best[0]:
                best = stage.score, Found(sizing=sizing, run=stage.folder)
        assert best is not None  # a first trial is never refused
        return best[1]

    def _goes_on(self, stages: "list[Stage]") -> bool:
        if not stages:
            return True
        if not self.examples:
            return len(stages) < self.trials
        spent = sum(stage.examples for stage in stages)
        return spent + stages[-1].examples <= self.examples
