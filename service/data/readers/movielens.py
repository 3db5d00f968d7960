"""MovieLens ratings with what the side tables know: 100K, 1M, and the newer CSV sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final

import tyro

from service.data.readers.base import Dataset, Layout, Reading
from service.data.readers.blocks import LineBlocks, check_files, read_header
from service.data.readers.delimited import DelimitedDataset
from service.data.readers.derive import LookedUp, LookedUpLists
from service.data.readers.movielens_tables import (
    USER_FIELDS,
    Form,
    find_beside,
    read_items,
    read_users,
)
from service.data.readers.records import Delimited
from service.data.readers.roles import FieldSource, Roles

CSV_HEADER: Final = ("userId", "movieId", "rating", "timestamp")
COLUMNS: Final = ("user_id", "item_id", "rating", "timestamp")
UNIT_SEPARATOR: Final = "\x1f"
"""Stands in for ``::``, as the parser takes delimiters of one character."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Movielens:
    """MovieLens: ratings (u.data, ratings.dat or ratings.csv) and their side tables."""

    name: ClassVar[str] = "movielens"

    ratings: Annotated[Path, tyro.conf.Positional]
    """File of ratings, plain or .gz; its first line tells which set it is of."""

    users: Path | None = None
    """Table of users; found beside the ratings if it has its usual name."""

    items: Path | None = None
    """Table of items; found beside the ratings if it has its usual name."""

    click_threshold: float | None = None
    """Label ratings of at least this as clicks; otherwise the rating itself is the label."""

    def open(self, reading: Reading) -> Dataset:
        """Find out the form and read the side tables.

        Raises:
            FileNotFoundError: If a file that is named does not exist.
            ValueError: If the ratings have none of the known forms, or a side table is malformed.
        """
        check_files(tuple(path for path in (self.ratings, self.users, self.items) if path))
        form = detect_form(self.ratings)
        fields = {
            "user_id": FieldSource(column="user_id"),
            "item_id": FieldSource(column="item_id"),
        }
        users = self.users or find_beside(self.ratings, "users")
        items = self.items or find_beside(self.ratings, "items")
        fields |= _user_fields(users, form) if users else {}
        fields |= _item_fields(items, form) if items else {}
        return DelimitedDataset(
            lines=LineBlocks(
                paths=(self.ratings,), block_bytes=reading.block_bytes, header=form == "csv"
            ),
            how=Delimited(delimiter=DELIMITERS[form], names=COLUMNS),
            long_delimiter=b"::" if form == "1m" else None,
            roles=Roles(
                layout=Layout(
                    task="rating" if self.click_threshold is None else "click",
                    fields={name: name == "genres" for name in fields},
                    time_column="timestamp",
                ),
                label="rating",
                fields=fields,
                click_threshold=self.click_threshold,
            ),
        )


DELIMITERS: Final[dict[Form, str]] = {"100k": "\t", "1m": UNIT_SEPARATOR, "csv": ","}


def detect_form(ratings: Path) -> Form:
    """Tell the form of a file of ratings by its first line.

    Raises:
        ValueError: If it has none of the known forms.
    """
    first = read_header(ratings)
    if tuple(first.split(",")) == CSV_HEADER:
        return "csv"
    if len(first.split("::")) == len(COLUMNS):
        return "1m"
    if len(first.split("\t")) == len(COLUMNS):
        return "100k"
    raise ValueError(
        f"{ratings}, line 1: {first[:80]!r} is not a line of MovieLens ratings; expected four "
        f"columns separated by tabs (u.data) or by '::' (ratings.dat), or the header "
        f"{','.join(CSV_HEADER)}"
    )


def _user_fields(path: Path, form: Form) -> dict[str, FieldSource]:
    users = read_users(path, form)
    return {
        name: FieldSource(
            column="user_id",
            derive=LookedUp(of={user: row[name] for user, row in users.items()}),
        )
        for name in USER_FIELDS
    }


def _item_fields(path: Path, form: Form) -> dict[str, FieldSource]:
    items = read_items(path, form)
    genres = {item: known.genres for item, known in items.items()}
    years = {item: known.release_year for item, known in items.items()}
    return {
        "genres": FieldSource(column="item_id", derive=LookedUpLists(of=genres)),
        "release_year": FieldSource(column="item_id", derive=LookedUp(of=years)),
    }
