"""Everything of a trained model that is no table lookup, as one `torch.export` program."""

# Shapes:  B batch, I dense inputs, S columns of all tables, d width of a table, D_f width of a
#          field's vector, n tables of one shape

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.functional import pad

from models.embeddings.base import FieldEmbeddings
from models.embeddings.quotient_remainder import Combination
from models.embeddings.vectors import FieldVectors
from models.layers.linear import active_matmul, set_matmul
from models.tables import Table
from service.train.task import TrainTask

EXAMPLE_ROWS = 3
"""Rows that the program is traced with; it takes any number."""


class PooledFields(nn.Module):
    """Pooled vectors of all tables as the vectors of the fields: what a network reads them as.

    Args:
        tables: In the order of their columns; those of a field stand together.
        embeddings: What they replace; gives the fields and their widths.
        projections: Of narrow tables ``(d, D_f)``, by name; others are padded with zeros.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        embeddings: FieldEmbeddings,
        projections: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.field_names, self.field_dims = embeddings.field_names, embeddings.field_dims
        self.out_dim = embeddings.out_dim
        self._names = [table.name for table in tables]
        self._widths = [table.embedding_dim for table in tables]
        self._of_fields = [
            [table.name for table in own] for _, own in groupby(tables, lambda table: table.field)
        ]
        self.combine = getattr(embeddings, "combine", None)
        by_shape: dict[torch.Size, list[str]] = {}
        for name, projection in (projections or {}).items():
            by_shape.setdefault(projection.shape, []).append(name)
        self._projected = list(by_shape.values())
        for place, names in enumerate(self._projected):
            matrices = torch.stack([(projections or {})[name] for name in names])  # (n, d, D_f)
            self.register_buffer(f"projections_{place}", matrices)

    def forward(self, pooled: Tensor) -> FieldVectors:
        """Bring tables to the widths of their fields, and those of a field together.

        Shape:
            - Input: ``(B, S)``.
            - Output: vectors of the fields, at their full width.
        """
        parts = torch.split(pooled, self._widths, dim=1)
        of_tables = dict(zip(self._names, parts, strict=True))
        if isinstance(self.combine, Combination):
            return FieldVectors(self.combine.join(of_tables))
        for place, names in enumerate(self._projected):
            narrow = torch.stack([of_tables[name] for name in names])  # (n, B, d)
            wide = torch.bmm(narrow, self.get_buffer(f"projections_{place}"))
            of_tables.update(zip(names, wide.unbind(0), strict=True))
        fields = [
            self._together([of_tables[name] for name in own], dim)
            for own, dim in zip(self._of_fields, self.field_dims, strict=True)
        ]
        return FieldVectors(torch.cat(fields, dim=1))

    @staticmethod
    def _together(blocks: Sequence[Tensor], dim: int) -> Tensor:
        """The sum of a field's blocks ``(B, D_f)``; an id is in one of them, the others are 0."""
        total, *others = [pad(block, (0, dim - block.shape[1])) for block in blocks]
        for other in others:
            total = total + other
        return total


class ServedModel(nn.Module):
    """From dense inputs and pooled tables to predictions.

    Args:
        task: The trained model in evaluation; its tables need not be there, and are let go of.
        fields: What takes their place.

    Shape:
        - Input: ``dense`` ``(B, I)`` and ``pooled`` ``(B, S)``.
        - Output: probabilities or ratings ``(B,)``.
    """

    def __init__(self, task: TrainTask, fields: PooledFields) -> None:
        super().__init__()
        task.penalty = None
        self.task = task.eval()
        # A network asks its embeddings for names, widths and vectors, whatever they are made of.
        task.network.embeddings = cast(FieldEmbeddings, fields)

    def forward(self, dense: Tensor, pooled: Tensor) -> Tensor:
        """Score a batch."""
        scores = self.task.network(dense, pooled)
        return self.task.predictions(self.task.outcomes(scores))


@torch.no_grad()
def to_program(model: ServedModel, *, num_dense: int, width: int) -> ExportedProgram:
    """Trace a model for any number of rows.

    Args:
        model: What to trace.
        num_dense: ``I``.
        width: ``S``.
    """
    before = active_matmul()
    set_matmul("mkl")  # a public operator, which every build of torch has
    try:
        batch = Dim("batch")
        return torch.export.export(
            model,
            (torch.zeros(EXAMPLE_ROWS, num_dense), torch.zeros(EXAMPLE_ROWS, width)),
            dynamic_shapes=({0: batch}, {0: batch}),
        )
    finally:
        set_matmul(before)
