"""Encoded columns as numbers and as categories, with every value checked once.

A column comes as distinct values and codes, so each function here works on the distinct values of
a block; a value that is no good marks its rows in `Faults`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.data.dataset import MISSING_DENSE
from service.data.readers.base import MISSING_CODE, Categories, Codes, Strings, Transform, runs

AnyArray: TypeAlias = "pa.Array[Any]"
Derive = Callable[[Strings], AnyArray]
"""From distinct strings to strings (or lists of strings), null where there is no value."""


@dataclass(kw_only=True, slots=True)
class Faults:
    """Rows of a block that hold a value that is no good, with the first reason of each."""

    reasons: dict[int, str] = field(default_factory=dict)

    def mark(self, rows: NDArray[np.int64], reason: Callable[[int], str]) -> None:
        """Note rows; ``reason`` is asked for those that had none yet."""
        for row in rows.tolist():
            if row not in self.reasons:
                self.reasons[row] = reason(row)


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Distinct values of a column and a code per row."""

    name: str
    values: AnyArray
    codes: Codes

    @classmethod
    def of(cls, name: str, column: Any) -> "Encoded":
        """Encode a column unless it is; nulls get `MISSING_CODE`."""
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        smallest = np.min_scalar_type(-max(len(column.dictionary), 1))
        codes = column.indices.fill_null(MISSING_CODE).to_numpy().astype(smallest)
        return cls(name=name, values=column.dictionary, codes=codes)

    def codes_and_missing(self) -> Codes:
        """The codes, and behind them that of a missing value."""
        return np.append(self.codes, self.codes.dtype.type(MISSING_CODE))

    def rows_of(self, bad: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Rows whose value is marked in ``bad``."""
        return np.flatnonzero(np.append(bad, False)[self.codes])  # the last stands for "missing"

    def mark(self, bad: NDArray[np.bool_], faults: Faults, reason: str) -> None:
        """Mark the rows of bad values; ``{}`` in the reason is the value."""
        if bad.any():
            faults.mark(self.rows_of(bad), lambda row: self._explain(row, reason))

    def _explain(self, row: int, reason: str) -> str:
        value = self.values[int(self.codes[row])].as_py()
        if isinstance(value, bytes):
            value = value[:40].decode("utf-8", "backslashreplace")
        return f"column {self.name}: {reason.format(repr(value))}"


def to_numbers(column: Encoded, faults: Faults) -> NDArray[np.float64]:
    """Distinct values as finite numbers, NaN where they are none."""
    values = column.values
    if pa.types.is_binary(values.type) or pa.types.is_string(values.type):
        text, broken = _cast_each(values, pa.string())
        column.mark(broken, faults, "{} is not UTF-8")
        numbers, bad = _cast_each(pc.utf8_trim_whitespace(text), pa.float64())
        bad &= ~broken
    else:  # whole numbers beyond 2 ** 53, as times in nanoseconds are, become the nearest float
        numbers, bad = _cast_each(values, pa.float64(), safe=False)
    column.mark(bad, faults, "{} is not a number")
    result: NDArray[np.float64] = numbers.fill_null(np.nan).to_numpy(zero_copy_only=False)
    infinite = ~np.isfinite(result) & np.asarray(numbers.is_valid())
    column.mark(infinite, faults, "{} is not a finite number")
    return result


def to_dense(column: Encoded, transform: Transform, faults: Faults) -> NDArray[np.float32]:
    """A dense column per row: transformed, missing values marked."""
    numbers = to_numbers(column, faults)
    if transform == "log1p":
        numbers = np.log1p(np.maximum(numbers, 0.0))
    else:
        column.mark(numbers < 0, faults, "{} is negative, and the transform 'none' keeps values")
    narrow = _narrowed(column, numbers, faults)
    return np.append(narrow, np.float32(MISSING_DENSE))[column.codes]


def to_label(column: Encoded, allowed: tuple[float, ...], faults: Faults) -> NDArray[np.float32]:
    """The label per row; a row without one is no good. No ``allowed`` values mean any number."""
    numbers = to_numbers(column, faults)
    if allowed:
        expected = " or ".join(f"{value:g}" for value in allowed)
        bad = ~np.isin(numbers, allowed) & np.isfinite(numbers)
        column.mark(bad, faults, "{} is not a label; expected " + expected)
    missing = np.flatnonzero(column.codes == MISSING_CODE)
    faults.mark(missing, lambda _: f"column {column.name}: the label is missing")
    return np.append(_narrowed(column, numbers, faults), np.float32(np.nan))[column.codes]


def _narrowed(column: Encoded, numbers: NDArray[np.float64], faults: Faults) -> NDArray[np.float32]:
    """The distinct values as they are stored; those that are too large are no good."""
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float32)
    column.mark(np.isinf(narrow), faults, "{} does not fit into 32 bits")
    return narrow


def to_time(column: Encoded, faults: Faults) -> NDArray[np.int64]:
    """A point in time per row, in the column's own unit; a row without one is no good."""
    if pa.types.is_temporal(column.values.type):  # days and milliseconds may have 32 bits
        whole = column.values.view(f"int{column.values.type.bit_width}")
        column = replace(column, values=whole)
    numbers = to_numbers(column, faults)
    column.mark(np.abs(numbers) >= 2.0**63, faults, "{} does not fit into 64 bits")
    times = np.where(np.abs(numbers) < 2.0**63, numbers, 0.0)  # 0 for those that are no good
    missing = np.flatnonzero(column.codes == MISSING_CODE)
    faults.mark(missing, lambda _: f"column {column.name}: the time is missing")
    return np.append(times, 0.0)[column.codes].astype(np.int64)


def to_categories(
    column: Encoded, faults: Faults, derive: Derive | None = None, *, strict: bool = False
) -> Categories:
    """A categorical column; an empty value is a missing one.

    Args:
        column: The column as it was read.
        faults: Where values that are not UTF-8 are noted.
        derive: What to make of the values, as `Derive`; as they are where not given.
        strict: Whether a value of which ``derive`` makes nothing is no good; else it is missing.
    """
    text, broken = _cast_each(column.values, pa.string())
    column.mark(broken, faults, "{} is not UTF-8")
    if derive is None and not broken.any() and not _is_empty(text).any():
        return Categories(values=text, codes=column.codes)
    derived = text if derive is None else derive(text)
    if strict:
        unread = np.asarray(derived.is_null()) & ~broken
        column.mark(unread, faults, "{} cannot be read")
    if pa.types.is_list(derived.type):
        return to_list_categories(derived, column.codes)
    again = _encode_values(derived)  # several distinct values may have become one
    return Categories(values=again.values, codes=again.codes_and_missing()[column.codes])


def to_list_categories(lists: AnyArray, codes: Codes) -> Categories:
    """Lists of strings per distinct value as elements per row.

    Empty elements are left out; a row with no element left has one missing element.
    """
    flat = lists.flatten()
    kept = ~_is_empty(flat)
    parents = pc.list_parent_indices(lists).to_numpy()[kept]
    lengths = np.bincount(parents, minlength=len(lists) + 1)  # the last stands for "missing"
    starts = np.cumsum(lengths) - lengths
    again = _encode_values(flat.filter(pa.array(kept)))
    taken = np.maximum(lengths[codes], 1)
    elements = runs(starts[codes], taken)
    elements[np.repeat(lengths[codes] == 0, taken)] = len(again.codes)
    return Categories(
        values=again.values,
        codes=again.codes_and_missing()[elements],
        lengths=taken.astype(np.int32),
    )


def _encode_values(strings: Strings) -> Encoded:
    """Encode strings, empty ones as missing."""
    empty: Any = pa.array(_is_empty(strings))
    return Encoded.of("", pc.if_else(empty, pa.scalar(None, pa.string()), strings))


def _is_empty(strings: Strings) -> NDArray[np.bool_]:
    """Which strings are empty or null."""
    lengths = pc.binary_length(strings).fill_null(0).to_numpy(zero_copy_only=False)
    empty: NDArray[np.bool_] = np.equal(lengths, 0)
    return empty


def _cast_each(
    values: AnyArray, to: Any, *, safe: bool = True
) -> tuple[AnyArray, NDArray[np.bool_]]:
    """Cast values; those that cannot be cast become null and are marked, by halving."""
    if values.type == to:
        return values, np.zeros(len(values), dtype=bool)
    try:
        return pc.cast(values, to, safe=safe), np.zeros(len(values), dtype=bool)
    except pa.ArrowNotImplementedError:  # no value of such a type can be, as no date is a number
        return pa.nulls(len(values), to), np.ones(len(values), dtype=bool)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, to), np.ones(1, dtype=bool)
    half = len(values) // 2
    left, left_bad = _cast_each(values[:half], to, safe=safe)
    right, right_bad = _cast_each(values[half:], to, safe=safe)
    return pa.concat_arrays([left, right]), np.concatenate([left_bad, right_bad])
