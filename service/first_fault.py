"""What pydantic says of a file, as the one line that a user needs."""

from pydantic import ValidationError

SHOWN_CHARACTERS = 60
UNKNOWN_KEYS = frozenset({"unexpected_keyword_argument", "extra_forbidden"})


def first_fault(error: ValidationError, *place: str) -> str:
    """The first thing that is wrong, with its place and value.

    Args:
        error: What was raised.
        place: Keys that lead to what was validated.
    """
    fault = error.errors()[0]
    where = ".".join([*place, *map(str, fault["loc"])])
    value = repr(fault["input"])
    is_short = not isinstance(fault["input"], bytes | dict) and len(value) <= SHOWN_CHARACTERS
    said = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in UNKNOWN_KEYS:
        said = "there is no such key"
    if fault["type"] == "too_short":
        said = f"there are {fault['ctx']['actual_length']}, expected at least "
        said += str(fault["ctx"]["min_length"])
    if is_short and value not in said:
        said += f" (value {value})"
    return ": ".join(filter(None, [where, said]))
