"""Every search on one rank and on two: ``python -m tests.searched_ranks --output FILE.md``.

The same global batches, so that what differs is the order of sums, and what follows from it.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from service.search.methods import METHODS
from service.search.record import SearchRecord
from tests.service.search.searches import make_search, run, within
from tests.service.warm_runs import make_data

BUDGET: Final = "3x"
HEADER: Final = (
    "| search | same widths | values differ by | validation AUC | test AUC | test log loss |",
    "|---|---|---:|---:|---:|---:|",
)


def compared(method: str, folder: Path) -> dict[str, Any]:
    """What two ranks find, beside what one does; ``folder/data`` is searched on."""
    config = make_search(folder, method, budget=BUDGET)
    one = run(config)
    two = run(within(config, output=folder / f"{method}-2", nproc=2, batch_size=64))
    return {
        "same": one.widths == two.widths,
        "values": _largest_difference(one.values, two.values),
        **{
            f"{split} {score}": abs(of_one[score] - of_two[score])
            for split, score in (("validation", "auc"), ("test", "auc"), ("test", "log_loss"))
            for of_one, of_two in [(_scores(one, split), _scores(two, split))]
        },
    }


def _scores(record: SearchRecord, split: str) -> Mapping[str, Any]:
    return record.validation if split == "validation" else record.test


def _largest_difference(
    one: Mapping[str, Mapping[int, float]], two: Mapping[str, Mapping[int, float]]
) -> float | None:
    """Largest absolute difference of what widths are worth; None where nothing is worth more."""
    found = [abs(one[name][width] - two[name][width]) for name in one for width in one[name]]
    return max(found, default=None)


def as_line(method: str, found: Mapping[str, Any]) -> str:
    """A line of the table."""
    same = "yes" if found["same"] else "**no**"
    figures = ["" if v is None else f"{v:.1e}" for k, v in found.items() if k != "same"]
    return f"| `{method}` | {same} | {' | '.join(figures)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    options = parser.parse_args()
    lines = list(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder) / "data")
        for method in options.methods:
            lines.append(as_line(method, compared(method, Path(folder))))
            options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
