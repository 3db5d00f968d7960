"""``mixdim search prune-regrow``: spectral widths, narrowed in rounds and weighed up anew."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.sizing import Spectral
from service.search.methods.base import Found
from service.search.methods.spectral import check_budget, offsets_of, spectra_of, values_of
from service.sizing import SizingFile, sizing_bytes

if TYPE_CHECKING:
    from service.search.search import Search

Spectra = Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneRegrow:
    """Spectral widths in rounds: narrower tables are trained on, and measured again."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = True

    kind: Literal["prune-regrow"] = "prune-regrow"

    epochs: int = 0
    """Epochs of the uniform training; 0 for as many as the plan is trained for."""

    rounds: int = 1
    """Plans on the way; the first is narrower than uniform, the last takes the budget's bytes."""

    share: float = 0.25
    """Steps of a round, as a share of those of the uniform training."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs={self.epochs}, expected 0 or more; try 1")
        if self.rounds < 1:
            raise ValueError(f"rounds={self.rounds}, expected at least 1; try 2")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share}, expected in (0, 1]; try 0.25")

    def run(self, search: "Search") -> Found:
        """Train uniformly, then narrow, train and measure in turns."""
        offsets = offsets_of(search)
        check_budget(search, offsets)
        changes = {"epochs": self.epochs} if self.epochs else {}
        uniform = search.uniform()
        last = search.train("base", uniform, **changes)
        global_batch = search.config.train.batch_size * search.config.train.nproc
        steps = max(1, round(self.share * last.examples / global_batch))
        spectra: Spectra = search.measure("spectra-0", partial(spectra_of, search, last, offsets))
        for turn in range(1, self.rounds + 1):
            limit = self._limit(search, uniform, turn)
            sizing = search.size(Spectral(spectra=spectra), budget_bytes=limit)
            last = search.train(f"round-{turn}", sizing, warm_start=last.folder, max_steps=steps)
            found = search.measure(f"spectra-{turn}", partial(spectra_of, search, last, offsets))
            spectra = regrown(found, spectra, sizing.plan.dims())
        scheme = Spectral(
            warm_up=str(last.folder),
            warm_up_seconds=sum(stage.seconds for stage in search.stages),
            warm_up_examples=sum(stage.examples for stage in search.stages),
            spectra=spectra,
        )
        sizing = search.size(scheme)
        retrain = {"warm_start": last.folder}
        return Found(sizing=sizing, values=values_of(spectra), retrain=retrain)

    def _limit(self, search: "Search", uniform: SizingFile, turn: int) -> int | None:
        """Bytes of a round: from uniform to the budget by equal factors."""
        if search.budget_bytes is None:
            return None
        whole = sizing_bytes(uniform).training_bytes
        ratio = math.log(whole / search.budget_bytes) * (self.rounds - turn) / self.rounds
        return round(search.budget_bytes * math.exp(ratio))


def regrown(found: Spectra, before: Spectra, dims: Mapping[str, int]) -> dict[str, list[float]]:
    """What directions save, those that a narrower table has left out as they were measured before.

    A field that is concatenated as it is has no room for what was left out.

    Args:
        found: Measured on the narrower tables, as many as the model's vectors of a field have.
        before: Measured when more directions were there.
        dims: How many are there now.
    """
    return {
        name: [*spectrum[: dims[name]], *before[name][dims[name] : len(spectrum)]]
        for name, spectrum in found.items()
    }
