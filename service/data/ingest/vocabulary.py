"""Values to ids: ids are ranks by training frequency, missing and unknown values among them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.tables import FieldStats
from service.data.ingest.hashing import string_keys
from service.data.readers.base import Strings

CURVE_RATIO = 1.15
"""Step between two ranks of a frequency curve: about 16 points a factor of ten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """The rows of a field's table: row ``i`` is id ``i``."""

    values: Strings
    """Value of every id, null for the two special ids."""
    counts: NDArray[np.int64]
    """Training lookups of every id, never rising."""
    missing_id: int
    unknown_id: int
    num_distinct: int
    """Distinct values of the training split, those below the threshold included."""

    @classmethod
    def from_counts(
        cls, tables: Iterable[pa.Table], *, num_missing: int, min_count: int
    ) -> "Vocabulary":
        """Rank the values that occur often enough.

        Equal counts are ordered by value; then comes "missing", then "out of vocabulary".

        Args:
            tables: Columns ``value`` and ``count``; every value once in one of them.
            num_missing: Lookups without a value.
            min_count: Lookups that a value needs to get an id of its own.
        """
        kept = [pa.table({"value": pa.array([], pa.large_string()), "count": NO_COUNTS})]
        num_distinct = num_unknown = 0
        for table in tables:
            often = table.filter(pc.greater_equal(table["count"], pa.scalar(min_count)))
            num_distinct += len(table)
            num_unknown += (pc.sum(table["count"]).as_py() or 0) - (
                pc.sum(often["count"]).as_py() or 0
            )
            kept.append(often.set_column(0, "value", often["value"].cast(pa.large_string())))
        ranked = pa.concat_tables(kept).sort_by([("count", "descending"), ("value", "ascending")])
        counts = ranked["count"].to_numpy()
        specials = sorted([(-num_missing, 0), (-num_unknown, 1)])
        places = [int(np.searchsorted(-counts, negative, "right")) for negative, _ in specials]
        ids = {
            kind: place + i
            for i, (place, (_, kind)) in enumerate(zip(places, specials, strict=True))
        }
        values = ranked["value"].combine_chunks()
        null = pa.nulls(1, pa.large_string())
        pieces = [values[: places[0]], null, values[places[0] : places[1]], null]
        return cls(
            values=pa.concat_arrays([*pieces, values[places[1] :]]),
            counts=np.insert(counts, places, [-negative for negative, _ in specials]),
            missing_id=ids[0],
            unknown_id=ids[1],
            num_distinct=num_distinct,
        )

    def stats(self, name: str, num_rows: int) -> FieldStats:
        """Summarise the field for a sizing scheme; ``num_rows`` are the training rows."""
        num_lookups = int(self.counts.sum())
        return FieldStats(
            name=name,
            num_embeddings=len(self.counts),
            num_lookups=num_lookups,
            pooling_factor=num_lookups / num_rows,
            coverage_ratio=1.0 - int(self.counts[self.unknown_id]) / num_lookups,
            frequency_curve=frequency_curve(self.counts),
        )


NO_COUNTS = pa.array([], pa.int64())


class ValueIndex:
    """Looks up the ids of many strings at once, in about 24 bytes a value.

    A sorted array of 64-bit keys is searched for all strings together; the string found is
    compared with the one sought, so two values with the same key are told apart.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._values = vocabulary.values
        self._missing_id = vocabulary.missing_id
        self._unknown_id = vocabulary.unknown_id
        special = np.zeros(len(vocabulary.values), dtype=bool)
        special[[vocabulary.missing_id, vocabulary.unknown_id]] = True
        keys = string_keys(vocabulary.values)
        order = np.argsort(keys, kind="stable")
        order = order[~special[order]]
        self._keys = keys[order]
        self._ids = order.astype(np.int32)
        self._clashes = self._find_clashes()

    def _find_clashes(self) -> dict[str, int]:
        same = np.flatnonzero(self._keys[1:] == self._keys[:-1])
        clashing = np.union1d(same, same + 1)
        return {self._values[int(i)].as_py(): int(i) for i in self._ids[clashing]}

    def ids_of(self, values: Strings) -> NDArray[np.int32]:
        """Id of every string, and at the end the id of "missing" (for code -1)."""
        ids = np.full(len(values) + 1, self._unknown_id, dtype=np.int32)
        ids[-1] = self._missing_id
        if len(self._keys) == 0 or len(values) == 0:
            return ids
        keys = string_keys(values)
        order = np.argsort(keys)  # neighbours in the search are neighbours in memory
        keys = keys[order]
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        hit = self._keys[place] == keys
        asked, found = order[hit], self._ids[place[hit]]
        same = pc.equal(self._values.take(pa.array(found)), values.take(pa.array(asked)))
        equal = same.to_numpy(zero_copy_only=False)
        ids[asked[equal]] = found[equal]
        for position in asked[~equal].tolist():
            ids[position] = self._clashes.get(values[position].as_py(), self._unknown_id)
        return ids


def frequency_curve(counts: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Pairs ``(rank, lookups of all ids below that rank)`` at ranks that grow geometrically."""
    below = np.cumsum(counts)
    ranks: list[int] = []
    rank = 1.0
    while rank < len(counts):
        if not ranks or int(rank) > ranks[-1]:
            ranks.append(int(rank))
        rank = max(rank * CURVE_RATIO, rank + 1)
    return tuple((rank, int(below[rank - 1])) for rank in [*ranks, len(counts)])
