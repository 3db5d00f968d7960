"""``mixdim search spectral``: a uniform training, and what its directions save on validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict

from models.sizing import Spectral, equipartition
from service.data.lookups import lookups_per_id
from service.search.methods.base import Found

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage

Offsets = Mapping[str, Sequence[int]]
"""Of every field the ids at which its tables start, and the number of ids."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpectralSearch:
    """Ours: widths by what the directions of a uniform training save; retrained from them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = True

    kind: Literal["spectral"] = "spectral"

    epochs: int = 0
    """Epochs of the uniform training; 0 for as many as the plan is trained for."""

    energy: float = 0.99
    """Share of what tables save of the loss that is kept without a budget."""

    enough: float = 0.999
    """Share of it that a budget is spent for; what is left then stays unspent. 1 spends it all."""

    blocks: int = 4
    """Runs of equally many lookups that large fields are cut into, each with a width of its own; 1
    for one width a field."""

    block_rows: int = 1000
    """Ids that a field has at least to be cut."""

    rows: Literal["keep", "auto"] = "auto"
    """Keep all rows, or let a budget trade those of rare ids for width."""

    start: Literal["warm", "fresh"] = "warm"
    """What the plan is trained from: the uniform training's truncated SVD, or nothing."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("blocks", 1), ("block_rows", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}={value}, expected at least {least}")
        Spectral(energy=self.energy, enough=self.enough)  # raises where one is no share

    def run(self, search: "Search") -> Found:
        """Train uniformly, measure, size."""
        cut = [s.name for s in search.fields if s.num_embeddings >= self.block_rows]
        blocks = self.blocks if cut else 1
        offsets = offsets_of(search, cut, blocks)
        request: dict[str, Any] = {}
        if blocks > 1:
            request |= {"blocks": blocks, "block_fields": tuple(cut)}
        if search.budget_bytes is not None:
            request |= {"rows": self.rows}
        check_budget(search, offsets, **request)
        changes = {"epochs": self.epochs} if self.epochs else {}
        base = search.train("base", search.uniform(), **changes)
        spectra = search.measure("spectra", partial(spectra_of, search, base, offsets))
        scheme = Spectral(
            energy=self.energy,
            enough=self.enough,
            warm_up=str(base.folder),
            warm_up_seconds=base.seconds,
            warm_up_examples=base.examples,
            spectra=spectra,
        )
        sizing = search.size(scheme, **request)
        retrain = {"warm_start": base.folder} if self.start == "warm" else {}
        notes = {"spectra": spectra}
        return Found(sizing=sizing, values=values_of(spectra), notes=notes, retrain=retrain)


def offsets_of(search: "Search", cut: Sequence[str] = (), blocks: int = 1) -> Offsets:
    """Where the tables of every field start; ``cut`` ones have several."""
    data = search.config.train.data
    return {
        stats.name: equipartition(
            lookups_per_id(data, stats.name), min(blocks, stats.num_embeddings)
        )
        if stats.name in cut and blocks > 1
        else [0, stats.num_embeddings]
        for stats in search.fields
    }


def check_budget(search: "Search", offsets: Offsets, **request: Any) -> None:
    """Refuse a budget that no widths fit, before anything is trained.

    Raises:
        PlanError: If it is one.
    """
    from service.spectral import runs_of

    flat = {run.name: [1.0] * search.config.dim for run in runs_of(offsets)}
    search.size(Spectral(spectra=flat), **request)


def spectra_of(
    search: "Search", stage: "Stage", offsets: Offsets
) -> tuple[dict[str, list[float]], int]:
    """Loss that every direction of a stage's vectors saves, and how many examples it took."""
    from service.probe import SAMPLE_EXAMPLES
    from service.spectral import measure_spectra, runs_of
    from service.warm_up import WarmUp

    found = measure_spectra(WarmUp(stage.folder), search.config.train.data, runs_of(offsets))
    splits = (search.info.splits[name] for name in ("train", "validation"))
    return found, sum(min(SAMPLE_EXAMPLES, split.num_rows) for split in splits)


def values_of(spectra: Mapping[str, Sequence[float]]) -> dict[str, dict[int, float]]:
    """By table, the loss that every width saves."""
    return {
        name: {width: sum(spectrum[:width]) for width in range(1, len(spectrum) + 1)}
        for name, spectrum in spectra.items()
    }
