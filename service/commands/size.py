"""``mixdim size DATA --scheme popularity --budget 256MiB``: how wide every table is, and why."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from models.networks import NETWORKS, PAIRWISE
from models.sizing import SIZING, BudgetFor, RowAlignment, ServingDtype, Sizing, Solver
from models.sizing.rounding import Rounding
from models.tables import Join, SparseOptimizer
from service.commands.cluster_summary import summary_lines
from service.commands.size_table import dtype_lines, explain_table, summary
from service.data.dataset import read_dataset_info
from service.on_cluster import summarise_on
from service.presets import PRESETS
from service.serving_dtypes import bought_by_dtype
from service.sizing import DEFAULT_BASE_DIM, SizingFile, write_sizing
from service.sizing_request import Rows, SizingRequest, size_dataset
from service.widths_file import parse_widths, read_widths
from sharding.cluster import CLUSTERS
from sharding.summary import PlanSummary

PLAIN_WIDTH = 110
"""Columns of the table where stdout is a file or a pipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeCommand:
    """Decide how wide every embedding table is, under a budget in bytes."""

    data: tyro.conf.Positional[Path]
    """Dataset folder written by ``mixdim prepare``."""

    scheme: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(SIZING)}}}")] = "uniform"
    """Which rule says how wide: all alike, by number of ids, by popularity, by hand (file), all
    alike with ids that share rows (hash), or by what a short training has learned."""

    budget: str | None = None
    """Bytes that are never exceeded: 512MiB, 1000000, or 4x smaller than uniform."""

    budget_for: BudgetFor = "training"
    """Which bytes: of training, or of the tables once they are exported as --dtype."""

    dtype: ServingDtype = "fp32"
    """What weights are stored as when they are served; serving bytes are counted for it."""

    row_alignment: RowAlignment = 1
    """Bytes that served rows are aligned to: 1 on CPUs, 16 on GPUs."""

    output: Path = Path("sizing.json")
    """File to write; a plan that is there is replaced."""

    optimizer: SparseOptimizer | None = None
    """Optimizer of the tables, whose state counts; that of the model's preset by default, and
    rowwise_adagrad without a model."""

    model: Annotated[str | None, tyro.conf.arg(metavar=f"{{{','.join(NETWORKS)}}}")] = None
    """Model that is trained: decides the optimizer, and whether narrow fields are projected."""

    join: Join | None = None
    """How that model brings fields together, instead of its own way; project by default."""

    rows: Rows = "keep"
    """Keep all rows, or trade rows of rare ids for width under the budget."""

    row_fields: tuple[str, ...] = ()
    """Fields whose rows may be traded; all by default. Each that is has one more table."""

    min_lookups: int = 0
    """Ids that training looks up less often than this share one row."""

    hash_tail: float = 0.0
    """Rows that rare ids share, as a share of their number, instead of one row."""

    solver: Solver = "exact"
    """The best plan within the budget, or the paper's path: one factor over all widths (scale),
    and what rounding leaves over (fill)."""

    base_dim: int = DEFAULT_BASE_DIM
    """Width of the uniform model that plans are compared with."""

    out_dim: int | None = None
    """Width that the model sees after projection; the widest table's by default."""

    fields: tuple[str, ...] = ()
    """Fields to size; all by default."""

    cluster: Annotated[str | None, tyro.conf.arg(metavar=f"{{{','.join(CLUSTERS)}}}|FILE")] = None
    """Plan the tables for this cluster, by name or by a TOML or JSON file; exit 3 if they do not
    fit."""

    batch_size: int = 4096
    """Examples per rank and step, for that plan."""

    ranks: int | None = None
    """Ranks of that cluster to use; its own by default."""

    blocks: int = 1
    """Cut fields into this many runs of rows that are looked up equally often in total."""

    block_fields: tuple[str, ...] = ()
    """Fields to cut; all by default."""

    rounding: Rounding | None = None
    """Widths that tables can have: 1, 2 and multiples of 4, powers of two, or any; the last only
    train with amsgrad, or with adam on CPUs (mult4)."""

    dim: int | None = None
    """uniform, hash: width of every table (16). file: width of fields that are not named (16)."""

    widths: tuple[str, ...] = ()
    """file: widths, as in ``--widths user=16 item=8``."""

    file: Path | None = None
    """file: TOML or JSON with one width, or one list of [rows, width], for each field."""

    max_dim: int | None = None
    """popularity: width of the most popular field, and cap (64). fastai: cap (600)."""

    alpha: float | None = None
    """popularity: temperature from 0, uniform, to 1 (0.3)."""

    n_floor: int | None = None
    """popularity: tables with fewer rows count as this many (1)."""

    min_dim: int | None = None
    """popularity: narrowest width (1)."""

    overrides: dict[str, int] | None = None
    """fastai: asked width of single fields, as in ``--overrides user 50 item 80``."""

    ratio: float | None = None
    """hash: rows as a share of ids (1); a budget lowers it as far as it must."""

    whole_rows: int | None = None
    """hash: tables of no more rows are left whole (0)."""

    warm_up: str | None = None
    """spectral: run folder of a short uniform training of this dataset, which is measured."""

    energy: float | None = None
    """spectral: share of what tables save of the loss that is kept without a budget (0.99)."""

    enough: float | None = None
    """spectral: share of it that a budget is spent for; what is left then stays unspent (0.999)."""

    json: bool = False
    """Print the sizing file instead of the table."""

    def request(self) -> SizingRequest:
        """The same without the command line's own choices.

        Raises:
            ValueError: If a flag belongs to another scheme.
        """
        own = {"scheme", "join", "optimizer"}
        shared = {field.name for field in dataclasses.fields(SizingRequest)} - own
        self._check_model()
        return SizingRequest(
            scheme=self._scheme(),
            join=self._join(),
            optimizer=self._optimizer(),
            **{name: getattr(self, name) for name in shared},
        )

    def _check_model(self) -> None:
        if self.model is not None and self.model not in NETWORKS:
            known = ", ".join(NETWORKS)
            raise ValueError(f"--model {self.model!r} is not a model; models: {known}")

    def check_pair(self, sizing: SizingFile) -> None:
        """Refuse a plan of other than two fields for a model that multiplies two.

        Raises:
            ValueError: If there are fewer or more.
        """
        if self.model in PAIRWISE and len(sizing.fields) != 2:
            raise ValueError(
                f"--model {self.model} multiplies two fields, {len(sizing.fields)} are sized; name "
                f"two, such as --fields {' '.join([*sizing.fields][:2])}"
            )

    def _optimizer(self) -> SparseOptimizer:
        preset = PRESETS[self.model]().optimizer.sparse if self.model else "rowwise_adagrad"
        return self.optimizer or preset

    def _join(self) -> Join:
        own = NETWORKS[self.model]().join if self.model else self.join or "project"
        if self.join not in (None, own) and "concatenate" in (self.join, own):
            raise ValueError(
                f"--join {self.join}: {self.model} joins its fields by {own!r} and cannot be "
                f"trained otherwise; leave --join out"
            )
        return self.join or own

    def _scheme(self) -> Sizing:
        name = "file" if self.scheme == "uniform" and self._by_hand() else self.scheme
        if name not in SIZING:
            raise ValueError(f"--scheme {name!r} is not a scheme; schemes: {', '.join(SIZING)}")
        kind = SIZING[name]
        own = [field.name for field in dataclasses.fields(kind) if field.name != "kind"]
        given: dict[str, Any] = {
            flag: getattr(self, flag) for flag in _SCHEME_FLAGS if getattr(self, flag) is not None
        }
        given |= {"widths": self._by_hand()} if self._by_hand() else {}
        if foreign := [flag for flag in given if flag not in own]:
            flags = ", ".join(
                f"--{flag.replace('_', '-')}" for flag in own if flag in (*_SCHEME_FLAGS, "widths")
            )
            raise ValueError(
                f"--{foreign[0].replace('_', '-')} means nothing to the scheme {name!r}; "
                f"its flags: {flags}"
            )
        return kind(**given)

    def _by_hand(self) -> dict[str, Any]:
        """Widths of the file, those of the command line above them."""
        written = read_widths(self.file) if self.file is not None else {}
        return {**written, **parse_widths(self.widths)}


_SCHEME_FLAGS = (
    *("rounding", "dim", "max_dim", "alpha", "n_floor", "min_dim", "overrides"),
    *("ratio", "whole_rows", "warm_up", "energy", "enough"),
)


def main(argv: Sequence[str]) -> int:
    """Size a dataset, write the file and explain every width."""
    command = tyro.cli(SizeCommand, args=list(argv), prog="mixdim size")
    _check_output(command.output)
    sizing = size_dataset(command.data, command.request())
    command.check_pair(sizing)
    placed = _on_cluster(command, sizing)
    place = ", in place of the plan that it held" if command.output.is_file() else ""
    write_sizing(sizing, command.output)
    if command.json:
        sys.stdout.write(command.output.read_text())
        return 0
    coverage = {
        stats.name: stats.coverage_ratio for stats in read_dataset_info(command.data).field_stats
    }
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)
    console.print(explain_table(sizing, coverage))
    console.print(summary(sizing), highlight=False)
    if command.budget is not None and command.budget_for == "serving":
        others = bought_by_dtype(command.data, command.request(), sizing)
        console.print(dtype_lines(others), highlight=False)
    if placed is not None:
        console.print(f"\non {command.cluster}\n{summary_lines(placed)}", highlight=False)
    sys.stderr.write(f"written to {command.output}{place}\n")
    return 0


def _check_output(output: Path) -> None:
    if output.is_dir():
        raise ValueError(
            f"--output {output} is a folder, expected a file; try --output {output / 'sizing.json'}"
        )


def _on_cluster(command: SizeCommand, sizing: SizingFile) -> PlanSummary | None:
    if command.cluster is None:
        if command.ranks is not None:
            raise ValueError(f"--ranks {command.ranks} of no cluster; give --cluster as well")
        return None
    return summarise_on(
        sizing,
        command.cluster,
        batch_size=command.batch_size,
        num_ranks=command.ranks,
        stats=read_dataset_info(command.data).field_stats,
    )
