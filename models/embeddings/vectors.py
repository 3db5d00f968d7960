"""The vectors of a batch's fields, as wide as a network needs them and no wider."""

# Shapes:  B batch, D_f width of field f's vector (D where all are equal), I further inputs,
#          O outputs of a layer, n fields of a group, s columns of each, S columns in all

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


class FieldVectors:
    """Vectors of all fields, as they are; `NarrowVectors` are those that wait to be widened.

    A network asks for what it needs. Layers that read the fields side by side take `columns` and
    have their weights `folded`; sums over fields come from `sum_and_squares`; whoever multiplies
    fields with each other takes them `side_by_side`.

    Args:
        columns: ``(B, sum of D_f)``, in the order of the fields.
    """

    def __init__(self, columns: Tensor) -> None:
        self.columns = columns
        """``(B, S)``: what a `folded` weight reads."""

    @property
    def side_by_side(self) -> Tensor:
        """``(B, sum of D_f)``: every field at its full width."""
        return self.columns

    def behind(self, first: Tensor) -> Tensor:
        """Another vector ``(B, D)``, then `side_by_side`; copied once."""
        return torch.cat([first, self.columns], dim=1)

    def folded(self, weight: Tensor) -> Tensor:
        """A layer's weight over ``[side_by_side, more]`` as the one over ``[columns, more]``.

        Shape:
            - Input: ``(O, sum of D_f + I)``.
            - Output: ``(O, S + I)``.
        """
        return weight

    def sum_and_squares(self, width: int) -> tuple[Tensor, Tensor]:
        """The sum of the vectors ``(B, D)``, and of all their squared elements ``(B,)``."""
        return _sum_and_squares(self.columns, width)


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Fields that have equally many narrow columns, and equally wide vectors."""

    positions: tuple[int, ...]
    """Of the fields."""
    matrices: Tensor
    """``(n, s, D_f)``: a field's vector is its columns times its matrix."""

    @property
    def num_columns(self) -> int:
        """Of all its fields, ``n s``."""
        return self.matrices.shape[0] * self.matrices.shape[1]

    def widened(self, columns: Tensor) -> Tensor:
        """``(n, B, D_f)`` from the group's columns ``(B, n s)``."""
        with _in_fp32(columns):
            return torch.bmm(self._by_field(columns), self.matrices)

    def folded(self, weights: Tensor) -> Tensor:
        """``(O, n s)`` from what a layer reads the fields' vectors with, ``(n, O, D_f)``."""
        with _in_fp32(weights):
            return torch.bmm(self.matrices, weights.transpose(1, 2)).flatten(0, 1).t()

    def sum_and_squares(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """As `FieldVectors.sum_and_squares`, of the group's fields."""
        narrow = self._by_field(columns)
        with _in_fp32(columns):
            dots = torch.bmm(self.matrices, self.matrices.transpose(1, 2))  # (n, s, s)
            squares = (torch.bmm(narrow, dots) * narrow).sum(dim=(0, 2))
            return columns @ self.matrices.flatten(0, 1), squares

    def _by_field(self, columns: Tensor) -> Tensor:
        return columns.view(len(columns), *self.matrices.shape[:2]).transpose(0, 1)  # (n, B, s)


class NarrowVectors(FieldVectors):
    """Vectors of which some are narrow columns ``x_f`` that a matrix ``P_f`` would widen.

    ``x_f P_f`` is only computed where a network multiplies fields with each other. A layer's
    ``(x_f P_f) W_f^T`` is ``x_f (P_f W_f^T)``, a product with fewer inputs, and ``P_f W_f^T``
    is small beside a batch; ``|x_f P_f|^2`` is ``x_f (P_f P_f^T) x_f^T``. Always in fp32: the
    products are small, and casting them for bf16 would cost more than it saves.

    Args:
        columns: ``(B, S)``: the groups' columns in turn, then the other fields.
        groups: The narrow fields.
        field_dims: ``D_f`` of all fields.
    """

    def __init__(self, columns: Tensor, groups: Sequence[Group], field_dims: Sequence[int]) -> None:
        super().__init__(columns)
        self.groups, self.field_dims = groups, field_dims
        narrow = {position for group in groups for position in group.positions}
        self.wide = [position for position in range(len(field_dims)) if position not in narrow]

    @cached_property
    def side_by_side(self) -> Tensor:
        """``(B, sum of D_f)``: every field at its full width."""
        return torch.cat(self._widened(), dim=1)

    def behind(self, first: Tensor) -> Tensor:
        """Another vector ``(B, D)``, then `side_by_side`; copied once."""
        return torch.cat([first, *self._widened()], dim=1)

    def _widened(self) -> list[Tensor]:
        """The vector of every field."""
        *narrow, rest = self._parts()
        wide = torch.split(rest, [self.field_dims[position] for position in self.wide], dim=1)
        vectors = dict(zip(self.wide, wide, strict=True))
        for group, columns in zip(self.groups, narrow, strict=True):
            vectors.update(zip(group.positions, group.widened(columns), strict=True))
        return [vectors[position] for position in range(len(vectors))]

    def folded(self, weight: Tensor) -> Tensor:
        """A layer's weight over ``[side_by_side, more]`` as the one over ``[columns, more]``."""
        others = weight.shape[1] - sum(self.field_dims)
        *of_field, more = torch.split(weight, [*self.field_dims, others], dim=1)
        narrow = [
            group.folded(torch.stack([of_field[position] for position in group.positions]))
            for group in self.groups
        ]
        return torch.cat([*narrow, *(of_field[position] for position in self.wide), more], dim=1)

    def sum_and_squares(self, width: int) -> tuple[Tensor, Tensor]:
        """The sum of the vectors ``(B, D)``, and of all their squared elements ``(B,)``."""
        *narrow, rest = self._parts()
        total, squares = _sum_and_squares(rest, width)
        for group, columns in zip(self.groups, narrow, strict=True):
            of_group = group.sum_and_squares(columns)
            total, squares = total + of_group[0], squares + of_group[1]
        return total, squares

    def _parts(self) -> Sequence[Tensor]:
        """The columns of every group, and of the other fields."""
        widths = [group.num_columns for group in self.groups]
        return torch.split(self.columns, [*widths, self.columns.shape[1] - sum(widths)], dim=1)


def _sum_and_squares(vectors: Tensor, width: int) -> tuple[Tensor, Tensor]:
    num_examples, num_columns = vectors.shape[0], vectors.shape[1]
    # Not -1: a rank may have no examples, and narrow fields leave no others.
    by_field = vectors.view(num_examples, num_columns // width, width)
    return by_field.sum(dim=1), vectors.square().sum(dim=1)


def _in_fp32(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)
