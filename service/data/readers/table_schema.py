"""The schema file of ``prepare table``: which column of the user's own file plays which part."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from service.data.dataset import Task
from service.data.readers.base import Layout, Transform
from service.first_fault import first_fault


def _check_names(value: Any) -> Any:
    """Refuse what is no list of names, in words: those of pydantic are about its own types."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError("expected a list of column names")
    return value


def _check_dense(value: Any) -> Any:
    if not isinstance(value, dict):
        return _check_names(value)
    known = get_args(Transform)
    for name, transform in value.items():
        if transform not in known:
            raise ValueError(f"{name}={transform!r}, expected one of {', '.join(known)}")
    return value


ColumnNames = Annotated[Sequence[str], BeforeValidator(_check_names)]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSchema:
    """Columns of a table by the part they play; columns that are not named are left out."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    label: str
    """Column of the label."""

    task: Task = "click"
    """``click`` for labels 0 and 1, ``rating`` for any number."""

    click_threshold: float | None = None
    """Label values of at least this as clicks."""

    dense: Annotated[Sequence[str] | dict[str, Transform], BeforeValidator(_check_dense)] = ()
    """Number columns, taken as log1p(max(x, 0)); or their transforms by name."""

    categorical: ColumnNames = ()
    """Columns with one value a row."""

    lists: dict[str, str] = field(default_factory=dict)
    """Columns with several values a row, and the separator between them."""

    time: str | None = None
    """Number (or timestamp) column that orders the rows in time."""

    delimiter: str | None = None
    """Character between two values; tab for .tsv and .txt, else a comma, where not given."""

    quote: str = '"'
    """Character around values that contain the delimiter; empty for none."""

    columns: ColumnNames = ()
    """Names of all columns in order, for files without a header."""

    def __post_init__(self) -> None:
        for name, value in {"delimiter": self.delimiter, "quote": self.quote}.items():
            if value and len(value.encode()) != 1:
                raise ValueError(f"{name}={value!r}, expected one character")
        roles = [self.label, *self.dense, *self.categorical, *self.lists]
        if twice := sorted({column for column in roles if roles.count(column) > 1}):
            raise ValueError(
                f"columns {', '.join(twice)} play several parts among label, dense, categorical "
                f"and lists; give every column one (a label among the categories would leak)"
            )
        for column, separator in self.lists.items():
            if not separator:
                raise ValueError(f"lists.{column}='', expected the text between two values")

    def layout(self) -> Layout:
        """The columns of a prepared row."""
        dense = self.dense if isinstance(self.dense, dict) else dict.fromkeys(self.dense, "log1p")
        return Layout(
            task=self.task if self.click_threshold is None else "click",
            dense={name: "none" if how == "none" else "log1p" for name, how in dense.items()},
            fields=dict.fromkeys(self.categorical, False) | dict.fromkeys(self.lists, True),
            time_column=self.time,
        )

    def check_columns(self, path: Path, present: Sequence[str]) -> None:
        """Refuse a table that lacks a column.

        Raises:
            ValueError: If a column that the schema names is not there.
        """
        layout = self.layout()
        named = [self.label, *layout.dense, *layout.fields, *([self.time] if self.time else [])]
        if twice := sorted({name for name in named if present.count(name) > 1}):
            raise ValueError(
                f"{path} has several columns named {', '.join(twice)}; give each its own name"
            )
        if missing := [name for name in named if name not in present]:
            raise ValueError(
                f"{path} has no column {', '.join(map(repr, missing))}; its columns are: "
                f"{', '.join(present)}"
            )


def read_table_schema(path: Path) -> TableSchema:
    """Read a schema file, TOML or (by its ending) JSON.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not say what a schema says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--schema {path} does not exist; see docs/prepare.md for its form")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return TypeAdapter(TableSchema).validate_python(values)
    except ValidationError as error:
        fault = first_fault(error)
        raise ValueError(f"{path} is not a table schema: {fault}; see docs/prepare.md") from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
