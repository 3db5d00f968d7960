"""Tables without their zeros on disk: ``indices.bin``, ``values.bin``, and ``sparse.json``.

Every table is in the smallest of the formats of `models.sparse`, whose bytes are those of the two
binary files. ``indices.bin`` says where a table's weights are, ``values.bin`` has the weights that
are not zero as float32: by rows, in ``csc`` by columns. Any rows can be read, with NumPy alone.
"""

# Shapes:  n rows of a table, d columns, z weights that are not zero, m ids of a lookup

from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from models.sparse import BLOCK_BITS, Format, format_bytes, index_bytes
from models.tables import FLOAT_BYTES
from service.file_sizes import check_sizes

INDICES_FILE: Final = "indices.bin"
VALUES_FILE: Final = "values.bin"
INDEX_FILE: Final = "sparse.json"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseTable:
    """Where a table's weights are."""

    name: str
    num_rows: int
    dim: int
    format: Format
    num_stored: int
    """Weights in ``values.bin``."""
    first_index_byte: int = 0
    first_value: int = 0

    @property
    def num_index_bytes(self) -> int:
        """Bytes that it has in ``indices.bin``."""
        whole = format_bytes(self.num_rows, self.dim, self.num_stored)[self.format]
        return whole - FLOAT_BYTES * self.num_stored


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseIndex:
    """``sparse.json``."""

    tables: tuple[SparseTable, ...]
    checkpoint: str = ""
    """Which checkpoint of which run they are of."""
    format_version: int = 1


INDEX: Final = TypeAdapter(SparseIndex)


def unsigned(largest: int) -> np.dtype[np.generic]:
    """The smallest unsigned integer that holds a number, lowest byte first."""
    return np.dtype(f"<u{index_bytes(largest)}")


def encoded(table: SparseTable, places: Ints, values: Floats) -> tuple[bytes, Floats]:
    """Indices and values of a sparse table as they are stored.

    Args:
        table: Which, and in what format.
        places: Where its weights are in the table read row by row, rising ``(z,)``.
        values: The weights ``(z,)``.
    """
    rows, columns = np.divmod(places, table.dim)
    match table.format:
        case "dense":
            return b"", values
        case "csr":
            indices = _pointers(rows, table.num_rows), columns.astype(unsigned(table.dim - 1))
        case "csc":
            order = np.argsort(columns, kind="stable")
            values = values[order]
            indices = (
                _pointers(columns, table.dim),
                rows[order].astype(unsigned(table.num_rows - 1)),
            )
        case "bitmap":
            is_set = np.zeros(-(-table.num_rows * table.dim // 8) * 8, dtype=np.uint8)
            is_set[places] = 1
            starts = np.arange(0, table.num_rows * table.dim, BLOCK_BITS)
            before = np.searchsorted(places, starts).astype(unsigned(len(places)))
            indices = before, np.packbits(is_set, bitorder="little")
    return b"".join(part.tobytes() for part in indices), values


def _pointers(sorted_by: Ints, num_groups: int) -> npt.NDArray[np.unsignedinteger]:
    counts = np.bincount(sorted_by, minlength=num_groups)
    ends = np.concatenate([[0], np.cumsum(counts)])
    return cast("npt.NDArray[np.unsignedinteger]", ends.astype(unsigned(len(sorted_by))))


class SparseTables:
    """Rows of tables from an export, a lookup at a time.

    Args:
        folder: Written by `service.export_sparse`.

    Raises:
        FileNotFoundError: If the folder holds no export.
        ValueError: If files are shorter or longer than they are to be.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / INDEX_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; make it with `mixdim search prune`")
        self.index = INDEX.validate_json(path.read_bytes())
        self._tables = {table.name: table for table in self.index.tables}
        expected = {
            INDICES_FILE: sum(table.num_index_bytes for table in self.index.tables),
            VALUES_FILE: FLOAT_BYTES * sum(table.num_stored for table in self.index.tables),
        }
        self.num_bytes = check_sizes(folder, expected)
        self._indices = np.fromfile(folder / INDICES_FILE, dtype=np.uint8)
        self._values = np.fromfile(folder / VALUES_FILE, dtype="<f4")

    def rows(self, name: str, ids: npt.NDArray[np.integer]) -> Floats:
        """Rows ``(m, d)`` of a table."""
        table = self._tables[name]
        values = self._values[table.first_value : table.first_value + table.num_stored]
        end = table.first_index_byte + table.num_index_bytes
        indices = self._indices[table.first_index_byte : end]
        wanted = ids.astype(np.int64)
        match table.format:
            case "dense":
                return values.reshape(-1, table.dim)[wanted]
            case "csr":
                return _by_rows(table, indices, values, wanted)
            case "csc":
                return _by_columns(table, indices, values, wanted)
            case "bitmap":
                return _by_bits(table, indices, values, wanted)


def _by_rows(table: SparseTable, indices: Bytes, values: Floats, ids: Ints) -> Floats:
    pointers, columns = _split(indices, table.num_rows + 1, table.num_stored, table.dim - 1)
    starts, ends = pointers[ids].astype(np.int64), pointers[ids + 1].astype(np.int64)
    of_id = np.repeat(np.arange(len(ids)), ends - starts)
    first = np.repeat(starts - np.concatenate([[0], np.cumsum(ends - starts)[:-1]]), ends - starts)
    places = first + np.arange(len(of_id))
    found = np.zeros((len(ids), table.dim), dtype=np.float32)
    found[of_id, columns[places]] = values[places]
    return found


def _by_columns(table: SparseTable, indices: Bytes, values: Floats, ids: Ints) -> Floats:
    pointers, rows = _split(indices, table.dim + 1, table.num_stored, table.num_rows - 1)
    found = np.zeros((len(ids), table.dim), dtype=np.float32)
    for column in range(table.dim):
        start, end = int(pointers[column]), int(pointers[column + 1])
        own = rows[start:end]
        if len(own):
            places = np.minimum(np.searchsorted(own, ids), len(own) - 1)
            is_there = own[places] == ids
            found[is_there, column] = values[start + places[is_there]]
    return found


def _split(
    indices: Bytes, num_pointers: int, num_stored: int, largest: int
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    """Pointers, and the indices behind them."""
    end = num_pointers * index_bytes(num_stored)
    return indices[:end].view(unsigned(num_stored)), indices[end:].view(unsigned(largest))


def _by_bits(table: SparseTable, indices: Bytes, values: Floats, ids: Ints) -> Floats:
    num_blocks = -(-table.num_rows * table.dim // BLOCK_BITS)
    end = num_blocks * index_bytes(table.num_stored)
    before, bitmap = indices[:end].view(unsigned(table.num_stored)), indices[end:]
    first = ids * table.dim  # bit of the row
    block = first // BLOCK_BITS
    num_bytes = (BLOCK_BITS + table.dim) // 8 + 1
    place = (block * BLOCK_BITS // 8)[:, None] + np.arange(num_bytes)
    window = np.unpackbits(
        bitmap[np.minimum(place, len(bitmap) - 1)], axis=1, bitorder="little"
    )  # (m, bits): the row's block, and as much behind it as a row is wide
    position = (first % BLOCK_BITS)[:, None] + np.arange(table.dim)
    is_set = np.take_along_axis(window, position, axis=1).astype(bool)
    rank = np.take_along_axis(np.cumsum(window, axis=1, dtype=np.int64), position, axis=1) - 1
    found = np.zeros((len(ids), table.dim), dtype=np.float32)
    found[is_set] = values[(before[block].astype(np.int64)[:, None] + rank)[is_set]]
    return found
