"""A `Dataset` over text files of one format."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.data.dataset import SourceFile
from service.data.readers.base import Block, Layout, Rows
from service.data.readers.blocks import LineBlocks
from service.data.readers.records import Delimited, read_records
from service.data.readers.roles import RawForm, Roles


@dataclass(frozen=True, kw_only=True)
class DelimitedDataset:
    """Text files of one format."""

    lines: LineBlocks
    how: Delimited
    roles: Roles
    long_delimiter: bytes | None = None
    """A delimiter of several characters; ``how.delimiter`` stands in for it."""

    @property
    def layout(self) -> Layout:
        """The columns of every row."""
        return self.roles.layout

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return self.lines.num_bytes

    def blocks(self) -> Iterator[Block]:
        """Cut the files into blocks of lines."""
        return iter(self.lines)

    def files(self) -> Sequence[SourceFile]:
        """What the first pass read."""
        return tuple(self.lines.files.values())

    def attachments(self) -> Mapping[str, str]:
        """What raw rows look like."""
        how = self.how
        return RawForm(
            roles=self.roles,
            names=() if self.lines.header else how.names,
            delimiter=how.delimiter,
            quote=how.quote,
        ).attachment()

    def parse(self, block: Block) -> Rows:
        """Read the records of a block and convert them."""
        payload: Any = block.payload
        if self.long_delimiter:
            payload = payload.replace(self.long_delimiter, self.how.delimiter.encode())
        records = read_records(payload, block.num_lines, self.how)
        return self.roles.convert(block, records.columns, records.lines, records.faults)
