"""Turn measured lookups into a cluster's speeds, by the formula that plans are priced with.

The model has five prices, those of a step, an id, a missed id, a byte of a row and a missed byte,
and the size of the cache. They are a least-squares fit of *relative* errors: a step of 0.1 ms
counts as much as one of 10 ms. Simpler models predicted tables that they had not seen worse, and a
price of a table besides did not help; see ``docs/sharding.md``.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.tables import FLOAT_BYTES
from sharding.cluster import Cluster
from sharding.cost import TABLE_PASSES, miss_ratio, seconds_per_id, shard_bytes

CACHES_TRIED: Final = tuple(2**power for power in range(16, 29))
"""Sizes of the cache that are tried, in bytes: 64 KiB to 256 MiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lookup:
    """One measured step of one rank: forward, backward and update of tables looked up together."""

    shapes: tuple[tuple[int, int], ...]
    """Rows and columns of every table."""

    num_ids: int
    """Ids looked up in every table, spread evenly over its rows."""

    seconds: float


def calibrate(cluster: Cluster, measured: Sequence[Lookup], source: str) -> Cluster:
    """The cluster with the speeds that explain the measurements best.

    Args:
        cluster: Everything else: ranks, memory, links.
        measured: Steps that differ in width, in rows, in ids and in the number of tables.
        source: What measured them, for the reader of a prediction.

    Raises:
        ValueError: If there are fewer than six measurements, or wide rows take no longer than
            narrow ones.
    """
    if len(measured) < _NUM_NUMBERS:
        raise ValueError(
            f"{len(measured)} measured lookups, expected at least {_NUM_NUMBERS}; measure more "
            f"widths and sizes"
        )
    fits = [_fit(measured, cache_bytes) for cache_bytes in CACHES_TRIED]
    cache_bytes, (prices, _) = min(
        zip(CACHES_TRIED, fits, strict=True), key=lambda found: found[1][1]
    )
    call, lookup, miss, byte, missed_byte = prices.tolist()
    if not byte:
        raise ValueError(
            "measured lookups: wide rows were no slower than narrow ones; measure more ids and "
            "wider rows, on a quiet machine"
        )
    return replace(
        cluster,
        call_seconds=call,
        lookup_seconds=lookup,
        miss_seconds=miss,
        cache_bytes=cache_bytes,
        cache_bytes_per_second=1 / byte,
        memory_bytes_per_second=1 / (byte + missed_byte),
        source=source,
    )


_NUM_NUMBERS: Final = 6
"""Numbers of the model, the size of the cache among them."""


def predicted_seconds(lookup: Lookup, cluster: Cluster) -> float:
    """What a plan's prices say of a measured step."""
    return cluster.call_seconds + lookup.num_ids * sum(
        seconds_per_id(columns, _held_bytes(rows, columns), cluster)
        for rows, columns in lookup.shapes
    )


def error_ratios(measured: Sequence[Lookup], cluster: Cluster) -> list[float]:
    """How far each prediction is off, as a share of what was measured."""
    return [abs(predicted_seconds(step, cluster) / step.seconds - 1) for step in measured]


def median_error_ratio(measured: Sequence[Lookup], cluster: Cluster) -> float:
    """Half of the predictions are off by less."""
    return statistics.median(error_ratios(measured, cluster))


def _fit(measured: Sequence[Lookup], cache_bytes: int) -> tuple[NDArray[Any], float]:
    """Prices, none below zero, and the sum of squared relative errors; all subsets are tried."""
    amounts = np.array([_amounts(step, cache_bytes) for step in measured])
    relative = amounts / np.array([[step.seconds] for step in measured])
    ones = np.ones(len(measured))
    best, least = np.zeros(relative.shape[1]), float("inf")
    for size in range(1, relative.shape[1] + 1):
        for subset in map(list, combinations(range(relative.shape[1]), size)):
            prices = np.zeros(relative.shape[1])
            prices[subset] = np.linalg.lstsq(relative[:, subset], ones)[0]
            error = float(((relative @ prices - 1) ** 2).sum())
            if error < least and (prices >= 0).all():
                best, least = prices, error
    return best, least


def _amounts(step: Lookup, cache_bytes: int) -> tuple[float, ...]:
    """How many calls, ids, missed ids, bytes and missed bytes a step has."""
    missed = [miss_ratio(_held_bytes(*shape), cache_bytes) for shape in step.shapes]
    moved = [columns * FLOAT_BYTES * TABLE_PASSES for _, columns in step.shapes]
    missed_bytes = sum(ratio * table for ratio, table in zip(missed, moved, strict=True))
    return (
        1,
        step.num_ids * len(step.shapes),
        step.num_ids * sum(missed),
        step.num_ids * sum(moved),
        step.num_ids * missed_bytes,
    )


def _held_bytes(rows: int, columns: int) -> int:
    return shard_bytes(rows, columns, "table_wise", "rowwise_adagrad")
