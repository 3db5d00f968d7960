"""The form every search has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from models.embeddings.choices import Embeddings, MixedChoice
from service.sizing import SizingFile

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a search ends in."""

    sizing: SizingFile
    """The plan; within the budget where there is one."""
    values: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """By field, what its widths are worth to the method; for the record."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What else the method has to say, as JSON; for the record."""
    retrain: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `TrainConfig` that the plan is trained with, such as what it starts from."""
    run: Path | None = None
    """A stage that has trained just this plan, which then needs no further training."""
    embeddings: Embeddings = field(default_factory=MixedChoice)
    """What looks ids up: the tables of the plan, or others in their stead."""
    figures: Mapping[str, int] = field(default_factory=dict)
    """The four figures of the embeddings, where they are not those of the plan."""
    export: "Callable[[Stage], tuple[Any, int]] | None" = None
    """What is made of the training of what was found, as a last stage that is measured."""


def candidates_up_to(dim: int, candidates: Sequence[int]) -> tuple[int, ...]:
    """The candidates that are no wider than the uniform tables, which are the last of them.

    Raises:
        ValueError: If there is no choice among them.
    """
    widths = tuple(sorted({width for width in candidates if width < dim} | {dim}))
    if len(widths) < 2:
        narrower = "--dim 4" if dim == 1 else f"--method.candidates 1 {dim}"
        raise ValueError(
            f"--dim {dim} leaves of the candidates {', '.join(map(str, candidates))} no other; "
            f"give {narrower}, or a wider --dim"
        )
    return widths


class SearchMethod(Protocol):
    """Find a plan by training; a frozen dataclass of options, tagged by ``kind``."""

    @property
    def kind(self) -> str:
        """Name of the method on the command line and in files."""

    @property
    def needs_validation(self) -> bool:
        """Whether it judges by validation examples, and data without any is refused."""

    def run(self, search: "Search") -> Found:
        """Search.

        Everything must follow from the configuration and its seed, so that a search that was killed
        finds the same when it is run again over the stages that it has finished.

        Args:
            search: What is asked; trains stages, measures, sizes.

        Raises:
            ValueError: If data, options and model do not fit each other.
            PlanError: If no plan fits the budget.
        """
