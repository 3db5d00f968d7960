"""Whether a checkpoint holds the tables that a run is to go on with, before any of it is read."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from models.tables import SizingPlan
from service.run_folder import SIZING_FILE
from service.sizing import read_sizing


def check_same_tables(plan: SizingPlan, sizing: Path, checkpoint: Path) -> None:
    """Refuse to resume under a sizing plan that gives a table another size.

    Checkpoints of resized runs hold no plan before the first step; torch tells those apart.

    Args:
        plan: Tables of the job, as its network joins them.
        sizing: Where its plan was read.
        checkpoint: What it would go on from; says in its copy of the plan what it holds.

    Raises:
        ValueError: If a table is missing, or has another size.
    """
    own = checkpoint / SIZING_FILE
    if not own.is_file():
        return
    before = dict(_sizes(replace(read_sizing(own).plan, join=plan.join)))
    now = dict(_sizes(plan))
    run = checkpoint.parent.parent
    for name in (*now, *before):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"table {name!r}: run {run} has {before.get(name, 'no such table')}, {sizing} has "
                f"{now.get(name, 'no such table')}; --resume goes on with the tables as they are: "
                f"give --sizing {run / SIZING_FILE}, or resize them in a folder of its own: "
                f"--resume-from {run} with another --output"
            )


def _sizes(plan: SizingPlan) -> Iterator[tuple[str, str]]:
    """What a checkpoint has of every table, in words."""
    for table in plan.tables():
        size = f"{table.num_embeddings:,} rows of width {table.embedding_dim}"
        out_dim = plan.projected_dim(table)
        yield table.name, f"{size} projected to {out_dim}" if out_dim else size
