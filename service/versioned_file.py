"""Files of JSON that say which version of their form they follow, and are read by that form."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from service.first_fault import first_fault

Content = TypeVar("Content")


def read_versioned(path: Path, form: TypeAdapter[Content], version: int, remedy: str) -> Content:
    """Read a file, if it is of the one version that is understood.

    Args:
        path: The file.
        form: What it is to hold.
        version: Its ``format_version``.
        remedy: What to do about a file that does not follow the form.

    Raises:
        ValueError: If it is of another version, or does not follow the form.
    """
    try:
        content = json.loads(path.read_bytes())
        found = content.get("format_version") if isinstance(content, dict) else None
        if found != version:
            raise ValueError(f"format_version={found}, expected {version}")
        return form.validate_python(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_fault(error)}; {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {remedy}") from error
