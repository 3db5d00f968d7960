"""What ``mixdim size`` prints: one line a field, and the four figures."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from models.sizing import ServingDtype
from models.tables import Block
from service.serving_dtypes import Bought
from service.sizing import SizingFile, budgeted_bytes, sizing_bytes

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
        own = cost[part.name]
        whole[part.field] += own.serving if sizing.budget_for == "serving" else own.total
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
        f"serving bytes        {cost.serving_bytes:>16,}  {describe_serving(sizing)}",
    ]
    if sizing.budget_bytes is not None:
        used = budgeted_bytes(sizing) / sizing.budget_bytes
        of = " by serving bytes" if sizing.budget_for == "serving" else ""
        gap = sizing.totals.get("solver_gap_ratio", 0)
        best = f"; the best plan is worth at most {gap:.2g} more" if gap else ""
        lines.append(f"budget               {sizing.budget_bytes:>16,}  {used:.2%} used{of}{best}")
    return "\n".join(lines)


def describe_serving(sizing: SizingFile) -> str:
    """How the tables are exported, and what uniform ones would take in fp32."""
    aligned = f", rows of {sizing.row_alignment} bytes" if sizing.row_alignment > 1 else ""
    whole = sizing.totals.get("uniform_serving_bytes", 0)
    if sizing.budget_for == "training" or not whole:
        return f"{sizing.dtype}{aligned}"
    share = sizing_bytes(sizing).serving_bytes / whole
    return f"{sizing.dtype}{aligned}; {share:.1%} of uniform {sizing.base_dim} in fp32"


def dtype_lines(bought: Mapping[ServingDtype, Bought | None]) -> str:
    """What else the bytes of a serving budget could be, a line a dtype."""
    lines = ["\nwhat the bytes buy, as"]
    for dtype, found in bought.items():
        if found is None:
            lines.append(f"  {dtype:<18} nothing: no plan fits, or the scheme has no width for it")
            continue
        dims = f"{found.narrowest:,} to {found.widest:,}"
        if found.narrowest == found.widest:
            dims = f"{found.widest:,}"
        lines.append(f"  {dtype:<18} {found.embedding_params:>16,}  parameters, {dims} wide")
    return "\n".join(lines)
