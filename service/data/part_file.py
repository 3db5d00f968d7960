"""One Parquet part: every byte of it under a checksum, and read where its values lie.

The footer holds the CRC-32 of every row group, ``dataset.json`` the size of the part and the
SHA-256 of its footer. A part that was cut short, damaged, exchanged or written again is told from
the one that ``prepare`` wrote when the row group concerned is read, for the price of one CRC.

Flat columns are plain, required and one page a row group, so that a column chunk ends in its
values: they are used where they lie in the bytes that were read and checked, without decoding.
"""

import hashlib
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.data.dataset import LABEL_COLUMN, PartInfo

CHECKSUMS_KEY: Final = "mixdim.crc32"
"""Key of the footer under which the checksums of the row groups are, in hexadecimal."""
TAIL_BYTES: Final = 8
"""A Parquet file ends in the length of its footer and a magic number."""
MAGIC: Final = b"PAR1"
WRITTEN_BYTES: Final = 1 << 22
"""Bytes handed to the system at a time: a tenth of the work of handing over every page."""


def parts_schema(dense: Iterable[str], fields: Mapping[str, bool]) -> pa.Schema:
    """Columns of a part: label, dense columns, ids.

    Args:
        dense: Names of the dense columns.
        fields: Every field, and whether a row holds a list of its ids.
    """
    id_list = pa.list_(pa.field("element", pa.int32(), nullable=False))
    types = {
        LABEL_COLUMN: pa.float32(),
        **dict.fromkeys(dense, pa.float32()),
        **{name: id_list if is_list else pa.int32() for name, is_list in fields.items()},
    }
    return pa.schema([pa.field(name, type_, nullable=False) for name, type_ in types.items()])


class PartFileWriter:
    """Writes one part, a row group at a time.

    Args:
        folder: Dataset folder.
        path: The part, relative to the folder.
        schema: Its columns; none may be null.
    """

    def __init__(self, folder: Path, path: str, schema: pa.Schema) -> None:
        self._name, self._path = path, folder / path
        self._path.parent.mkdir(exist_ok=True, parents=True)
        self._sink = _SummingFile(self._path)
        self._checksums: list[int] = []
        self._num_rows = 0
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            column_encoding="PLAIN",
        )

    def write(self, group: pa.Table) -> None:
        """Write rows as one row group."""
        self._writer.write_table(group, row_group_size=group.num_rows)
        self._num_rows += group.num_rows
        self._checksums.append(self._sink.take_checksum())

    def close(self) -> PartInfo:
        """Write the footer; returns what tells this part from any other."""
        checksums = " ".join(f"{checksum:08x}" for checksum in self._checksums)
        self._writer.add_key_value_metadata({CHECKSUMS_KEY: checksums})
        self._writer.close()
        self._sink.close()
        with pa.OSFile(str(self._path)) as file:
            footer, size_bytes = _footer(file, self._path), file.size()
        return PartInfo(
            path=self._name,
            num_rows=self._num_rows,
            size_bytes=size_bytes,
            footer_sha256=hashlib.sha256(footer).hexdigest(),
        )


class PartFile:
    """Reads the row groups of one part.

    Args:
        folder: Dataset folder.
        part: What ``dataset.json`` says of the part.
        schema: Columns that will be read.

    Raises:
        FileNotFoundError: If the part is missing.
        ValueError: If it is not the part that ``prepare`` wrote, or lacks a column.
    """

    def __init__(self, folder: Path, part: PartInfo, schema: pa.Schema) -> None:
        self.path = folder / part.path
        if not self.path.is_file():
            raise FileNotFoundError(
                f"part {self.path} is missing, dataset.json names it; prepare the dataset again"
            )
        self._file = pa.OSFile(str(self.path))
        self._metadata = self._checked_metadata(part)
        checksums = (self._metadata.metadata or {}).get(CHECKSUMS_KEY.encode(), b"").split()
        self._checksums = [int(checksum, 16) for checksum in checksums]
        if len(self._checksums) != self._metadata.num_row_groups:
            raise ValueError(
                f"part {self.path} has {len(self._checksums)} checksums for "
                f"{self._metadata.num_row_groups} row groups; prepare the dataset again"
            )
        self._check_schema(schema)
        names = (self._metadata.schema.column(i).path for i in range(self._metadata.num_columns))
        self._places = {name: place for place, name in enumerate(names)}
        starts = [_chunk(self._metadata, group, 0)[0] for group in range(len(self._checksums))]
        self._bounds = [0, *starts[1:], part.size_bytes - self._footer_bytes]

    @property
    def group_sizes(self) -> list[int]:
        """Rows of every row group."""
        groups = range(self._metadata.num_row_groups)
        return [self._metadata.row_group(group).num_rows for group in groups]

    def read(self, group: int) -> bytes:
        """The bytes of a row group.

        Raises:
            ValueError: If they are not those that ``prepare`` wrote.
        """
        first, last = self._bounds[group], self._bounds[group + 1]
        content: bytes = self._file.read_at(last - first, first)
        if len(content) != last - first or zlib.crc32(content) != self._checksums[group]:
            raise ValueError(
                f"part {self.path}, row group {group} (bytes {first} to {last}): its checksum is "
                f"not the one it was written with, so the disk or a copy has damaged it; restore "
                f"the file or prepare the dataset again, then go on with --resume"
            )
        return content

    def values(self, content: bytes, group: int, name: str, dtype: Any) -> Any:
        """A flat column of a row group that was read, in the memory of the row group."""
        _, end = _chunk(self._metadata, group, self._places[name])
        num_rows = self._metadata.row_group(group).num_rows
        start = end - self._bounds[group] - num_rows * np.dtype(dtype).itemsize
        return np.frombuffer(content, dtype, count=num_rows, offset=start)

    def lists(self, group: int, names: Sequence[str]) -> Mapping[str, pa.ListArray]:
        """List columns of a row group."""
        if not names:
            return {}
        file = pq.ParquetFile(self._file, metadata=self._metadata)
        table = file.read_row_group(group, columns=list(names), use_threads=False)
        return {name: table.column(name).combine_chunks() for name in names}

    def _checked_metadata(self, part: PartInfo) -> pq.FileMetaData:
        size = self._file.size()
        if size != part.size_bytes:
            raise ValueError(
                f"part {self.path} has {size:,} bytes, dataset.json says {part.size_bytes:,}: it "
                f"was cut short or written again; restore it or prepare the dataset again"
            )
        footer = _footer(self._file, self.path)
        self._footer_bytes = len(footer) + TAIL_BYTES
        if hashlib.sha256(footer).hexdigest() != part.footer_sha256:
            raise ValueError(
                f"part {self.path} is not the one that dataset.json describes: its footer differs, "
                f"so the dataset changed or was prepared again; start a new run on it, or restore "
                f"the dataset that this run began with"
            )
        tail = MAGIC + footer + len(footer).to_bytes(4, "little") + MAGIC
        return pq.read_metadata(pa.BufferReader(tail))

    def _check_schema(self, schema: pa.Schema) -> None:
        found = self._metadata.schema.to_arrow_schema()
        for field in schema:
            place = found.get_field_index(field.name)
            if place < 0:
                raise ValueError(
                    f"part {self.path} has no column {field.name!r}, dataset.json names it; "
                    f"prepare the dataset again"
                )
            if not found.field(place).equals(field):
                raise ValueError(
                    f"part {self.path}: column {field.name!r} is {_described(found.field(place))}, "
                    f"expected {_described(field)}; prepare the dataset again"
                )


class _SummingFile(io.RawIOBase):
    """A file that keeps a CRC-32 of what is written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=WRITTEN_BYTES)
        self._checksum = 0

    def writable(self) -> bool:
        """Arrow asks."""
        return True

    def write(self, content: Any) -> int:
        """Write, and remember what was written."""
        self._checksum = zlib.crc32(content, self._checksum)
        return self._file.write(content)

    def take_checksum(self) -> int:
        """Checksum of what was written since the last call."""
        checksum, self._checksum = self._checksum, 0
        return checksum

    def close(self) -> None:
        """Close the file beneath."""
        self._file.close()
        super().close()


def _footer(file: pa.NativeFile, path: Path) -> bytes:
    """The footer of a Parquet file, without its length and the magic number."""
    size = file.size()
    tail = file.read_at(TAIL_BYTES, max(size - TAIL_BYTES, 0))
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length + TAIL_BYTES > size:
        raise ValueError(
            f"part {path} is no Parquet file: it does not end in a footer; restore it or prepare "
            f"the dataset again"
        )
    footer: bytes = file.read_at(length, size - TAIL_BYTES - length)
    return footer


def _chunk(metadata: pq.FileMetaData, group: int, place: int) -> tuple[int, int]:
    """First byte of a column chunk, and the first behind it."""
    column = metadata.row_group(group).column(place)
    start: int = column.data_page_offset
    return start, start + column.total_compressed_size


def _described(field: pa.Field) -> str:
    return f"{field.type}{' with nulls' if field.nullable else ''}"
