"""``mixdim search dpq`` and ``mgqe``: rows that become codes, learned in one training, exported."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeVar

from pydantic import ConfigDict

from models.embeddings.coded import DPQChoice, MGQEChoice, Variant
from models.tables import PlanError
from service.compare.figures import figures_of_tables
from service.search.methods.base import Found

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage

Choice = TypeVar("Choice", DPQChoice, MGQEChoice)

DEFAULT_GROUPS: Final = 4
"""Codes of a vector where neither a budget nor the user says how many."""
CODES: Final = "codes"
"""Folder of the export, and name of the stage that writes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DPQSearch:
    """DPQ: a few codes an id instead of its row; the budget is for what is served."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = False

    kind: Literal["dpq"] = "dpq"

    variant: Variant = "vq"
    """By distance, the values being the keys; or by products, with values of their own."""

    codes: int = 16
    """Keys a group: a power of two, 2 to 256."""

    groups: int = 0
    """Codes of a vector, a divisor of --dim; 0 for as many as the budget pays for, and 4 without
    one."""

    shares_groups: bool = False
    """Whether all parts of a vector have the same keys and values."""

    temperature: float = 1.0
    """Of the softmax behind which products are learned; ``sx`` alone."""

    def __post_init__(self) -> None:
        self._choice(self.groups or DEFAULT_GROUPS)  # raises where there is none

    def run(self, search: "Search") -> Found:
        """Take as many groups as fit; their codes are learned by the training that follows."""
        return _found(self._choice, self.groups, search)

    def _choice(self, groups: int) -> DPQChoice:
        return DPQChoice(
            groups=groups,
            variant=self.variant,
            codes=self.codes,
            shares_groups=self.shares_groups,
            temperature=self.temperature,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MGQESearch:
    """MGQE: like dpq, but rare ids choose among fewer codes; the budget is for what is served."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = False

    kind: Literal["mgqe"] = "mgqe"

    codes: int = 256
    """Keys a group, of which frequent ids choose one: a power of two, 2 to 256."""

    tail_codes: int = 64
    """Keys, the first ones, of which rare ids choose one: a power of two, below ``codes``."""

    head_ratio: float = 0.1
    """Share of ids that count as frequent; in (0, 1)."""

    groups: int = 0
    """Codes of a vector, a divisor of --dim; 0 for as many as the budget pays for, and 4 without
    one."""

    shares_groups: bool = False
    """Whether all parts of a vector have the same keys."""

    def __post_init__(self) -> None:
        self._choice(self.groups or DEFAULT_GROUPS)  # raises where there is none

    def run(self, search: "Search") -> Found:
        """Take as many groups as fit; their codes are learned by the training that follows."""
        return _found(self._choice, self.groups, search)

    def _choice(self, groups: int) -> MGQEChoice:
        return MGQEChoice(
            groups=groups,
            codes=self.codes,
            tail_codes=self.tail_codes,
            head_ratio=self.head_ratio,
            shares_groups=self.shares_groups,
        )


def _found(make: Callable[[int], Choice], groups: int, search: "Search") -> Found:
    lists = tuple(field.stats.name for field in search.info.fields if field.is_list)
    sizing = search.uniform()
    plan = replace(sizing.plan, join=search.config.train.network.join)

    def choice_of(groups: int) -> Choice:
        return replace(make(groups), whole_fields=lists)

    choice = choice_of(groups or DEFAULT_GROUPS)
    if search.budget_bytes is not None:
        dim = search.config.dim
        asked = [groups] if groups else [g for g in range(dim, 0, -1) if not dim % g]
        sizes = {each: choice_of(each).serving_bytes(plan) for each in asked}
        fitting = [each for each, size in sizes.items() if size <= search.budget_bytes]
        if not fitting:
            raise _too_small(search.budget_bytes, min(sizes.values()))
        choice = choice_of(fitting[0])
    figures = figures_of_tables(
        choice.layout(plan).tables(),
        search.config.train.optimizer.sparse,
        num_others=choice.num_others(plan),
        serving_bytes=choice.serving_bytes(plan),
    )
    return Found(
        sizing=sizing,
        embeddings=choice,
        figures=figures,
        notes={"groups": choice.groups, "coded": [table.field for table in choice.coded(plan)]},
        export=lambda stage: _export(stage, search),
    )


def _too_small(budget_bytes: int, needed: int) -> PlanError:
    return PlanError(
        f"budget of {budget_bytes:,} bytes is too small: codes, their values, and the tables that "
        f"have none take {needed:,} bytes when they are served; give --budget {needed}, or fewer "
        f"codes: --method.codes",
        needed_bytes=needed,
    )


def _export(stage: "Stage", search: "Search") -> tuple[dict[str, int], int]:
    from service.export_codes import export_codes

    return {"serving_bytes": export_codes(stage.folder, search.folder / CODES)}, 0
