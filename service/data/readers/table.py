"""The user's own table: CSV, TSV or Parquet, with a schema file that names its columns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from service.data.readers.avazu import common_header
from service.data.readers.base import Dataset, Layout, Reading
from service.data.readers.blocks import COMPRESSIONS, LineBlocks, check_files
from service.data.readers.delimited import DelimitedDataset
from service.data.readers.derive import SplitBy
from service.data.readers.parquet_table import ParquetDataset, parquet_columns
from service.data.readers.records import Delimited
from service.data.readers.roles import FieldSource, Roles
from service.data.readers.table_schema import TableSchema, read_table_schema

PARQUET_ENDINGS = frozenset({".parquet", ".pq"})
TAB_ENDINGS = frozenset({".tsv", ".txt", ".tab"})


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnTable:
    """Your own CSV, TSV or Parquet files, with a schema file that names the columns."""

    name: ClassVar[str] = "table"

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files in order; text may be .gz or .zst; all of one kind."""

    schema: Path
    """TOML or JSON file that says which column is what; docs/prepare.md describes it."""

    def open(self, reading: Reading) -> Dataset:
        """Read the schema and the columns of the files.

        Raises:
            FileNotFoundError: If a file does not exist.
            ValueError: If the schema is malformed, names a column that is not there, or the
                files are of different kinds.
        """
        check_files(self.inputs)
        schema = read_table_schema(self.schema)
        roles = table_roles(schema, schema.layout())
        parquet = [path.suffix.lower() in PARQUET_ENDINGS for path in self.inputs]
        if all(parquet):
            for path in self.inputs:
                schema.check_columns(path, parquet_columns(path, roles))
            return ParquetDataset(paths=self.inputs, roles=roles)
        if any(parquet):
            raise ValueError(
                f"{self.inputs[parquet.index(True)]} is Parquet and "
                f"{self.inputs[parquet.index(False)]} is not; prepare files of one kind at a time"
            )
        return self._open_text(schema, roles, reading)

    def _open_text(self, schema: TableSchema, roles: Roles, reading: Reading) -> Dataset:
        delimiter = schema.delimiter or default_delimiter(self.inputs[0])
        names = tuple(schema.columns) or common_header(self.inputs, delimiter)
        schema.check_columns(self.inputs[0], names)
        return DelimitedDataset(
            lines=LineBlocks(
                paths=self.inputs, block_bytes=reading.block_bytes, header=not schema.columns
            ),
            how=Delimited(delimiter=delimiter, quote=schema.quote or None, names=names),
            roles=roles,
        )


def default_delimiter(path: Path) -> str:
    """Tab for the usual endings of tab-separated files, else a comma."""
    compressed = path.suffix.lower() in COMPRESSIONS
    ending = path.with_suffix("").suffix if compressed else path.suffix
    return "\t" if ending.lower() in TAB_ENDINGS else ","


def table_roles(schema: TableSchema, layout: Layout) -> Roles:
    """What becomes of the columns that the schema names."""
    fields = {name: FieldSource(column=name) for name in schema.categorical} | {
        name: FieldSource(column=name, derive=SplitBy(separator=separator))
        for name, separator in schema.lists.items()
    }
    return Roles(
        layout=layout, label=schema.label, fields=fields, click_threshold=schema.click_threshold
    )
