"""A stack of linear layers with ReLU between them, and dropout behind it."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.layers.dropout import Dropout
from models.layers.linear import Activation, Linear


class MLP(nn.Sequential):
    """ReLU between the layers, and after the last one only when asked.

    ``torchrec.modules.mlp.MLP`` ends in a ReLU, always: as the last layer of a click model it can
    die and leave the loss at exactly ln 2.

    Args:
        in_features: Width of the input.
        layer_sizes: Width of every layer, in order; at least one.
        last_activation: Whether a ReLU follows the last layer, as below an interaction.
        dropout: Share of the units behind every ReLU that a step of training leaves out.
        device: Where parameters are created.

    Raises:
        ValueError: If there are no layers, a width is below 1, or dropout leaves nothing.

    Shape:
        - Input: ``(..., in_features)``.
        - Output: ``(..., layer_sizes[-1])``.
    """

    def __init__(
        self,
        in_features: int,
        layer_sizes: Sequence[int],
        last_activation: bool = False,
        *,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
    ) -> None:
        widths = [in_features, *layer_sizes]
        if not layer_sizes or min(widths) < 1:
            raise ValueError(
                f"in_features={in_features}, layer_sizes={list(layer_sizes)}; "
                f"expected one layer or more, every width at least 1"
            )
        layers: list[nn.Module] = []
        for index, (width, next_width) in enumerate(pairwise(widths), 1):
            is_active = index < len(layer_sizes) or last_activation
            activation: Activation = "relu" if is_active else "none"
            layers.append(Linear(width, next_width, activation=activation, device=device))
            if dropout and is_active:
                layers.append(Dropout(dropout, place=index))
        super().__init__(*layers)

    def folded(self, inputs: Tensor, fold: Callable[[Tensor], Tensor]) -> Tensor:
        """The same on inputs before a linear map that ``fold`` multiplies into the first weight."""
        first, *others = self
        assert isinstance(first, Linear)
        outputs = first.folded(inputs, fold)
        for layer in others:
            outputs = layer(outputs)
        return outputs
