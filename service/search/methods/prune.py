"""``mixdim search prune``: uniform tables without their smallest weights, the others retrained."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import ConfigDict

from models.embeddings.pruning import PrunedChoice
from models.sparse import smallest_format
from models.tables import FLOAT_BYTES, PlanError
from service.compare.figures import figures_of_tables
from service.search.methods.base import Found

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage

EXPORT: Final = "sparse"
"""Folder of the export."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prune:
    """Uniform tables without their smallest weights; the budget is for what is served."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = False

    kind: Literal["prune"] = "prune"

    epochs: int = 0
    """Epochs of the uniform training; 0 for as many as the pruned tables are trained for."""

    keep: float = 0.1
    """Share of the weights that stay without a budget."""

    start: Literal["warm", "fresh"] = "warm"
    """What the weights that stay are trained on from: as they are, or as they once started."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs={self.epochs}, expected 0 or more; try 1")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep}, expected in (0, 1]; try 0.1")

    def run(self, search: "Search") -> Found:
        """Train uniformly, find the magnitude that leaves enough out, train on without the rest."""
        sizes = _Sizes(search)
        sizes.check(search.budget_bytes)
        uniform = search.uniform()
        changes = {"epochs": self.epochs} if self.epochs else {}
        base = search.train("base", uniform, **changes)
        cut = search.measure("threshold", partial(self._cut, search, base, sizes))
        formats = {name: sizes.smallest(name, num) for name, num in cut["kept"].items()}
        thresholds = {
            name: cut["threshold"]
            for name, (form, _) in formats.items()
            if form != "dense" and cut["threshold"]
        }
        kept = {name: cut["kept"][name] for name in thresholds}
        figures = figures_of_tables(
            uniform.plan.tables(),
            search.config.train.optimizer.sparse,
            serving_bytes=sizes.total(cut["kept"]),
        )
        stored = figures["embedding_params"] - sum(sizes.weights(f) - n for f, n in kept.items())
        return Found(
            sizing=uniform,
            embeddings=PrunedChoice(thresholds=thresholds, start=self.start),
            figures=figures
            | {"embedding_params": stored, "embedding_and_projection_params": stored},
            notes={
                "threshold": cut["threshold"],
                "kept": kept,
                "formats": {name: form for name, (form, _) in formats.items()},
            },
            retrain={"warm_start": base.folder},
            export=lambda stage: _export(stage, search),
        )

    def _cut(self, search: "Search", base: "Stage", sizes: "_Sizes") -> tuple[Any, int]:
        from service.pruning import lowest_cut
        from service.warm_up import WarmUp

        budget = search.budget_bytes
        most = self.keep * sum(map(sizes.weights, sizes.prunable))

        def fits(kept: Mapping[str, int]) -> bool:
            return sum(kept.values()) <= most if budget is None else sizes.total(kept) <= budget

        cut = lowest_cut(WarmUp(base.folder), sizes.prunable, fits)
        assert cut is not None  # nothing fits: the budget has been checked
        return {"threshold": cut.threshold, "kept": cut.kept}, 0


class _Sizes:
    """What uniform tables take when some of their weights are left out.

    Attributes:
        prunable: Fields that may lose weights: those of one id an example.
    """

    def __init__(self, search: "Search") -> None:
        self._rows = {stats.name: stats.num_embeddings for stats in search.fields}
        self._dim = search.config.dim
        lists = {field.stats.name for field in search.info.fields if field.is_list}
        self.prunable = [name for name in self._rows if name not in lists]
        self._whole = FLOAT_BYTES * sum(map(self.weights, lists & self._rows.keys()))

    def check(self, budget_bytes: int | None) -> None:
        """Refuse a budget that not even tables without any weight would fit.

        Raises:
            PlanError: If it is one.
        """
        least = self.total(dict.fromkeys(self.prunable, 0))
        if budget_bytes is not None and budget_bytes < least:
            raise PlanError(
                f"budget of {budget_bytes:,} bytes is too small: tables of lists, which stay "
                f"whole, and tables without any weight take {least:,} bytes; give --budget "
                f"{least}, or a narrower --dim",
                needed_bytes=least,
            )

    def weights(self, field: str) -> int:
        """Weights of a field's whole table."""
        return self._rows[field] * self._dim

    def smallest(self, field: str, kept: int) -> tuple[str, int]:
        """The smallest format of a field's table with so many weights, and its bytes."""
        return smallest_format(self._rows[field], self._dim, kept)

    def total(self, kept: Mapping[str, int]) -> int:
        """Bytes of all tables, each in its smallest format."""
        return self._whole + sum(self.smallest(name, num)[1] for name, num in kept.items())


def _export(stage: "Stage", search: "Search") -> tuple[dict[str, int], int]:
    from service.export_sparse import export_sparse

    return {"serving_bytes": export_sparse(stage.folder, search.folder / EXPORT)}, 0
