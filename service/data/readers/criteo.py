"""Criteo click logs: label, 13 integers, 26 hashed categories, tab-separated, no header."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final

import tyro

from service.data.dataset import LABEL_COLUMN
from service.data.readers.base import Dataset, Layout, Reading
from service.data.readers.blocks import LineBlocks, check_files
from service.data.readers.delimited import DelimitedDataset
from service.data.readers.records import Delimited
from service.data.readers.roles import FieldSource, RawForm, Roles

DENSE: Final = tuple(f"I{number}" for number in range(1, 14))
FIELDS: Final = tuple(f"C{number}" for number in range(1, 27))


@dataclass(frozen=True, kw_only=True, slots=True)
class Criteo:
    """Criteo's form (Kaggle train.txt, or the days of the terabyte log)."""

    name: ClassVar[str] = "criteo"

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files in order, plain, .gz or .zst; several files are several days."""

    def open(self, reading: Reading) -> Dataset:
        """Check that the files are there."""
        check_files(self.inputs)
        return DelimitedDataset(
            lines=LineBlocks(paths=self.inputs, block_bytes=reading.block_bytes, header=False),
            how=CRITEO_LINES,
            roles=CRITEO_ROLES,
        )


CRITEO_LINES: Final = Delimited(delimiter="\t", names=(LABEL_COLUMN, *DENSE, *FIELDS))
CRITEO_ROLES: Final = Roles(
    layout=Layout(
        task="click", dense=dict.fromkeys(DENSE, "log1p"), fields=dict.fromkeys(FIELDS, False)
    ),
    label=LABEL_COLUMN,
    fields={name: FieldSource(column=name) for name in FIELDS},
)
CRITEO_FORM: Final = RawForm(
    roles=CRITEO_ROLES, names=CRITEO_LINES.names, delimiter=CRITEO_LINES.delimiter
)
