"""A `Dataset` over Parquet files: the same parts and checks as for text, row by row."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.data.dataset import SourceFile
from service.data.readers.base import Block, Layout, Rows
from service.data.readers.roles import RawForm, Roles

BATCH_ROWS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ParquetDataset:
    """Parquet files with the same columns."""

    paths: tuple[Path, ...]
    roles: Roles
    _files: list[SourceFile] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        """The columns of every row."""
        return self.roles.layout

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.paths)

    def blocks(self) -> Iterator[Block]:
        """Cut the files into batches of rows."""
        self._files.clear()
        names = list(self.roles.raw_columns())
        first_index, bytes_before = 0, 0
        for path in self.paths:
            num_bytes = path.stat().st_size
            with pq.ParquetFile(path) as file:
                num_rows, row = file.metadata.num_rows, 0
                for batch in file.iter_batches(BATCH_ROWS, columns=names):
                    row += batch.num_rows
                    yield Block(
                        path=path,
                        first_line=row - batch.num_rows + 1,
                        first_index=first_index,
                        num_lines=batch.num_rows,
                        bytes_read=bytes_before + num_bytes * row // num_rows,
                        payload=batch,
                    )
                    first_index += batch.num_rows
            with path.open("rb") as raw:
                sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
            self._files.append(
                SourceFile(path=str(path), size_bytes=num_bytes, sha256=sha256, num_lines=num_rows)
            )
            bytes_before += num_bytes

    def parse(self, block: Block) -> Rows:
        """Convert the rows of a batch."""
        assert isinstance(block.payload, pa.RecordBatch), "blocks of Parquet hold batches"
        columns = pa.Table.from_batches([block.payload])
        return self.roles.convert(block, columns, np.arange(block.num_lines), {})

    def files(self) -> Sequence[SourceFile]:
        """What the passes read."""
        return tuple(self._files)

    def attachments(self) -> Mapping[str, str]:
        """What raw rows look like."""
        return RawForm(roles=self.roles).attachment()


def parquet_columns(path: Path, roles: Roles) -> list[str]:
    """Names of the columns of a file.

    Raises:
        ValueError: If it is not a Parquet file, or a column has another form than its role wants.
    """
    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file: {error}") from error
    used = roles.raw_columns()
    for column in schema:
        values = column.type
        if roles.layout.fields.get(column.name) and _is_list(values):
            values = values.value_type
        if column.name in used and pa.types.is_nested(values):
            what = "is a list" if _is_list(column.type) else f"holds {column.type}"
            raise ValueError(
                f"{path}: column {column.name!r} {what}, expected one value a row; columns of "
                f"several are named under [lists] in the schema"
            )
    return list(schema.names)


def _is_list(values: pa.DataType) -> bool:
    return bool(pa.types.is_list(values) or pa.types.is_large_list(values))
