"""Lists of what lies in the service's folder: by name, a page at a time, or what matches."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel

from service.api.home import Upload

Limit = Annotated[int, Query(ge=1, le=200, description="Items of a page.")]
Part = Annotated[str | None, Query(max_length=64, description="A part of it.")]
Cursor = Annotated[Upload | None, Query(description="`next_cursor` of the page before.")]


class Page(BaseModel):
    """Some of a list, and where it goes on: null at its end."""

    items: list[dict[str, Any]]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which of the things of a kind to list."""

    name: Part = None
    limit: Limit = 50
    cursor: Cursor = None

    def among(self, names: Iterable[str]) -> list[str]:
        """Those that match, behind the page before."""
        part, after = self.name or "", self.cursor or ""
        return [name for name in names if name > after and part in name]

    def page(self, names: Iterable[str]) -> tuple[list[str], str | None]:
        """Names of a page of those in order that match, and where the next one begins."""
        found = self.among(names)
        shown = found[: self.limit]
        return shown, shown[-1] if len(found) > self.limit else None


Listed = Annotated[Wanted, Depends()]
