"""Dense layers of a warm-up for a model whose vectors are rotated or narrower ones."""

# Shapes:  D width of a field's vectors in the warm-up, T in the new model, H outputs of a layer

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from service.train.warm_bases import Rotations


def fitting_layers(
    layers: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    widths: Mapping[str, int],
    rotations: Rotations,
) -> dict[str, Tensor] | None:
    """The warm-up's layers as the new model can take them; None where one of them cannot be taken.

    A layer that reads all fields side by side, and dense inputs behind them, is folded with the
    rotations: what it says of a vector it then says of the rotated one. Layers that have the same
    shape are taken as they are (vectors that were turned without getting narrower leave no way to
    tell which those are). A layer of the old model on top of one that starts anew would know
    nothing of its inputs, so it is all of them or none.

    Args:
        layers: The warm-up's weights by name.
        state: The new model's.
        widths: ``D`` of every field, in order.
        rotations: How their vectors changed.
    """
    new_widths = {
        n: w if (turn := rotations[n]) is None else turn.shape[1] for n, w in widths.items()
    }
    is_turned = any(turn is not None for turn in rotations.values())
    old, new = sum(widths.values()), sum(new_widths.values())
    fitting = {}
    for name, layer in layers.items():
        wanted = state.get(name)
        if wanted is None or layer.shape[:-1] != wanted.shape[:-1]:
            return None
        num_dense = layer.shape[-1] - old if layer.dim() else -1
        if layer.shape == wanted.shape and not (is_turned and old == new):
            fitting[name] = layer
        elif old != new and num_dense >= 0 and wanted.shape[-1] == new + num_dense:
            fitting[name] = _folded(layer, widths, rotations)
        else:
            return None
    return fitting


def _folded(layer: Tensor, widths: Mapping[str, int], rotations: Rotations) -> Tensor:
    num_dense = layer.shape[-1] - sum(widths.values())
    *parts, dense = torch.split(layer.double(), [*widths.values(), num_dense], dim=-1)
    folded = [
        part
        if (turn := rotations[name]) is None
        else part @ torch.from_numpy(np.linalg.pinv(turn).T)
        for name, part in zip(widths, parts, strict=True)
    ]  # (H, T) each
    return torch.cat([*folded, dense], dim=-1).float()
