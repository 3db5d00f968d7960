"""Write the table of the equality contract: ``python -m tests.service.train.equality_table``."""

import sys
import tempfile
from pathlib import Path

from tests.service.train.equality_cases import (
    PRODUCT,
    Case,
    errors,
    expected,
    make_equality_run,
    trained_by_cases,
)

Errors = dict[str, float]


def measured() -> dict[Case, Errors]:
    """Errors of every case of the product."""
    found: dict[Case, Errors] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = make_equality_run(Path(folder))
        for nproc in (1, 2, 4):
            cases = [case for case in PRODUCT if case.nproc == nproc]
            for case, trained in trained_by_cases(config, cases):
                found[case] = errors(trained, expected(config, case, trained.before))
    return found


def lines(found: dict[Case, Errors]) -> list[str]:
    """One line a sharding type and optimizer; the larger error of both poolings."""
    rows = [
        "| type | optimizer | ranks | predictions | weights | optimizer's state |",
        "|---" * 6 + "|",
    ]
    alike = list(dict.fromkeys((c.kind, c.optimizer, c.nproc, c.is_other_optimizer) for c in found))
    for kind, optimizer, nproc, is_other in alike:
        group = [
            off
            for case, off in found.items()
            if (case.kind, case.optimizer, case.nproc) == (kind, optimizer, nproc)
        ]
        worst = {name: max(off[name] for off in group) for name in group[0]}
        state = f"{worst['optimizer']:.0e}" if worst["optimizer"] else "none"
        cells = [f"{worst['predictions']:.0e}", f"{worst['weights']:.0e}", state]
        if is_other:
            cells[1:] = [f"**{worst['weights']:.0e}**", "a number a row and column shard"]
        rows.append(f"| `{kind}` | {optimizer} | {nproc} | {' | '.join(cells)} |")
    return rows


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines(measured())) + "\n")
