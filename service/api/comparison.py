"""The specification of a comparison in a request, kept where ``mixdim compare`` reads it."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from service.api.errors import ApiError
from service.api.home import Home
from service.compare.choices import REFERENCE, read_spec

FOLDER: Final = "specs"
OWN: Final = frozenset({"data", "output", "sizing", "plan", "file", "parallel", "keep_runs"})
"""Settings that the service sets, or that name files."""
OF_RUNS: Final = frozenset({"warm_up", "warm_start", "resume_from", "resume_data"})
"""Settings that name a run: one of the comparison's own warm-ups here."""
MAX_STRING: Final = 256


def keep(spec: Mapping[str, Any], home: Home) -> Path:
    """Write a specification down, under a name that it alone has.

    Raises:
        ApiError: If it names files, or is no specification.
    """
    for place, key, value in _settings(spec, "spec"):
        _check(place, key, value)
    text = json.dumps(spec, sort_keys=True)
    folder = home.jobs / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    draft = path.with_suffix(f".{secrets.token_hex(8)}.json")  # others may send the same now
    draft.write_text(text)
    try:
        read_spec(draft)
    except (ValueError, OSError) as error:
        draft.unlink(missing_ok=True)
        raise ApiError(422, str(error).replace(str(draft), "spec")) from error
    draft.rename(path)
    return path


def _settings(value: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    """Every setting at any depth: where it is, what it is called, and its value."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, Mapping | list):
            yield f"{place}.{key}", str(key), None
            yield from _settings(inner, f"{place}.{key}")
        else:
            yield f"{place}.{key}", str(key), inner


def _check(place: str, key: str, value: Any) -> None:
    if key in OWN:
        raise ApiError(422, f"{place} is the service's own to set; leave it out")
    if key in OF_RUNS and value is not None and not str(value).startswith(REFERENCE):
        raise ApiError(422, f"{place} names a path; name one of warm_ups, as in {REFERENCE}NAME")
    for text in (key, value):
        if not isinstance(text, str):
            continue
        if len(text) > MAX_STRING or "/" in text or "\\" in text or not text.isprintable():
            raise ApiError(422, f"{place[:MAX_STRING]}: a name cannot have slashes, or be so long")
