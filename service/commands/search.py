"""``mixdim search METHOD PRESET --data D --budget 4x --output FOLDER``: widths by training."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import tyro

from service.commands.train import starting_point
from service.config import TrainConfig
from service.presets import PRESETS
from service.search.config import SET_BY_SEARCH, SearchConfig
from service.search.methods import METHODS, SERVED, Method
from service.search.record import SEARCH_FILE, SearchRecord
from service.search.run import SIZING_FILE, search
from service.search.stage import Stage
from service.sizing import DEFAULT_BASE_DIM
from service.stop import Stopped

DEFAULT_OUTPUT: Final = Path("found")
_TRAINING: Final = (
    "Flags of `mixdim train` say how stages are trained, but for those that the search gives every "
    f"stage itself: {', '.join('--' + name.replace('_', '-') for name in SET_BY_SEARCH)}."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchCommand:
    """Find the width of every table by training."""

    train: Annotated[TrainConfig, tyro.conf.arg(name="")]

    method: Method

    budget: str | None = None
    """Bytes that the plan never exceeds: 512MiB, 1000000, or 4x smaller than uniform; of training,
    but of what is served for codes and holes (dpq, mgqe, prune). Without one, or with none, the
    method goes by its own rule."""

    dim: int = DEFAULT_BASE_DIM
    """Widest table, and width that narrower ones are projected to; that of the uniform model that
    4x is measured against."""

    fields: tuple[str, ...] = ()
    """Fields to size and to train with; all by default."""

    retrain: bool = True
    """Train the plan that is found."""

    json: bool = False
    """Print search.json instead of the summary."""

    def config(self) -> SearchConfig:
        """What is asked, without the command line's own choices."""
        shared = {field.name for field in dataclasses.fields(SearchConfig)}
        asked = {name: getattr(self, name) for name in shared}
        has_none = self.budget is not None and self.budget.lower() == "none"
        return SearchConfig(**asked | ({"budget": None} if has_none else {}))


def main(argv: Sequence[str]) -> int:
    """Search, train the plan and say how good it is and what it has cost."""
    if not argv or argv[0] in {"--help", "-h"}:
        sys.stdout.write(_usage())
        return 0 if argv else 2
    name, *rest = argv
    if name not in METHODS:
        raise ValueError(f"{name!r} is not a search; searches: {', '.join(METHODS)}")
    start, flags = starting_point(rest)
    _check_flags(flags)
    command = tyro.cli(
        SearchCommand,
        args=flags,
        default=SearchCommand(
            train=dataclasses.replace(start, output=DEFAULT_OUTPUT), method=METHODS[name]()
        ),
        prog=f"mixdim search {name} {{{','.join(PRESETS)}}}|FILE",
        description=f"{_summary(name)}\n\n{_TRAINING}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    config = command.config()
    try:
        record = search(config, _say)
    except Stopped as stopped:
        sys.stderr.write(f"stopped by {stopped.signal.name}; go on with --resume\n")
        return 128 + stopped.signal
    if command.json:
        sys.stdout.write((config.train.output / SEARCH_FILE).read_text())
    else:
        _show(record, config.train.output)
    return 0


def _check_flags(flags: Sequence[str]) -> None:
    """Refuse flags that the search gives its trainings, those with the default's value too.

    Raises:
        ValueError: If there is one.
    """
    for flag in (f"--{name.replace('_', '-')}" for name in SET_BY_SEARCH):
        if any(given.partition("=")[0].replace("_", "-") == flag for given in flags):
            raise ValueError(f"{flag}: a search sets it for every training itself; leave it out")


def _usage() -> str:
    width = max(map(len, METHODS))
    methods = "\n".join(f"  {name:{width}}  {_summary(name)}" for name in METHODS)
    return (
        "usage: mixdim search METHOD PRESET|FILE [--data D] [--budget B] [--output FOLDER] "
        "[--json] [flags]\n\nFind the width of every table by training. "
        f"`mixdim search METHOD --help` explains a method.\n\n{methods}\n"
    )


def _summary(name: str) -> str:
    first, *_ = (METHODS[name].__doc__ or "").splitlines()
    return first


def _say(stage: Stage) -> None:
    scores = "  ".join(
        f"{key} {value:.5g}" for key, value in stage.validation.items() if value is not None
    )
    text = f"{stage.name}: {stage.examples:,} examples in {stage.seconds:.1f} s"
    sys.stderr.write(f"{text}{f', validation {scores}' if scores else ''}\n")


def _show(record: SearchRecord, folder: Path) -> None:
    cost, figures = record.cost, record.figures
    for name, widths in record.widths.items():
        print(f"{name:20} {' '.join(map(str, widths))}")
    for split in ("validation", "test"):
        if scores := getattr(record, split):
            said = "  ".join(
                f"{key} {value:.6g}" for key, value in scores.items() if value is not None
            )
            print(f"{split:20} {said}")
    budget = f" of {record.budget_bytes:,}" if record.budget_bytes is not None else ""
    print(f"{'EP':20} {figures['embedding_params']:,}")
    print(f"{'EP + projections':20} {figures['embedding_and_projection_params']:,}")
    bounded = "serving" if record.asked["method"]["kind"] in SERVED else "training"
    for which in ("training", "serving"):
        limit = budget if which == bounded else ""
        print(f"{f'{which} bytes':20} {figures[f'{which}_bytes']:,}{limit}")
    peak = cost["peak_memory_bytes"]
    memory = f", {peak / 2**20:,.0f} MiB at most" if peak is not None else ""
    print(f"{'search cost':20} {cost['examples']:,.0f} examples, {cost['seconds']:.1f} s{memory}")
    sys.stderr.write(f"written to {folder / SIZING_FILE} and {folder / SEARCH_FILE}\n")
    if record.run is not None:
        run = folder / record.run
        sys.stderr.write(f"the model is in {run}: mixdim evaluate {run}, mixdim export {run}\n")
