"""What a sizing plan costs in bytes, and budgets as people write them.

Bytes of training are the tables' weights as they are allocated, the optimizer's state, one
bias-free projection for every table narrower than its field's vector, and two moments of Adam for
it. Gradients and activations are not counted: they depend on the batch, not on the plan.
Bytes of serving are those of `models.sizing.serving`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

import numpy as np

from models.sizing.serving import Serving
from models.sizing.solver import Cost
from models.tables import (
    FLOAT_BYTES,
    FieldStats,
    SizingPlan,
    SparseOptimizer,
    Table,
)

PROJECTION_BYTES: Final = FLOAT_BYTES * 3
"""Bytes a projection's element takes in training: the weight and Adam's two moments."""

STATE_BYTES: Final[Mapping[SparseOptimizer, tuple[int, int]]] = MappingProxyType(
    {
        "rowwise_adagrad": (0, FLOAT_BYTES),
        "sgd": (0, 0),
        "adagrad": (FLOAT_BYTES, 0),
        "adam": (2 * FLOAT_BYTES, 0),
        "amsgrad": (3 * FLOAT_BYTES, 0),
    }
)
"""Bytes of an optimizer's state, per element and per row of a table."""

BYTE_COST: Final[Mapping[SparseOptimizer, Cost]] = MappingProxyType(
    {
        optimizer: Cost(
            per_weight=FLOAT_BYTES + per_weight,
            per_row=per_row,
            per_projection_weight=PROJECTION_BYTES,
            packed=True,
        )
        for optimizer, (per_weight, per_row) in STATE_BYTES.items()
    }
)
"""Bytes of a table's element and row by optimizer, its state included."""

FP32_SERVING: Final = Serving()
"""Tables exported as they are trained."""

_UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {"": 1, "b": 1}
    | {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)}
    | {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TableBytes:
    """Bytes that one table takes while it is trained, and when it is served."""

    weights: int
    optimizer_state: int
    projection: int
    """Weights of its projection; 0 where the table is as wide as its field's vector."""
    projection_state: int
    serving: int
    """Of the exported table with its projection."""

    @property
    def total(self) -> int:
        """All of training."""
        return self.weights + self.optimizer_state + self.projection + self.projection_state


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanBytes:
    """The four figures of a plan, and the bytes of each of its tables."""

    embedding_params: int
    """``EP``, the sum of rows times width; packing may allocate a few more."""
    projection_params: int
    training_bytes: int
    """Weights, optimizer state, projections and their Adam state."""
    serving_bytes: int
    """Weights as they are exported, and projections in fp32."""
    tables: Mapping[str, TableBytes]
    """By table name."""


def table_bytes(
    table: Table, projected_dim: int, optimizer: SparseOptimizer, serving: Serving
) -> TableBytes:
    """Bytes that a table takes; ``projected_dim`` is 0 where it has no projection."""
    cost, stored = BYTE_COST[optimizer], table.stored
    params = stored.num_embeddings * stored.embedding_dim
    projection = table.embedding_dim * projected_dim
    return TableBytes(
        weights=FLOAT_BYTES * params,
        optimizer_state=(cost.per_weight - FLOAT_BYTES) * params
        + cost.per_row * stored.num_embeddings,
        projection=FLOAT_BYTES * projection,
        projection_state=(PROJECTION_BYTES - FLOAT_BYTES) * projection,
        serving=serving.table_bytes(table) + FLOAT_BYTES * projection,
    )


def plan_bytes(
    plan: SizingPlan,
    optimizer: SparseOptimizer = "rowwise_adagrad",
    serving: Serving = FP32_SERVING,
) -> PlanBytes:
    """Bytes that training and serving a plan take, table by table."""
    tables = {
        table.name: table_bytes(table, plan.projected_dim(table), optimizer, serving)
        for table in plan.tables()
    }
    projections = sum(table.projection for table in tables.values())
    return PlanBytes(
        embedding_params=sum(t.num_embeddings * t.embedding_dim for t in plan.tables()),
        projection_params=projections // FLOAT_BYTES,
        training_bytes=sum(table.total for table in tables.values()),
        serving_bytes=sum(table.serving for table in tables.values()),
        tables=tables,
    )


def uniform_bytes(
    fields: Iterable[FieldStats],
    dim: int,
    optimizer: SparseOptimizer = "rowwise_adagrad",
    serving: Serving | None = None,
) -> int:
    """Bytes that training takes, or serving, when every field is ``dim`` wide."""
    rows = np.array([stats.num_embeddings for stats in fields], dtype=np.int64)
    cost = BYTE_COST[optimizer] if serving is None else serving.cost
    return int(cost.of_tables(rows, np.array(dim)).sum())


def parse_budget(text: str, base_bytes: int) -> int:
    """Bytes that a budget names: ``512MiB``, ``1.5GB``, ``1000000``, or ``4x``.

    Args:
        text: Bytes with or without a unit, or how many times smaller than ``base_bytes``.
        base_bytes: Bytes of the uniform plan that ``Nx`` is measured against.

    Raises:
        ValueError: If the text is none of these, or is not above zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(x|[kmgt]?i?b|)", text.strip().lower())
    amount = Fraction(match[1]) if match else Fraction(0)
    if not match or match[2] == "ib" or amount <= 0:
        raise ValueError(
            f"budget {text!r} is not a number of bytes above zero; write bytes with or without a "
            f"unit (512MiB, 1.5GB, 1000000), or 4x for a quarter of the uniform model's bytes"
        )
    return int(base_bytes / amount) if match[2] == "x" else int(amount * _UNITS[match[2]])
