"""The benchmark's networks as a user of plain PyTorch writes them: the peer, not the product."""

# Shapes:  B batch, F fields, D width, I dense inputs

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

DLRM_BOTTOM = (512, 256)
DLRM_TOP = (512, 256)
DEEPFM_HIDDEN = (400, 400, 400)


def stack(sizes: Sequence[int], *, last_relu: bool) -> nn.Sequential:
    """``nn.Linear`` and ``nn.ReLU`` in turn."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*(layers if last_relu else layers[:-1]))


class PlainDLRM(nn.Module):
    """DLRM on looked-up fields.

    Shape:
        - Input: ``dense`` ``(B, I)``, ``fields`` ``(B, F * D)``.
        - Output: logits ``(B,)``.
    """

    pairs: Tensor

    def __init__(self, num_fields: int, width: int, num_dense: int) -> None:
        super().__init__()
        self.shape = num_fields, width
        count = num_fields + 1
        self.bottom = stack([num_dense, *DLRM_BOTTOM, width], last_relu=True)
        self.top = stack([width + count * (count - 1) // 2, *DLRM_TOP, 1], last_relu=False)
        row, column = torch.triu_indices(count, count, offset=1)
        self.register_buffer("pairs", row * count + column)

    def forward(self, dense: Tensor, fields: Tensor) -> Tensor:
        """Score a batch."""
        dense_vector = self.bottom(dense)
        vectors = torch.cat([dense_vector.unsqueeze(1), fields.view(-1, *self.shape)], dim=1)
        dots = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        logits: Tensor = self.top(torch.cat([dense_vector, dots], dim=1)).squeeze(1)
        return logits


class PlainDeepFM(nn.Module):
    """DeepFM on looked-up fields.

    Shape:
        - Input: ``dense`` ``(B, I)``, ``fields`` ``(B, F * D)``.
        - Output: logits ``(B,)``.
    """

    def __init__(self, num_fields: int, width: int, num_dense: int) -> None:
        super().__init__()
        self.shape = num_fields, width
        num_inputs = num_fields * width + num_dense
        self.first_order = nn.Linear(num_inputs, 1)
        self.deep = stack([num_inputs, *DEEPFM_HIDDEN, 1], last_relu=False)

    def forward(self, dense: Tensor, fields: Tensor) -> Tensor:
        """Score a batch."""
        inputs = torch.cat([fields, dense], dim=1)
        fields = fields.view(-1, *self.shape)
        pairs = 0.5 * (fields.sum(1).square() - fields.square().sum(1)).sum(1)
        logits: Tensor = (self.first_order(inputs) + self.deep(inputs)).squeeze(1) + pairs
        return logits


def network_of(name: str, num_fields: int, width: int, num_dense: int) -> nn.Module:
    """A network by its name, ``dlrm`` or ``deepfm``."""
    kind = {"dlrm": PlainDLRM, "deepfm": PlainDeepFM}[name]
    return kind(num_fields, width, num_dense)
