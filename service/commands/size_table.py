"""What ``mixdim size`` prints: one line a field, and the four figures."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from models.tables import Block
from service.sizing import SizingFile, sizing_bytes

FEW_BLOCKS = 4
"""Up to so many widths of a field are listed; of more, the first and the last."""


def explain_table(sizing: SizingFile, coverage: Mapping[str, float]) -> Table:
    """One line a field: rows, coverage, asked and used width, bytes, and why."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("field", "ids", "coverage", "asked dim", "used dim", "bytes"):
        table.add_column(title, justify="left" if title == "field" else "right", no_wrap=True)
    table.add_column("why", overflow="fold")
    cost = sizing_bytes(sizing).tables
    whole: Counter[str] = Counter()
    for part in sizing.plan.tables():
        whole[part.field] += cost[part.name].total
    for name, blocks in sizing.fields.items():
        table.add_row(
            name,
            f"{sum(block.num_ids for block in blocks):,}",
            f"{coverage[name]:.1%}",
            _widths(blocks, "asked_dim"),
            _widths(blocks, "embedding_dim"),
            f"{whole[name]:,}",
            sizing.reasons.get(name, ""),
        )
    return table


def _widths(blocks: Sequence[Block], which: str) -> str:
    """One width, or those of the blocks from the most frequent ids to the rarest."""
    widths = [f"{getattr(block, which):.3g}" for block in blocks]
    if len(widths) > FEW_BLOCKS:
        return f"{len(widths):,} blocks: {widths[0]} ... {widths[-1]}"
    return " ".join(widths)


def summary(sizing: SizingFile) -> str:
    """The four figures, and how much of the budget they take."""
    cost = sizing_bytes(sizing)
    share = cost.training_bytes / sizing.totals["uniform_training_bytes"]
    lines = [
        f"out_dim              {sizing.out_dim:>16,}",
        f"EP                   {cost.embedding_params:>16,}  parameters of the tables",
        f"EP + projections     {cost.embedding_params + cost.projection_params:>16,}",
        f"training bytes       {cost.training_bytes:>16,}  with the state of {sizing.optimizer}; "
        f"{share:.1%} of uniform {sizing.base_dim}",
        f"serving bytes        {cost.serving_bytes:>16,}  fp32",
    ]
    if sizing.budget_bytes is not None:
        used = cost.training_bytes / sizing.budget_bytes
        gap = sizing.totals.get("solver_gap_ratio", 0)
        best = f"; the best plan is worth at most {gap:.2g} more" if gap else ""
        lines.append(f"budget               {sizing.budget_bytes:>16,}  {used:.2%} used{best}")
    return "\n".join(lines)
