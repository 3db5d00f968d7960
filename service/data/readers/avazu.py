"""Avazu click logs: CSV with a header; the hour stamp becomes hour of day and weekday."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final

import tyro

from service.data.readers.base import Dataset, Layout, Reading
from service.data.readers.blocks import LineBlocks, check_files, read_header
from service.data.readers.delimited import DelimitedDataset
from service.data.readers.derive import HourOfDay, Weekday
from service.data.readers.records import Delimited
from service.data.readers.roles import FieldSource, Roles

LABEL: Final = "click"
STAMP: Final = "hour"
LEFT_OUT: Final = frozenset({"id", LABEL, STAMP})


@dataclass(frozen=True, kw_only=True, slots=True)
class Avazu:
    """Avazu's form (Kaggle train.csv): id, click, hour and categories, with a header."""

    name: ClassVar[str] = "avazu"

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files in order, plain, .gz or .zst, each with the header."""

    def open(self, reading: Reading) -> Dataset:
        """Read the headers.

        Raises:
            ValueError: If the header has no ``click`` or ``hour``, or two files differ.
        """
        check_files(self.inputs)
        names = common_header(self.inputs, ",")
        for needed in (LABEL, STAMP):
            if needed not in names:
                raise ValueError(
                    f"{self.inputs[0]}: the header has no column {needed!r}, only "
                    f"{', '.join(names)}; expected Avazu's train.csv (use `table` for other files)"
                )
        fields = {
            STAMP: FieldSource(column=STAMP, derive=HourOfDay(), strict=True),
            "weekday": FieldSource(column=STAMP, derive=Weekday(), strict=True),
        } | {name: FieldSource(column=name) for name in names if name not in LEFT_OUT}
        return DelimitedDataset(
            lines=LineBlocks(paths=self.inputs, block_bytes=reading.block_bytes, header=True),
            how=Delimited(delimiter=",", names=names),
            roles=Roles(
                layout=Layout(task="click", fields=dict.fromkeys(fields, False), time_column=STAMP),
                label=LABEL,
                fields=fields,
            ),
        )


def common_header(paths: tuple[Path, ...], delimiter: str) -> tuple[str, ...]:
    """Column names, which all files must share.

    Raises:
        ValueError: If two files have different headers.
    """
    headers = {path: _header(path, delimiter) for path in paths}
    first = headers[paths[0]]
    for path, names in headers.items():
        if names != first:
            raise ValueError(
                f"{path}: its header is {', '.join(names)}; expected that of {paths[0]}: "
                f"{', '.join(first)}"
            )
    return first


def _header(path: Path, delimiter: str) -> tuple[str, ...]:
    try:
        return tuple(next(csv.reader([read_header(path)], delimiter=delimiter)))
    except csv.Error as error:
        raise ValueError(
            f"{path}: its first line is no header ({error}); expected lines that end in LF or CRLF"
        ) from error
