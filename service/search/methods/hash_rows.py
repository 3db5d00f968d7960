"""``mixdim search hash``: one width, and ids that share rows; nothing is searched for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from models.sizing import HashRows
from service.search.methods.base import Found

if TYPE_CHECKING:
    from service.search.search import Search


@dataclass(frozen=True, kw_only=True, slots=True)
class HashSearch:
    """The hashing trick: as wide as --dim, with as many rows as the budget pays for."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    needs_validation: ClassVar[bool] = False

    kind: Literal["hash"] = "hash"

    ratio: float = 1.0
    """Rows as a share of ids; a budget lowers it as far as it must."""

    whole_rows: int = 0
    """Tables of no more rows are left whole."""

    def __post_init__(self) -> None:
        HashRows(ratio=self.ratio, whole_rows=self.whole_rows)  # raises where they are none

    def run(self, search: "Search") -> Found:
        """Size by the budget alone."""
        scheme = HashRows(dim=search.config.dim, ratio=self.ratio, whole_rows=self.whole_rows)
        return Found(sizing=search.size(scheme))
