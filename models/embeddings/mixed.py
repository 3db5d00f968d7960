"""Tables of different widths behind one interface: an `EmbeddingBagCollection` and projections."""

# Shapes:  B batch, D width of a field's vector, d width of a table

from collections.abc import Container, Mapping, Sequence

import torch
from torch import Tensor
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.embeddings.base import FieldEmbeddings
from models.embeddings.choice import Pooling, ProjectionInit
from models.embeddings.packed import feature_names
from models.embeddings.unifier import WidthUnifier
from models.embeddings.vectors import FieldVectors
from models.tables import SizingPlan, Table


class MixedEmbeddings(FieldEmbeddings):
    """An `EmbeddingBagCollection`, and one bias-free projection per narrower table behind it.

    Interaction layers (FM, DLRM, DCN) need all fields equally wide, yet TorchRec's ``SparseArch``
    takes the width of the *first* table for all of them. This module keeps every table at its own
    width and projects ``d -> D`` after the lookup, hence after the all-to-all once sharded: narrow
    tables also shrink the traffic between ranks. Where a network reads fields through a matrix, or
    sums over them, the projection is multiplied into that, and no vector is ever widened. Tables
    that are already ``D`` wide pass through, so a uniform plan pays nothing. A plan may pad with
    zeros instead of projecting: a narrow table then has the first columns of what a wide one would
    have, and nothing is learned for it.

    A field of several blocks has one table and one feature a block; an id is in exactly one of
    them, the other bags are empty and sum to zero, and projections have no bias, so the sum over
    blocks is the paper's Algorithm 1, for lists of ids too. Tables of width 1 and 2 are packed,
    see `models.embeddings.packed`.

    Args:
        plan: Which tables every field has, and ``out_dim``.
        pooling: The list-valued fields, and how each is pooled.
        projection_init: How projections start. The identity keeps narrow tables aligned with wide
            ones and has learned best (biased MF on MovieLens 1M).
        device: Where tables are created; ``"meta"`` when a sharding plan follows.

    Shape:
        - Input: a `KeyedJaggedTensor` of batch size ``B`` with the keys of
          `models.embeddings.packed.feature_keys`; one a table where nothing is packed.
        - Output: vectors of the fields in the order of the plan; all ``D`` wide where the plan
          joins them by projection.

    Source:
        Ginart et al., *Mixed Dimension Embeddings*, ISIT 2021, arXiv:1909.11810.
    """

    def __init__(
        self,
        plan: SizingPlan,
        *,
        pooling: Mapping[str, Pooling] | None = None,
        projection_init: ProjectionInit = "prefix",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.field_names = tuple(plan.fields)
        tables = list(plan.tables())
        dims = {table.field: plan.target_dim(table) for table in tables}
        self.field_dims = tuple(dims.values())
        self.out_dim = max(self.field_dims)
        init = None if plan.join == "pad" else projection_init
        unify = WidthUnifier(tables, self.field_dims, init=init, pooling=pooling)
        self.tables = bag_collection(tables, pooling, device, summed=unify.summed)
        self.unify = unify

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:  # noqa: ARG002
        """Look up and pool every field."""
        vectors: FieldVectors = self.unify(self.look_up(features), features)
        return vectors


def bag_collection(
    tables: Sequence[Table],
    pooling: Mapping[str, Pooling] | None = None,
    device: torch.device | str | None = None,
    *,
    summed: Container[str] = (),
) -> EmbeddingBagCollection:
    """The tables as kernels hold them, in one collection.

    Kernels take the mean of a list where it is one feature's; means over several features, those of
    slots and of blocks, are summed and divided by whoever puts them together.

    Args:
        tables: All of them.
        pooling: The list-valued fields, and how each is pooled.
        device: Where they are created.
        summed: Tables that are parts of a mean, see `WidthUnifier.summed`.
    """
    pooling = pooling or {}
    configs = [
        EmbeddingBagConfig(
            name=table.name,
            feature_names=feature_names(table, pooling),
            num_embeddings=table.stored.num_embeddings,
            embedding_dim=table.stored.embedding_dim,
            pooling=PoolingType.MEAN
            if pooling.get(table.field) == "mean" and table.name not in summed
            else PoolingType.SUM,
        )
        for table in tables
    ]
    where = torch.device(device) if device is not None else None
    return EmbeddingBagCollection(tables=configs, device=where)
