"""Codes and their values on disk: ``codes.bin``, ``values.bin``, and what they are, ``codes.json``.

``codes.bin`` has the codes of all coded fields, packed bit by bit from the lowest one on, without
gaps between ids; a field and each of its tiers start at a whole byte. ``values.bin`` has float32:
of a coded field what its codes stand for, of any other its rows. Reading needs NumPy alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from models.embeddings.coded import Tier
from service.file_sizes import check_sizes

CODES_FILE: Final = "codes.bin"
VALUES_FILE: Final = "values.bin"
INDEX_FILE: Final = "codes.json"

Ids = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class CodedField:
    """Where a field's codes and values are."""

    name: str
    dim: int
    num_ids: int
    tiers: tuple[Tier, ...] = ()
    """Ids by how many codes they choose among; none where rows are stored as they are."""
    groups: int = 1
    shared_values: bool = False
    """Whether all groups have the same values."""
    first_code_byte: int = 0
    first_value: int = 0

    @property
    def num_values(self) -> int:
        """Floats that it has in ``values.bin``."""
        if not self.tiers:
            return self.num_ids * self.dim
        most = max(tier.num_codes for tier in self.tiers)
        return most * self.dim // (self.groups if self.shared_values else 1)

    @property
    def num_code_bytes(self) -> int:
        """Bytes that it has in ``codes.bin``."""
        return sum(tier.num_bytes(self.groups) for tier in self.tiers)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodedIndex:
    """``codes.json``."""

    fields: tuple[CodedField, ...]
    checkpoint: str = ""
    """Which checkpoint of which run they are of."""
    format_version: int = 1


INDEX: Final = TypeAdapter(CodedIndex)


def pack_codes(codes: Bytes, bits: int) -> Bytes:
    """Codes ``(n,)`` one behind the other, lowest bits first."""
    by_bit = (codes[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(by_bit, bitorder="little")


class CodedTables:
    """Vectors of ids from an export, a lookup at a time.

    Args:
        folder: Written by `service.export_codes`.

    Raises:
        FileNotFoundError: If the folder holds no export.
        ValueError: If files are shorter or longer than they are to be.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / INDEX_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; make it with `mixdim search dpq`")
        self.index = INDEX.validate_json(path.read_bytes())
        self._fields = {field.name: field for field in self.index.fields}
        expected = {
            CODES_FILE: sum(field.num_code_bytes for field in self.index.fields),
            VALUES_FILE: 4 * sum(field.num_values for field in self.index.fields),
        }
        self.num_bytes = check_sizes(folder, expected)
        self._values = np.memmap(folder / VALUES_FILE, dtype=np.float32, mode="r")
        self._codes = np.memmap(folder / CODES_FILE, dtype=np.uint8, mode="r")

    def vectors(self, name: str, ids: Ids) -> Floats:
        """Vectors ``(n, d)`` of ids ``(n,)`` of a field."""
        field = self._fields[name]
        values = self._values[field.first_value : field.first_value + field.num_values]
        if not field.tiers:
            rows: Floats = values.reshape(-1, field.dim)[ids]
            return rows
        width = field.dim // field.groups
        books = values.reshape(1 if field.shared_values else field.groups, -1, width)
        books = np.broadcast_to(books, (field.groups, *books.shape[1:]))
        chosen: Floats = books[np.arange(field.groups), self.codes(name, ids)]  # (n, G, s)
        return chosen.reshape(len(ids), field.dim)

    def codes(self, name: str, ids: Ids) -> npt.NDArray[np.int64]:
        """Codes ``(n, G)`` of ids of a field that has some."""
        field = self._fields[name]
        codes = np.zeros((len(ids), field.groups), dtype=np.int64)
        for tier, first_id, first_byte in _placed(field):
            is_own = (ids >= first_id) & (ids < first_id + tier.num_ids)
            places = (ids[is_own].astype(np.int64)[:, None] - first_id) * field.groups
            bit = (places + np.arange(field.groups)) * tier.code_bits
            byte = first_byte + bit // 8
            # A code may begin in one byte and end in the next; behind the last byte none does.
            after = np.minimum(byte + 1, len(self._codes) - 1)
            both = self._codes[byte].astype(np.int64) | self._codes[after].astype(np.int64) << 8
            codes[is_own] = (both >> (bit % 8)) & (tier.num_codes - 1)
        return codes


def _placed(field: CodedField) -> Iterator[tuple[Tier, int, int]]:
    """Tiers of a field, their first id, and the byte that this one's codes begin at."""
    first_id, first_byte = 0, field.first_code_byte
    for tier in field.tiers:
        yield tier, first_id, first_byte
        first_id += tier.num_ids
        first_byte += tier.num_bytes(field.groups)


class CodeWriter:
    """Writes codes and values field by field, a piece at a time.

    Args:
        codes: ``codes.bin``.
        values: ``values.bin``.
    """

    def __init__(self, codes: BinaryIO, values: BinaryIO) -> None:
        self._codes, self._values = codes, values
        self.fields: list[CodedField] = []

    def add(self, field: CodedField) -> None:
        """Begin a field."""
        done = self.fields
        self.fields.append(
            replace(
                field,
                first_code_byte=sum(other.num_code_bytes for other in done),
                first_value=sum(other.num_values for other in done),
            )
        )

    def write_values(self, values: Floats) -> None:
        """Write rows, or what codes stand for."""
        self._values.write(np.ascontiguousarray(values, dtype="<f4").tobytes())

    def write_codes(self, codes: Sequence[int] | npt.NDArray[np.int64], bits: int) -> None:
        """Write codes; all but the last ones of a tier fill whole bytes."""
        flat = np.asarray(codes).astype(np.uint8).reshape(-1)
        self._codes.write(pack_codes(flat, bits).tobytes())
