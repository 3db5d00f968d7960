"""``mixdim search sseds``: a uniform training, a backward pass, the dimensions that matter."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict

from models.search.sseds import (
    Floats,
    best_columns,
    largest_groups,
    largest_pairs,
    saliency,
    signed_saliency,
    walk,
    worth,
)
from models.sizing.rounding import round_up, width_grid
from models.sizing.searched import Searched
from models.tables import WIDTH_STEP
from service.search.methods.base import Found
from service.sizing import SizingFile

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class SSEDS:
    """Dimensions that the loss would miss, by one backward pass through a uniform training."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kind: Literal["sseds"] = "sseds"

    epochs: int = 0
    """Epochs of the uniform training, at most; it stops at the first validation that is no better.
    0 for as many as the plan is trained for."""

    split: Literal["train", "validation"] = "train"
    """Whose examples say what dimensions are to the loss; the paper's are those of training."""

    examples: int = 1 << 17
    """How many of them, at most; never more than a tenth of what the uniform training has seen, so
    that the search costs no more than 1.1 of it."""

    signed: bool = False
    """Count only what lowers the loss, instead of all that changes it."""

    pairs: float = 0.25
    """Share of all pairs of field and dimension that stay without a budget of bytes."""

    group: Literal[1, 4] = 1
    """Columns of a field that stay or go together; 4 fills the kernels' rows."""

    spend: Literal["exact", "saliency", "saliency_per_byte"] = "exact"
    """How a budget of bytes is spent: the largest sum of saliencies, or greedily in their order."""

    start: Literal["auto", "warm", "fresh"] = "auto"
    """What the plan is trained from: the columns that stay, or nothing. By default warm where
    fields are projected, fresh where they are padded (mf, dotbias)."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs={self.epochs}, expected 0 or more; try 1")
        if self.examples < 1:
            raise ValueError(f"examples={self.examples}, expected at least 1; try 131072")
        if not 0 < self.pairs <= 1:
            raise ValueError(f"pairs={self.pairs}, expected in (0, 1]; try 0.25")

    @property
    def needs_validation(self) -> bool:
        """Whether validation examples say what is salient."""
        return self.split == "validation"

    def run(self, search: "Search") -> Found:
        """Train uniformly, look back once, keep what is salient."""
        self._check(search)
        widths = [w for w in width_grid("mult4", 1, search.config.dim) if w % self.group == 0]
        if self.spend == "exact":
            search.check_budget(widths)
        if not search.info.has_rows("validation"):
            logger.warning(
                "%s has no validation examples: the base trains all of its epochs, and saliencies "
                "of what it has learned by heart say little",
                search.config.train.data,
            )
        changes = {"epochs": self.epochs} if self.epochs else {}
        base = search.train("base", search.uniform(), patience=1, **changes)
        gradient = search.measure("saliency", lambda: self._gradient(search, base))
        names = [stats.name for stats in search.fields]
        gradients = np.array([gradient[name] for name in names])  # (F, D)
        rows = (signed_saliency if self.signed else saliency)(gradients)
        salient = dict(zip(names, rows, strict=True))
        worths = {name: worth(row, widths) for name, row in salient.items()}
        sizing = self._sized(search, salient, worths)
        columns = {
            name: best_columns(salient[name], blocks[0].embedding_dim)
            for name, blocks in sizing.fields.items()
        }
        retrain: dict[str, Any] = {}
        if self._is_warm(search):
            retrain = {"warm_start": base.folder, "warm_columns": columns}
        notes = {"gradient": gradient, "columns": {name: [*kept] for name, kept in columns.items()}}
        return Found(sizing=sizing, values=worths, notes=notes, retrain=retrain)

    def _check(self, search: "Search") -> None:
        if search.config.dim % max(self.group, WIDTH_STEP):
            raise ValueError(
                f"--dim {search.config.dim}, expected a multiple of {WIDTH_STEP}; try "
                f"{round_up(max(search.config.dim, WIDTH_STEP))}"
            )
        if self.start == "warm" and search.config.train.network.join == "pad":
            raise ValueError(
                "--method.start warm keeps columns that differ by field, and this network pads "
                "fields, whose columns belong together; give --network.join project or "
                "--method.start fresh"
            )

    def _is_warm(self, search: "Search") -> bool:
        pads = search.config.train.network.join == "pad"
        return self.start == "warm" or (self.start == "auto" and not pads)

    def _gradient(self, search: "Search", base: "Stage") -> tuple[dict[str, list[float]], int]:
        from service.saliency import mask_gradients
        from service.warm_up import WarmUp

        num_examples = max(1, min(self.examples, base.examples // 10))
        data = search.config.train.data
        return mask_gradients(WarmUp(base.folder), data, self.split, num_examples)

    def _sized(
        self,
        search: "Search",
        salient: Mapping[str, Floats],
        worths: Mapping[str, Mapping[int, float]],
    ) -> SizingFile:
        asked = self._by_pairs(salient)
        if search.budget_bytes is None:
            return search.fixed(*_kept(asked, salient, {}))
        if self.spend == "exact":
            scheme, _ = _kept(asked, salient, worths)
            return search.size(scheme)
        found = walk(
            worths,
            search.costs(list(next(iter(worths.values())))),
            search.budget_bytes,
            per_cost=self.spend == "saliency_per_byte",
        )
        return search.fixed(*_kept(found, salient, {}))

    def _by_pairs(self, salient: Mapping[str, Floats]) -> dict[str, int]:
        """Dimensions of every field by the paper's rule."""
        rows = np.stack(list(salient.values()))
        kappa = max(self.group, round(self.pairs * rows.size))
        mask = largest_groups(rows, kappa, 4) if self.group == 4 else largest_pairs(rows, kappa)
        return dict(zip(salient, mask.sum(axis=1).tolist(), strict=True))


def _kept(
    widths: Mapping[str, int],
    salient: Mapping[str, Floats],
    worths: Mapping[str, Mapping[int, float]],
) -> tuple[Searched, Sequence[str]]:
    """A scheme, and the fields that keep any column."""
    reasons = {
        name: f"{widths[name]} of {len(row)} columns asked for, {row.sum():.1%} of all saliency"
        for name, row in salient.items()
    }
    scheme = Searched(method="sseds", asked=widths, worth=worths, reasons=reasons)
    kept = [name for name, width in widths.items() if width]
    if not kept:
        first = next(iter(widths))
        raise ValueError(
            f"no column of any field, {first!r} among them, has a saliency that pays; train the "
            f"base longer, or give a larger budget"
        )
    return scheme, kept
