"""What becomes of a raw column before it is a field: choices that a dataset writes down.

A model that is served derives its fields from raw values as they were derived for training, so
each of these is data (a dataclass, readable from JSON) that can be called.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from service.data.readers.base import Strings

STAMP_FORMAT: Final = "%y%m%d%H"
"""Such as 14102100: 21 October 2014, midnight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitBy:
    """Several values in one text."""

    separator: str
    """Text between two values."""

    kind: Literal["split"] = "split"

    def __call__(self, strings: Strings) -> Strings:
        """Lists of the values between separators."""
        return pc.split_pattern(strings, self.separator)


@dataclass(frozen=True, kw_only=True, slots=True)
class HourOfDay:
    """Hour of a stamp such as 14102100."""

    kind: Literal["hour_of_day"] = "hour_of_day"

    def __call__(self, strings: Strings) -> Strings:
        """Hours, 00 to 23; null where a stamp cannot be read."""
        return pc.strftime(_parsed(strings), format="%H")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weekday:
    """Day of the week of a stamp such as 14102100."""

    kind: Literal["weekday"] = "weekday"

    def __call__(self, strings: Strings) -> Strings:
        """Days, 1 (Monday) to 7; null where a stamp cannot be read."""
        return pc.strftime(_parsed(strings), format="%u")


@dataclass(frozen=True, kw_only=True, slots=True)
class LookedUp:
    """What a side table says of a value."""

    of: Mapping[str, str | None]
    """By value; null where nothing is known of it."""

    kind: Literal["looked_up"] = "looked_up"

    def __call__(self, strings: Strings) -> Strings:
        """What is known of each value, null where it is not in the table."""
        return pa.array([self.of.get(value) for value in strings.to_pylist()], pa.string())


@dataclass(frozen=True, kw_only=True, slots=True)
class LookedUpLists:
    """What a side table says of a value, where that is several things."""

    of: Mapping[str, tuple[str, ...]]
    """By value."""

    kind: Literal["looked_up_lists"] = "looked_up_lists"

    def __call__(self, strings: Strings) -> Strings:
        """What is known of each value, null where it is not in the table."""
        known = [self.of.get(value) for value in strings.to_pylist()]
        return pa.array(known, pa.list_(pa.string()))


Derivation = SplitBy | HourOfDay | Weekday | LookedUp | LookedUpLists


def _parsed(stamps: Strings) -> Any:
    return pc.strptime(stamps, format=STAMP_FORMAT, unit="s", error_is_null=True)
