"""Tables of the contenders of ``mixdim bench step``: stacked, the bare kernel, or none at all."""

# Shapes:  B batch, F fields, D width

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.embeddings.base import FieldEmbeddings
from models.embeddings.vectors import FieldVectors
from models.tables import SizingPlan
from service.config import OptimizerConfig

OPTIMIZER = OptimizerConfig()
"""The product's own; peers take its learning rates."""


class StackedTable(nn.Module):
    """All fields in one ``nn.EmbeddingBag`` with sparse gradients, ids shifted by field."""

    first_rows: Tensor

    def __init__(self, plan: SizingPlan) -> None:
        super().__init__()
        rows = torch.tensor([table.num_embeddings for table in plan.tables()])
        bounds = rows.float().rsqrt().repeat_interleave(rows).unsqueeze(1)
        weight = (2 * torch.rand(int(rows.sum()), plan.out_dim) - 1) * bounds
        self.bag = nn.EmbeddingBag.from_pretrained(weight, freeze=False, mode="sum", sparse=True)
        self.register_buffer("first_rows", rows.cumsum(0) - rows)
        self.num_fields = len(rows)

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:  # noqa: ARG002
        """Look up ``(B, F * D)``."""
        ids = features.values().view(self.num_fields, -1).t() + self.first_rows  # (B, F)
        fields: Tensor = self.bag(ids.reshape(-1, 1))
        return FieldVectors(fields.view(-1, self.num_fields * fields.shape[1]))


class DirectTables(FieldEmbeddings):
    """The FBGEMM kernel that TorchRec drives, called without TorchRec."""

    def __init__(self, plan: SizingPlan) -> None:
        super().__init__()
        self.field_names, self.out_dim = tuple(plan.fields), plan.out_dim
        self.field_dims = (plan.out_dim,) * len(plan.fields)
        tables = list(plan.tables())
        self.kernel = SplitTableBatchedEmbeddingBagsCodegen(
            [
                (t.num_embeddings, t.embedding_dim, EmbeddingLocation.HOST, ComputeDevice.CPU)
                for t in tables
            ],
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=OPTIMIZER.sparse_lr,
            eps=OPTIMIZER.eps,
            device=torch.device("cpu"),
        )
        for table, weight in zip(tables, self.kernel.split_embedding_weights(), strict=True):
            bound = table.num_embeddings**-0.5
            weight.detach().uniform_(-bound, bound)

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:  # noqa: ARG002
        """Look up ``(B, F * D)``."""
        pooled: Tensor = self.kernel(features.values().long(), features.offsets().long())
        return FieldVectors(pooled)


class ConstantFields(FieldEmbeddings):
    """No lookup at all: the same vectors for every batch, with a gradient that nobody uses."""

    def __init__(self, plan: SizingPlan, batch_size: int) -> None:
        super().__init__()
        self.field_names, self.out_dim = tuple(plan.fields), plan.out_dim
        self.field_dims = (plan.out_dim,) * len(plan.fields)
        self.fields = torch.randn(batch_size, sum(self.field_dims), requires_grad=True)

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:  # noqa: ARG002
        """Give ``(B, F * D)``, whatever was asked for."""
        self.fields.grad = None
        return FieldVectors(self.fields[: features.stride()])
