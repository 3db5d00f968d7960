"""``mixdim search spectral``: a uniform training, and what its directions save on validation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.sizing import Spectral
from service.search.methods.base import Found

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class SpectralSearch:
    """Ours: widths by what the directions of a uniform training save; retrained from them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kind: Literal["spectral"] = "spectral"

    epochs: int = 0
    """Epochs of the uniform training; 0 for as many as the plan is trained for."""

    energy: float = 0.99
    """Share of what tables save of the loss that is kept without a budget."""

    start: Literal["warm", "fresh"] = "warm"
    """What the plan is trained from: the uniform training's truncated SVD, or nothing."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs={self.epochs}, expected 0 or more; try 1")
        Spectral(energy=self.energy)  # raises where it is no share

    def run(self, search: "Search") -> Found:
        """Train uniformly, measure, size."""
        search.check_validation(self.kind)
        changes = {"epochs": self.epochs} if self.epochs else {}
        base = search.train("base", search.uniform(), **changes)
        spectra = search.measure("spectra", lambda: _spectra(search, base))
        scheme = Spectral(
            energy=self.energy,
            warm_up=str(base.folder),
            warm_up_seconds=base.seconds,
            warm_up_examples=base.examples,
            spectra=spectra,
        )
        sizing = search.size(scheme)
        retrain = {"warm_start": base.folder} if self.start == "warm" else {}
        return Found(sizing=sizing, values=scheme.values(sizing.plan), retrain=retrain)


def _spectra(search: "Search", base: "Stage") -> tuple[dict[str, list[float]], int]:
    from service.probe import SAMPLE_EXAMPLES
    from service.spectral import measure_spectra, runs_of
    from service.warm_up import WarmUp

    data, splits = search.config.train.data, search.info.splits
    offsets = {stats.name: [0, stats.num_embeddings] for stats in search.fields}
    found = measure_spectra(WarmUp(base.folder), data, runs_of(offsets))
    looked_at = (min(SAMPLE_EXAMPLES, splits[name].num_rows) for name in ("train", "validation"))
    return found, sum(looked_at)
