"""Widths that somebody has written down."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Literal

from models.sizing.base import MAX_WIDTH, check_width
from models.sizing.rounding import Rounding, round_up, width_grid
from models.tables import Block, FieldStats, SizingPlan, check_fields

Widths = int | Sequence[Sequence[int]]
"""One width, or blocks from the most frequent ids to the rarest: ``[rows, width]`` each, or
``[rows, width, hashed_ids]`` where that many further ids share the rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ByHand:
    """Take every field's width, or its blocks, from a file or from the command line."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kind: Literal["file"] = "file"

    widths: Mapping[str, Widths] = field(default_factory=dict)
    """By field: its width, or its blocks."""

    dim: int = 16
    """Width of fields that are not named."""

    rounding: Rounding = "mult4"
    """Widths that there are: 1, 2 and multiples of 4, powers of two, or any."""

    def __post_init__(self) -> None:
        check_width("dim", self.dim, self.rounding)
        for name, widths in self.widths.items():
            if isinstance(widths, int):
                check_width(f"field {name!r}: width", widths, self.rounding)
                continue
            if not widths or any(len(block) not in {2, 3} for block in widths):
                raise ValueError(
                    f"field {name!r}: {widths!r} are no blocks, expected a width or a list of "
                    f"[rows, width]; write for example [[100, 16], [900, 4]]"
                )
            for block in widths:
                check_width(f"field {name!r}: width", block[1], self.rounding)

    @property
    def grid(self) -> Sequence[int]:
        """Every width up to the widest that is written."""
        written = [self.dim]
        for widths in self.widths.values():
            blocks = [[0, widths]] if isinstance(widths, int) else widths
            written.extend(block[1] for block in blocks)
        return width_grid(self.rounding, 1, min(MAX_WIDTH, round_up(2 * max(written))))

    def __call__(self, fields: Sequence[FieldStats]) -> SizingPlan:
        """Build the plan as it is written.

        Raises:
            ValueError: If a name is no field, or blocks do not cover a field's rows.
        """
        check_fields(fields)
        names = [stats.name for stats in fields]
        if unknown := sorted(set(self.widths) - set(names)):
            raise ValueError(
                f"widths name {unknown}, which are not among the fields; fields: {names}"
            )
        blocks = {stats.name: self._blocks(stats) for stats in fields}
        return SizingPlan(
            fields=blocks,
            out_dim=max(block.embedding_dim for parts in blocks.values() for block in parts),
            scheme=asdict(self),
            reasons={
                name: "written by hand" if name in self.widths else f"not named: {self.dim}"
                for name in names
            },
        )

    def _blocks(self, stats: FieldStats) -> tuple[Block, ...]:
        widths = self.widths.get(stats.name, self.dim)
        if isinstance(widths, int):
            widths = [[stats.num_embeddings, widths]]
        blocks = tuple(
            Block(
                num_embeddings=rows,
                embedding_dim=width,
                asked_dim=float(width),
                hashed_ids=sum(hashed),
            )
            for rows, width, *hashed in widths
        )
        covered = sum(block.num_ids for block in blocks)
        if covered != stats.num_embeddings:
            raise ValueError(
                f"field {stats.name!r}: its blocks cover {covered:,} ids, the field has "
                f"{stats.num_embeddings:,}; change the rows of the last block by "
                f"{stats.num_embeddings - covered:+,}"
            )
        return blocks
