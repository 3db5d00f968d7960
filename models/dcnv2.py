"""DCN-V2: cross layers, which multiply features explicitly, and a deep network."""

# Shapes:  B batch, D_f width of field f's vector, I dense inputs, N = sum of D_f + I

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torchrec.modules.crossnet import CrossNet, LowRankCrossNet

from models.base import Axis, CtrModel
from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.layers.linear import Linear
from models.layers.mlp import MLP
from models.tables import Join

Structure = Literal["stacked", "parallel"]


class DCNv2(CtrModel):
    """Deep and cross network: ``x_{l+1} = x_0 * (W_l x_l + b_l) + x_l``, then or beside an MLP.

    ``x_0`` are all fields and dense inputs side by side; as in the paper, fields may differ in
    width. A low rank writes ``W_l`` as a product of ``(N, r)`` and ``(r, N)``.

    Args:
        embeddings: Turns features into fields of any widths.
        num_dense: ``I``.
        cross_layers: Number of cross layers.
        cross_rank: ``r``; 0 for a full matrix.
        hidden: Layers of the deep network.
        structure: ``stacked``: the deep network sees the crosses; ``parallel``: it sees ``x_0``,
            and the logit sees both.
        dropout: Share of the hidden units that a step of training leaves out.

    Source:
        Wang et al., *DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale
        Learning to Rank Systems*, WWW 2021, arXiv:2008.13535.
    """

    join: ClassVar[Join] = "concatenate"
    is_turnable: ClassVar[bool] = False  # crosses multiply element by element

    def __init__(
        self,
        embeddings: FieldEmbeddings,
        num_dense: int,
        *,
        cross_layers: int = 3,
        cross_rank: int = 64,
        hidden: Sequence[int] = (512, 256),
        structure: Structure = "stacked",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embeddings, num_dense)
        num_inputs = sum(embeddings.field_dims) + num_dense
        self.cross: nn.Module = (
            LowRankCrossNet(num_inputs, cross_layers, cross_rank)
            if cross_rank
            else CrossNet(num_inputs, cross_layers)
        )
        self.deep = MLP(num_inputs, hidden, last_activation=True, dropout=dropout)
        self.is_parallel = structure == "parallel"
        self.last = Linear(hidden[-1] + (num_inputs if self.is_parallel else 0), 1)

    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """All cross layers, and those that read the fields or the crosses."""
        low_rank: dict[str, tuple[Axis, ...]] = {
            "W_kernels": ("fields", "plain"),
            "V_kernels": ("plain", "fields"),
            "bias": ("fields",),
        }
        of_kind: dict[str, tuple[Axis, ...]] = {
            "kernels": ("fields", "fields"),
            "bias": ("fields", "plain"),
            **(low_rank if isinstance(self.cross, LowRankCrossNet) else {}),
        }
        axes: dict[str, tuple[Axis, ...]] = {
            name: of_kind[name.split(".")[1]]
            for name, _ in self.named_parameters()
            if name.startswith("cross.")
        }
        axes["deep.0.weight"] = ("plain", "fields")
        if self.is_parallel:
            axes["last.weight"] = ("plain", "fields")
        return axes

    def score(self, dense: Tensor, fields: FieldVectors) -> Tensor:
        """Score a batch."""
        inputs = torch.cat([fields.side_by_side, dense], dim=1)  # (B, N)
        crosses = self.cross(inputs)
        if self.is_parallel:
            last = torch.cat([crosses, self.deep(inputs)], dim=1)
        else:
            last = self.deep(crosses)
        logits: Tensor = self.last(last).squeeze(1)
        return logits
