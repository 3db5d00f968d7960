"""Tables of different widths behind one interface: an `EmbeddingBagCollection` and projections."""

# Shapes:  B batch, D_f width of field f's vector (D where all are equal), d width of a table,
#          n tables of one width

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.base import FieldEmbeddings
from models.tables import SizingPlan, Table

ProjectionInit = Literal["identity", "orthogonal", "xavier"]
"""Start of a projection: the first ``d`` of ``D`` axes, a random rotation, or random weights."""

Pooling = Literal["sum", "mean"]


class MixedEmbeddings(FieldEmbeddings):
    """An `EmbeddingBagCollection` followed by one bias-free projection per narrower table.

    Interaction layers (FM, DLRM, DCN) need all fields equally wide, yet TorchRec's ``SparseArch``
    takes the width of the *first* table for all of them. This module keeps every table at its own
    width and projects ``d -> D`` after the lookup, hence after the all-to-all once sharded: narrow
    tables also shrink the traffic between ranks. Tables that are already ``D`` wide pass through,
    so a uniform plan pays nothing.

    A field of several blocks has one table and one feature a block; an id is in exactly one of
    them, the other bags are empty and sum to zero, and projections have no bias, so the sum over
    blocks is the paper's Algorithm 1, for lists of ids too.

    Args:
        plan: Which tables every field has, and ``out_dim``.
        pooling: How list-valued fields are pooled, by field; ``sum`` where not named.
        projection_init: How projections start. The identity keeps narrow tables aligned with wide
            ones and has learned best (biased MF on MovieLens 1M).
        device: Where tables are created; ``"meta"`` when a sharding plan follows.

    Raises:
        ValueError: If a field of several blocks asks for mean pooling.

    Shape:
        - Input: a `KeyedJaggedTensor` of batch size ``B`` with one key a table.
        - Output: ``(B, sum of D_f)``, fields in the order of the plan; all ``D`` wide where the
          plan joins them by projection.

    Source:
        Ginart et al., *Mixed Dimension Embeddings*, ISIT 2021, arXiv:1909.11810.
    """

    def __init__(
        self,
        plan: SizingPlan,
        *,
        pooling: Mapping[str, Pooling] | None = None,
        projection_init: ProjectionInit = "identity",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.field_names = tuple(plan.fields)
        tables = list(plan.tables())
        targets = {table.field: plan.target_dim(table) for table in tables}
        self.field_dims = tuple(targets.values())
        self.out_dim = max(self.field_dims)
        self.tables = EmbeddingBagCollection(
            tables=[_bag_config(table, plan, pooling or {}) for table in tables],
            device=torch.device(device) if device is not None else None,
        )
        self.unify = WidthUnifier(tables, self.field_dims, init=projection_init)

    def forward(self, features: KeyedJaggedTensor) -> Tensor:
        """Look up, pool and project every field."""
        unified: Tensor = self.unify(self.tables(features))
        return unified


class WidthUnifier(nn.Module):
    """Project pooled tables to their field's width, one batched matmul a shape, and sum blocks.

    Args:
        tables: The tables in the order of the fields; blocks of a field stand together.
        field_dims: ``D_f`` of every field.
        init: How projections start.

    Shape:
        - Input: a `KeyedTensor` with one key a table, in any order (sharding changes it).
        - Output: ``(B, sum of D_f)``, fields in the order of ``tables``.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        field_dims: Sequence[int],
        *,
        init: ProjectionInit = "identity",
    ) -> None:
        super().__init__()
        self.table_names = [table.name for table in tables]
        self.blocks_of_fields = [
            [table.name for table in blocks]
            for _, blocks in groupby(tables, key=lambda table: table.field)
        ]
        target = dict(zip(dict.fromkeys(t.field for t in tables), field_dims, strict=True))
        by_shape: dict[tuple[int, int], list[str]] = {}
        for table in tables:
            if table.embedding_dim < target[table.field]:
                shape = table.embedding_dim, target[table.field]
                by_shape.setdefault(shape, []).append(table.name)
        self.narrow_tables = list(by_shape.items())
        self.projections = nn.ParameterList(
            nn.Parameter(torch.empty(len(names), *shape))  # (n, d, D_f)
            for shape, names in self.narrow_tables
        )
        for projection in self.projections:
            _init_projections(projection, init)
        self._passes_through = not by_shape and len(self.blocks_of_fields) == len(tables)

    def forward(self, pooled: KeyedTensor) -> Tensor:
        """Bring every field to its width."""
        if self._passes_through and pooled.keys() == self.table_names:
            return pooled.values()
        vectors = pooled.to_dict()  # by name: a sharded collection returns its keys in plan order
        for (_, names), projections in zip(self.narrow_tables, self.projections, strict=True):
            narrow = torch.stack([vectors[name] for name in names])  # (n, B, d)
            vectors.update(zip(names, torch.bmm(narrow, projections), strict=True))
        return torch.cat([_sum(vectors, blocks) for blocks in self.blocks_of_fields], dim=1)


def _sum(vectors: Mapping[str, Tensor], blocks: Sequence[str]) -> Tensor:
    first, *others = (vectors[name] for name in blocks)
    for other in others:
        first = first + other
    return first


def _bag_config(
    table: Table, plan: SizingPlan, pooling: Mapping[str, Pooling]
) -> EmbeddingBagConfig:
    pool = pooling.get(table.field, "sum")
    if pool == "mean" and len(plan.fields[table.field]) > 1:
        raise ValueError(
            f"field {table.field!r}: pooling='mean' with {len(plan.fields[table.field])} blocks, "
            f"expected 'sum' (a mean over blocks is not the mean over ids); use one block or 'sum'"
        )
    return EmbeddingBagConfig(
        name=table.name,
        feature_names=[table.name],
        num_embeddings=table.num_embeddings,
        embedding_dim=table.embedding_dim,
        pooling=PoolingType.MEAN if pool == "mean" else PoolingType.SUM,
    )


def _init_projections(projections: Tensor, init: ProjectionInit) -> None:
    """Fill ``(n, d, D)`` projections in place."""
    for projection in projections.detach():
        match init:
            case "identity":
                nn.init.eye_(projection)
            case "orthogonal":
                nn.init.orthogonal_(projection)
            case "xavier":
                nn.init.xavier_uniform_(projection)
