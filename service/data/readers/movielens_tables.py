"""Side tables of MovieLens: what is known of a user and of an item, held in memory."""

import csv
import gzip
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

Form = Literal["100k", "1m", "csv"]
"""``u.data`` and its like; ``ratings.dat`` with ``::``; ``ratings.csv`` of the newer sets."""

USER_COLUMNS: Final[Mapping[Form, Sequence[str]]] = MappingProxyType(
    {
        "100k": ("user_id", "age", "gender", "occupation", "zip"),
        "1m": ("user_id", "gender", "age", "occupation", "zip"),
    }
)
USER_FIELDS: Final = ("gender", "age", "occupation", "zip")

GENRES_100K: Final = (
    *("", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary"),
    *("Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi"),
    *("Thriller", "War", "Western"),
)
"""Flags of ``u.item`` in order; the first says that the genre is unknown."""
NO_GENRES: Final = "(no genres listed)"

NAMES_BESIDE: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "users": {"ratings.dat": "users.dat", "u.data": "u.user"},
        "items": {
            "ratings.dat": "movies.dat",
            "u.data": "u.item",
            "ratings.csv": "movies.csv",
        },
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """What is known of a film."""

    genres: tuple[str, ...]
    release_year: str | None


def find_beside(ratings: Path, kind: str) -> Path | None:
    """Return the side table that lies beside the ratings under its usual name, if it does."""
    for name, other in NAMES_BESIDE[kind].items():
        if name in ratings.name:
            beside = ratings.with_name(ratings.name.replace(name, other))
            plain = beside.with_name(beside.name.removesuffix(".gz"))
            zipped = plain.with_name(plain.name + ".gz")
            return next((path for path in (beside, plain, zipped) if path.is_file()), None)
    return None


def read_users(path: Path, form: Form) -> dict[str, dict[str, str]]:
    """Columns by user.

    Raises:
        ValueError: If the form has no user table, or a line is malformed.
    """
    if form not in USER_COLUMNS:
        raise ValueError(f"--users {path}: the ratings.csv sets have no user table; leave it out")
    columns = USER_COLUMNS[form]
    return {
        values[0]: dict(zip(columns, values, strict=True))
        for values in _rows(path, form, len(columns))
    }


def read_items(path: Path, form: Form) -> dict[str, Item]:
    """Genres and year by item.

    Raises:
        ValueError: If a line is malformed.
    """
    num_columns = 5 + len(GENRES_100K) if form == "100k" else 3
    return {values[0]: _item(values, form) for values in _rows(path, form, num_columns)}


def _item(values: Sequence[str], form: Form) -> Item:
    year = re.search(r"\((\d{4})\)\s*$", values[1])
    if form == "100k":
        flags = zip(GENRES_100K, values[5:], strict=True)
        genres = [genre for genre, flag in flags if flag == "1"]
    else:
        genres = values[2].replace(NO_GENRES, "").split("|")
    return Item(
        genres=tuple(genre for genre in genres if genre), release_year=year[1] if year else None
    )


def _rows(path: Path, form: Form, num_columns: int) -> Iterator[Sequence[str]]:
    """Lines as columns, the header left out.

    Raises:
        ValueError: If a line has another number of columns, or the text is broken.
    """
    split: Mapping[Form, Callable[[Iterator[str]], Iterator[list[str]]]] = {
        "100k": lambda lines: (line.rstrip("\r\n").split("|") for line in lines),
        "1m": lambda lines: (line.rstrip("\r\n").split("::") for line in lines),
        "csv": lambda lines: iter(csv.reader(lines)),
    }
    opener = gzip.open if path.suffix == ".gz" else open
    encoding = "utf-8" if form == "csv" else "latin-1"
    with opener(path, "rt", encoding=encoding, newline="") as lines:
        for number, values in enumerate(split[form](lines), start=1):
            if len(values) != num_columns:
                raise ValueError(
                    f"{path}, line {number}: {len(values)} columns, expected {num_columns}; "
                    f"is it the side table of these ratings?"
                )
            if form != "csv" or number > 1:
                yield values
