"""Widths that somebody has written by hand, as a TOML or JSON file or on the command line."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

_ADAPTER = TypeAdapter(dict[str, int | list[list[int]]])


def read_widths(path: Path) -> dict[str, int | list[list[int]]]:
    """Read a file of ``field = width`` or ``field = [[rows, width], ...]``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither TOML nor JSON, or an entry is no width.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; write one line a field: user = 16")
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return _ADAPTER.validate_python(content, strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(
            f"{path}: {fault['loc'][0]}={fault['input']!r} is no width, expected a number or a "
            f"list of [rows, width]; write for example user = 16 or user = [[100, 16], [900, 4]]"
        ) from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def parse_widths(pairs: Sequence[str]) -> Mapping[str, int]:
    """Read ``field=width`` pairs.

    Raises:
        ValueError: If one is no such pair, or a field is named twice.
    """
    widths: dict[str, int] = {}
    for pair in pairs:
        name, found, width = pair.rpartition("=")
        if not found or not width.isdigit():
            raise ValueError(
                f"--widths: {pair!r} is no width, expected FIELD=WIDTH; write for example C1=16"
            )
        if name in widths:
            raise ValueError(f"--widths: field {name!r} is named twice; name it once")
        widths[name] = int(width)
    return widths
