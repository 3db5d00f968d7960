"""Every search beside every scheme on clicks, as one page: ``python -m tests.clicks``.

    mixdim compare docs/benchmarks/criteo-synthetic.toml      # in parts, on one machine
    python -m tests.clicks --add frontier/criteo-synthetic

adds finished runs to docs/benchmarks/searched/clicks.jsonl, each once, and writes the page
docs/benchmarks/clicks.md anew from all that it holds.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from service.compare.records import RUNS_FILE, is_done, read_records
from service.compare.runner import GRID_FILE
from service.compare.statistics import Summary, paired_difference, summary

Run = Mapping[str, Any]

PAGES: Final = Path(__file__).parents[1] / "docs" / "benchmarks"
RUNS, PAGE = PAGES / "searched" / "clicks.jsonl", PAGES / "clicks.md"
KEY: Final = ("data", "network", "name", "budget", "seed")
BUDGETS: Final = ("1x", "4x", "10x", "16x")
BASE_EXAMPLES: Final = {"ml-1m-clicks": 6 * 800_150, "criteo-synthetic": 3_200_864}
"""Of a base training."""
TITLES: Final = {"ml-1m-clicks": "MovieLens 1M", "criteo-synthetic": "Criteo-shaped logs"}
NETWORKS: Final = {"fm": "FM", "wide_deep": "Wide & Deep", "deepfm": "DeepFM"}
OPENING: Final = """# All methods on clicks, run by run

Made by [`tests/clicks.py`](../../tests/clicks.py) of [clicks.jsonl](searched/clicks.jsonl), which
has every run with its widths. What it says: [which search](../search-which.md). The runs are those
of `mixdim compare docs/benchmarks/movielens-clicks.toml` and `criteo-synthetic.toml`, in parts, all
on machines of one kind.

* *budget*: bytes of training; 1x is what uniform 32 takes. Of `dpq`, `mgqe` and `prune` it is for
  what is served.
* *AUC*, *log loss*: of the test rows, means over the seeds; behind ± their standard deviation.
* *above even*: AUC, paired by seed with *even* of the same budget; behind ± half of the 95 %
  interval, which is wide where seeds are two.
* *int8*, *int4*: AUC and megabytes of the same plans when they are served so; at a tenth alone.
* *search*: examples before the last training, in base trainings. *even, warm* starts from one,
  which is not counted.
"""


def kept(data: str, record: Run) -> dict[str, Any]:
    """What is kept of a finished run of ``mixdim compare``."""
    run = {
        **{"data": data, "network": record["recipe"], "name": record["sizing"]},
        **{"budget": record["budget"], "seed": record["seed"]},
        **{name: round(record["test"][name], 6) for name in ("auc", "log_loss")},
        **{f"{kind}_bytes": record["bytes"][f"{kind}_bytes"] for kind in ("training", "serving")},
    }
    for dtype, served in record.get("served", {}).items():
        if "test" in served:
            auc = round(served["test"]["auc"], 6)
            run[dtype] = {"auc": auc, "serving_bytes": served["serving_bytes"]}
    if "search" in record:
        run["search_examples"] = record["search"]["examples"]
    return {**run, "widths": record["widths"]}


def add(folder: Path) -> int:
    """Add the finished runs of a comparison that are not there yet; how many those are."""
    runs = {key_of(run): run for run in read(RUNS)}
    before, records = len(runs), read_records(folder / RUNS_FILE)
    for cell in json.loads((folder / GRID_FILE).read_text())["cells"]:
        for seed, digest in cell["runs"].items():  # two plans that are alike have one record
            if is_done(record := records.get(digest)):
                run = kept(folder.name, {**record, **cell, "seed": int(seed)})
                runs[key_of(run)] = {**run, **runs.get(key_of(run), {})}
    RUNS.write_text("".join(f"{json.dumps(runs[key])}\n" for key in sorted(runs)))
    return len(runs) - before


def read(path: Path) -> list[Run]:
    """Records, one a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def key_of(run: Run) -> tuple[Any, ...]:
    """What tells a run from all others."""
    return tuple(run[name] for name in KEY)


def as_page(runs: Sequence[Run]) -> str:
    """The page of all runs."""
    parts = [OPENING]
    for data, title in TITLES.items():
        for network, called in NETWORKS.items():
            own = [run for run in runs if (run["data"], run["network"]) == (data, network)]
            parts += [f"\n## {title}, {called}\n\n", *_table(own)]
    return "".join(parts)


def _table(runs: Sequence[Run]) -> Iterator[str]:
    yield "| budget | plan | seeds | AUC | above even | log loss | trained, MB | served, MB "
    yield "| int8 | int4 | search |\n|---|---|---|---|---|---|---:|---:|---|---|---:|\n"
    cells = {
        cell: list(group) for cell, group in groupby(runs, lambda run: (run["name"], run["budget"]))
    }
    auc = {cell: summary(list(_aucs(own).values())).mean for cell, own in cells.items()}
    for name, budget in sorted(cells, key=lambda cell: (BUDGETS.index(cell[1]), -auc[cell])):
        yield _row(name, budget, cells[name, budget], cells["even", budget])


def _row(name: str, budget: str, runs: Sequence[Run], even: Sequence[Run]) -> str:
    above = paired_difference(_aucs(runs), _aucs(even)) if name != "even" else None
    search = summary([run.get("search_examples", 0) for run in runs]).mean
    sizes = [[run[f"{kind}_bytes"] for run in runs] for kind in ("training", "serving")]
    texts = [
        budget,
        name,
        " ".join(str(run["seed"]) for run in runs),
        _with_spread(summary(list(_aucs(runs).values()))),
        "" if above is None else _with_interval(above),
        _with_spread(summary([run["log_loss"] for run in runs])),
        *(f"{summary(own).mean / 1e6:.3f}" for own in sizes),
        *(_served([run[dtype] for run in runs if dtype in run]) for dtype in ("int8", "int4")),
        f"{search / BASE_EXAMPLES[runs[0]['data']]:.2f}",
    ]
    return f"| {' | '.join(texts)} |\n"


def _aucs(runs: Sequence[Run]) -> dict[int, float]:
    return {run["seed"]: run["auc"] for run in runs}


def _with_spread(found: Summary) -> str:
    return f"{found.mean:.5f}" + (f" ± {found.sd:.5f}" if found.n > 1 else "")


def _with_interval(found: Summary) -> str:
    return f"{found.mean:+.5f}" + (f" ± {found.half_width:.5f}" if found.n > 1 else "")


def _served(runs: Sequence[Run]) -> str:
    if not runs:
        return ""
    auc, size = (summary([run[name] for run in runs]).mean for name in ("auc", "serving_bytes"))
    return f"{auc:.5f}, {size / 1e6:.3f}"


def main() -> None:
    """Add runs where some are named, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--add", type=Path, nargs="*", default=[], help="folders of comparisons")
    for folder in parser.parse_args().add:
        sys.stdout.write(f"{folder}: {add(folder)} runs added\n")
    PAGE.write_text(as_page(read(RUNS)))
    sys.stdout.write(f"{PAGE} written\n")


if __name__ == "__main__":
    main()
