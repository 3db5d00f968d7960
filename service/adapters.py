"""What checks and writes dataclasses, built once each: that takes much longer than to use it."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter


@cache
def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """Pydantic's adapter of a dataclass, or of a union of them."""
    return TypeAdapter(kind)
