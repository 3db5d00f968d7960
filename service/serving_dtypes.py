"""What a serving budget would buy in other dtypes: the same request, solved for each of them.

There is no currency in which a dtype and a width have a price each: what rounding costs is known
when a trained model is scored, by ``mixdim evaluate --dtype``. So dtypes are shown, not chosen.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from models.sizing import ServingDtype
from models.sizing.serving import WEIGHT_BITS
from service.sizing import SizingFile, sizing_bytes
from service.sizing_request import SizingRequest, size_dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Bought:
    """What the bytes of a budget are in one dtype."""

    embedding_params: int
    narrowest: int
    widest: int
    serving_bytes: int

    @classmethod
    def of(cls, sizing: SizingFile) -> "Bought":
        """What a plan is."""
        cost, dims = sizing_bytes(sizing), sizing.plan.dims().values()
        return cls(
            embedding_params=cost.embedding_params,
            narrowest=min(dims),
            widest=max(dims),
            serving_bytes=cost.serving_bytes,
        )


def bought_by_dtype(
    folder: Path, request: SizingRequest, sizing: SizingFile
) -> dict[ServingDtype, Bought | None]:
    """What a serving budget buys in every dtype; None where nothing fits or no width is taken.

    Args:
        folder: Dataset folder.
        request: What was asked for, with a budget for serving.
        sizing: The answer to it.
    """
    bought: dict[ServingDtype, Bought | None] = {}
    for dtype in WEIGHT_BITS:
        if dtype == sizing.dtype:
            bought[dtype] = Bought.of(sizing)
            continue
        try:
            bought[dtype] = Bought.of(size_dataset(folder, replace(request, dtype=dtype)))
        except ValueError:  # a PlanError is one
            bought[dtype] = None
    return bought
