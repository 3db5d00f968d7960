"""What ``mixdim train --resume-from RUN --dry-run`` prints."""

from rich import box
from rich.table import Table

from service.resize.report import Report


def resize_table(report: Report) -> Table:
    """One line a table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("table", "before", "after", "what", "energy kept", "optimizer", "projection"):
        is_number = title in ("after", "energy kept")
        table.add_column(title, justify="right" if is_number else "left", overflow="fold")
    for line in report.tables:
        kept = "-" if line.kept_ratio is None else f"{line.kept_ratio:.2%}"
        table.add_row(
            line.table, line.before, line.after, line.what, kept, line.optimizer, line.projection
        )
    return table


def resize_summary(report: Report) -> str:
    """What becomes of everything but the tables."""
    layers = [f"  {line}" for line in report.layers]
    says = (
        "stay, but for rounding"
        if report.is_exact
        else "change where energy, values or fields are lost, or ids come to share rows"
    )
    return "\n".join(
        [
            f"from               {report.checkpoint}",
            f"dense layers       {report.num_kept_layers} kept, {len(report.layers)} changed",
            *layers,
            f"position           {report.position}",
            "best validation    counted anew",
            f"predictions        {says}",
        ]
    )
