"""Tables of different widths behind one interface: an `EmbeddingBagCollection` and projections."""

# Shapes:  B batch, D_f width of field f's vector (D where all are equal), d width of a table,
#          n tables of one width

from collections.abc import Container, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.base import FieldEmbeddings
from models.embeddings.choice import Pooling, ProjectionInit
from models.embeddings.packed import SlotSelector, feature_names, slotted
from models.tables import SizingPlan, Table


class MixedEmbeddings(FieldEmbeddings):
    """An `EmbeddingBagCollection`, and one bias-free projection per narrower table behind it.

    Interaction layers (FM, DLRM, DCN) need all fields equally wide, yet TorchRec's ``SparseArch``
    takes the width of the *first* table for all of them. This module keeps every table at its own
    width and projects ``d -> D`` after the lookup, hence after the all-to-all once sharded: narrow
    tables also shrink the traffic between ranks. Tables that are already ``D`` wide pass through,
    so a uniform plan pays nothing. A plan may pad with zeros instead of projecting: a narrow table
    then has the first columns of what a wide one would have, and nothing is paid at all.

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
        projection_init: ProjectionInit = "prefix",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.field_names = tuple(plan.fields)
        pooling = pooling or {}
        tables = list(plan.tables())
        blocks_of = _by_field(tables)
        self.field_dims = tuple(plan.target_dim(blocks[0]) for blocks in blocks_of.values())
        self.out_dim = max(self.field_dims)
        are_parts = {
            name for name, blocks in blocks_of.items() if _is_mean_of_several(blocks, pooling)
        }
        self.tables = bag_collection(tables, pooling, device, sums=are_parts)
        init = None if plan.join == "pad" else projection_init
        self.unify = WidthUnifier(tables, self.field_dims, init=init, pooling=pooling)

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Look up, pool and project every field."""
        unified: Tensor = self.unify(self.look_up(features), features)
        return unified


class WidthUnifier(nn.Module):
    """Project pooled tables to their field's width, one batched matmul a shape, and sum blocks.

    A mean over several features, those of blocks or of slots, is taken here: they are summed, and
    divided by the number of ids in all of them.

    Args:
        tables: The tables in the order of the fields; blocks of a field stand together.
        field_dims: ``D_f`` of every field.
        init: How projections start; None to pad with zeros instead.
        pooling: The list-valued fields, and how each is pooled.

    Shape:
        - Input: a `KeyedTensor` with one key a feature, in any order (sharding changes it), and
          the features it was pooled from.
        - Output: ``(B, sum of D_f)``, fields in the order of ``tables``.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        field_dims: Sequence[int],
        *,
        init: ProjectionInit | None = "prefix",
        pooling: Mapping[str, Pooling] | None = None,
    ) -> None:
        super().__init__()
        pooling = pooling or {}
        self.pads = init is None
        self.table_names = [table.name for table in tables]
        blocks_of = _by_field(tables)
        self.blocks_of_fields = [[table.name for table in blocks] for blocks in blocks_of.values()]
        target = dict(zip(blocks_of, field_dims, strict=True))
        by_shape: dict[tuple[int, int], list[str]] = {}
        for table in tables:
            if table.embedding_dim < target[table.field]:
                shape = table.embedding_dim, target[table.field]
                by_shape.setdefault(shape, []).append(table.name)
        self.narrow_tables = list(by_shape.items())
        self.projections = nn.ParameterList(
            nn.Parameter(_projections(len(names), *shape, init))  # (n, d, D_f)
            for shape, names in self.narrow_tables
            if init is not None
        )
        self._slot_features = {
            table: feature_names(table, pooling)
            for table in tables
            if table.packing > 1 and table.field in pooling
        }
        self._select = SlotSelector(slotted(tables, pooling))
        self._means = _keys_of_means(blocks_of, pooling)
        self._passes_through = (
            not by_shape
            and len(blocks_of) == len(tables)
            and all(table.packing == 1 for table in tables)
        )

    def forward(self, pooled: KeyedTensor, features: KeyedJaggedTensor) -> Tensor:
        """Bring every field to its width."""
        if self._passes_through and pooled.keys() == self.table_names:
            return pooled.values()
        vectors = pooled.to_dict()  # by name: a sharded collection returns its keys in plan order
        if self._select.names:
            vectors.update(self._select(pooled, features))
        for table, names in self._slot_features.items():
            slots = [torch.split(vectors[name], table.embedding_dim, dim=1) for name in names]
            vectors[table.name] = _sum([parts[slot] for slot, parts in enumerate(slots)])
        for index, ((width, target), names) in enumerate(self.narrow_tables):
            narrow = torch.stack([vectors[name] for name in names])  # (n, B, d)
            widened = (
                pad(narrow, (0, target - width))
                if self.pads
                else torch.bmm(narrow, self.projections[index])
            )
            vectors.update(zip(names, widened, strict=True))
        fields = [_sum([vectors[name] for name in blocks]) for blocks in self.blocks_of_fields]
        for position, keys in self._means:
            lengths = features.lengths().view(-1, features.stride())[keys].sum(0)  # (B,)
            fields[position] = fields[position] / lengths.clamp(min=1).unsqueeze(1)
        return torch.cat(fields, dim=1)


def _sum(vectors: Sequence[Tensor]) -> Tensor:
    first, *others = vectors
    for other in others:
        first = first + other
    return first


def _by_field(tables: Sequence[Table]) -> dict[str, list[Table]]:
    return {name: list(blocks) for name, blocks in groupby(tables, key=lambda t: t.field)}


def _is_mean_of_several(blocks: Sequence[Table], pooling: Mapping[str, Pooling]) -> bool:
    """Whether a field is a mean over several features, which kernels cannot take."""
    return pooling.get(blocks[0].field) == "mean" and (len(blocks) > 1 or blocks[0].packing > 1)


def _keys_of_means(
    blocks_of: Mapping[str, Sequence[Table]], pooling: Mapping[str, Pooling]
) -> list[tuple[int, slice]]:
    """The positions of fields that are means over several features, and those features' keys."""
    means, first = [], 0
    for position, blocks in enumerate(blocks_of.values()):
        last = first + sum(len(feature_names(table, pooling)) for table in blocks)
        if _is_mean_of_several(blocks, pooling):
            means.append((position, slice(first, last)))
        first = last
    return means


def bag_collection(
    tables: Sequence[Table],
    pooling: Mapping[str, Pooling] | None = None,
    device: torch.device | str | None = None,
    *,
    sums: Container[str] = (),
) -> EmbeddingBagCollection:
    """The tables as kernels hold them, in one collection.

    Kernels take the mean of a list where it is one feature's; means over several features, those of
    slots and of blocks, are summed here and divided by whoever puts them together.

    Args:
        tables: All of them.
        pooling: The list-valued fields, and how each is pooled.
        device: Where they are created.
        sums: Fields whose tables are parts of one mean.
    """
    pooling = pooling or {}
    configs = [
        EmbeddingBagConfig(
            name=table.name,
            feature_names=feature_names(table, pooling),
            num_embeddings=table.stored.num_embeddings,
            embedding_dim=table.stored.embedding_dim,
            pooling=PoolingType.MEAN
            if pooling.get(table.field) == "mean" and table.packing == 1 and table.field not in sums
            else PoolingType.SUM,
        )
        for table in tables
    ]
    where = torch.device(device) if device is not None else None
    return EmbeddingBagCollection(tables=configs, device=where)


def _projections(num_tables: int, width: int, target: int, init: ProjectionInit) -> Tensor:
    """``(n, d, D)`` projections at their start."""
    projections = torch.empty(num_tables, width, target)
    for projection in projections:
        match init:
            case "prefix" | "identity":
                nn.init.eye_(projection)
            case "orthogonal":
                nn.init.orthogonal_(projection)
            case "xavier":
                nn.init.xavier_uniform_(projection)
    return projections
