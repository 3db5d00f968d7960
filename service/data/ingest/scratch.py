"""Parsed rows on disk between the two passes, so that text is read and parsed once.

Columns stay encoded (distinct values of a block, a narrow code a row), which takes about two
thirds of the bytes of the text.
"""

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.data.ingest.splits import SPLITS
from service.data.readers.base import Categories, Rows

LENGTH_BYTES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedRows:
    """The accepted rows of one block, split by split."""

    sizes: tuple[int, ...]
    """Rows of every split, in the order of `SPLITS`."""
    label: NDArray[np.float32]
    dense: Mapping[str, NDArray[np.float32]]
    fields: Mapping[str, Categories]
    bytes_read: int
    """Bytes of all files that had been read when the block was cut; for progress."""

    def packed(self) -> bytes:
        """The same as bytes."""
        return pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL)

    @staticmethod
    def of(rows: Rows, split: NDArray[np.int8]) -> "ParsedRows":
        """What the second pass needs of a block; rows of a split stay in their order."""
        ordered = rows.take(np.argsort(split, kind="stable"))
        return ParsedRows(
            sizes=tuple(np.bincount(split, minlength=len(SPLITS)).tolist()),
            label=ordered.label,
            dense=ordered.dense,
            fields=ordered.fields,
            bytes_read=rows.block.bytes_read,
        )


def unpacked(content: bytes) -> ParsedRows:
    """The rows that were packed, by this process."""
    rows: ParsedRows = pickle.loads(content)
    return rows


class Scratch:
    """A file of packed blocks, written once and read once in the same order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def add(self, packed: bytes) -> None:
        """Put a block behind the others."""
        self._file.write(len(packed).to_bytes(LENGTH_BYTES, "little"))
        self._file.write(packed)

    def blocks(self) -> Iterator[bytes]:
        """Every block in turn; the file is gone afterwards."""
        self.close()
        with self._path.open("rb") as file:
            while length := file.read(LENGTH_BYTES):
                yield file.read(int.from_bytes(length, "little"))
        self._path.unlink()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
