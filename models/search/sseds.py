"""SSEDS: which dimensions of which fields a loss would miss, told by one backward pass.

A mask multiplies every row of field ``i`` at dimension ``j``; at a trained model, where all of it
is 1, the gradient of the loss with respect to it says what removing the dimension would change. It
needs no gradient of the tables: ``g_ij`` is the sum over examples of ``dL/de_ij * e_ij``, with
``e`` the vectors that were looked up.

Source:
    Qu et al., *Single-shot Embedding Dimension Search in Recommender System*, SIGIR 2022,
    arXiv:2204.03281: saliencies ``|g| / sum |g|``, the ``kappa`` largest pairs stay. What follows
    under a budget of bytes, in groups of columns and with signs is not the paper's.
"""

# Legend:  F fields, D dimensions of each; g gradient of the mask, s saliency; a pair is (i, j)

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]


def mask_gradient(vectors: Floats, gradients: Floats) -> Floats:
    """Gradient of a field's mask ``(D,)`` from vectors and their gradients ``(B, D)``."""
    summed: Floats = np.einsum("bd,bd->d", vectors, gradients)
    return summed


def saliency(gradient: Floats) -> Floats:
    """``|g| / sum |g|``, of all fields together ``(F, D)``; where nothing matters all are 0."""
    size = np.abs(gradient)
    return size / (size.sum() or 1.0)


def signed_saliency(gradient: Floats) -> Floats:
    """``-g / sum |g|`` where removing a pair raises the loss, 0 where it lowers it ``(F, D)``.

    The loss falls with the mask where ``g`` is negative: such a dimension is of use. The paper's
    ``|g|`` also keeps those that do harm.
    """
    return np.maximum(-gradient, 0.0) / (np.abs(gradient).sum() or 1.0)


def largest_pairs(salient: Floats, kappa: int) -> Masks:
    """The ``kappa`` largest pairs; of equals the first ones, and none of no saliency ``(F, D)``.

    Raises:
        ValueError: If there are not as many pairs.
    """
    if not 0 < kappa <= salient.size:
        raise ValueError(f"kappa={kappa} pairs, expected 1 to {salient.size}")
    order = np.argsort(-salient, axis=None, kind="stable")
    mask = np.zeros(salient.size, dtype=bool)
    mask[order[:kappa]] = True
    kept: Masks = mask.reshape(salient.shape) & (salient > 0)
    return kept


def largest_groups(salient: Floats, kappa: int, size: int) -> Masks:
    """Whole groups of columns, as many as ``kappa`` pairs make ``(F, D)``.

    The columns of a field are sorted by saliency and cut into groups of ``size``, which stay or go
    by the sum of theirs: the kernels then need no rounding.

    Raises:
        ValueError: If ``kappa`` makes no group, or ``D`` is no multiple of ``size``.
    """
    num_fields, width = salient.shape
    if width % size:
        raise ValueError(f"fields of {width} columns cannot be cut into groups of {size}")
    order = np.argsort(-salient, axis=1, kind="stable")  # (F, D)
    sums = np.take_along_axis(salient, order, axis=1).reshape(num_fields, -1, size).sum(axis=2)
    kept = largest_pairs(sums, kappa // size).repeat(size, axis=1)
    mask = np.zeros_like(kept)
    np.put_along_axis(mask, order, kept, axis=1)
    return mask


def best_columns(salient: Floats, width: int) -> tuple[int, ...]:
    """The most salient columns of a field ``(D,)``, in their own order."""
    order = np.argsort(-salient, kind="stable")[:width]
    return tuple(sorted(int(column) for column in order))


def worth(salient: Floats, widths: Sequence[int]) -> dict[int, float]:
    """What a field's ``(D,)`` most salient columns add up to, by width."""
    kept = np.concatenate([[0.0], np.cumsum(np.sort(salient)[::-1])])
    return {width: float(kept[width]) for width in widths}


def walk(
    worths: Mapping[str, Mapping[int, float]],
    costs: Mapping[str, Mapping[int, int]],
    budget: int,
    *,
    per_cost: bool = False,
) -> dict[str, int]:
    """Widen fields in the order of saliency as long as the budget pays; the others are skipped.

    Args:
        worths: By field, the saliency of its columns by width.
        costs: What they cost, of the same widths.
        budget: What all may cost.
        per_cost: Go by saliency per cost instead of saliency per column.

    Returns:
        Widths; 0 for fields that get none. Columns without saliency are never paid for.
    """
    widths = dict.fromkeys(worths, 0)
    waiting: list[tuple[float, int, str, int]] = []

    def cost_of(name: str, width: int) -> int:
        return costs[name][width] - costs[name].get(widths[name], 0)

    def offer(place: int, name: str, beyond: int) -> None:
        width = min((width for width in worths[name] if width > beyond), default=None)
        if width is None:
            return
        gain = worths[name][width] - worths[name].get(widths[name], 0.0)
        if gain > 0:
            unit = max(cost_of(name, width), 1) if per_cost else width - widths[name]
            heapq.heappush(waiting, (-gain / unit, place, name, width))

    for place, name in enumerate(worths):
        offer(place, name, 0)
    spent = 0
    while waiting:
        _, place, name, width = heapq.heappop(waiting)
        cost = cost_of(name, width)
        if spent + cost <= budget:
            spent, widths[name] = spent + cost, width
        offer(place, name, width)  # in any case: the full width needs no projection, and may fit
    return widths
