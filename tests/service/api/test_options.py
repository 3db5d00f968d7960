"""Options of a job: what the service takes, the command line takes, and means the same by it."""

import dataclasses
from typing import Any

import pytest
import tyro

from service.api.asked import JobRequest
from service.api.errors import ApiError
from service.api.home import Home
from service.api.verbs import plan
from service.commands.compare import CompareCommand
from service.commands.evaluate import EvaluateCommand
from service.commands.export import ExportCommand
from service.commands.prepare import Arguments
from service.commands.search import SearchCommand
from service.commands.size import SizeCommand
from service.commands.train import TrainCommand, starting_point
from service.compare.choices import read_spec
from service.config import TrainConfig
from service.search.methods import METHODS

THINGS = {"data": "d", "sizing": "s"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One with a dataset, a sizing, a run and uploads."""
    home = Home(tmp_path_factory.mktemp("home"))
    for name in ("datasets/d", "sizings/s", "runs/r"):
        (home.path / name).mkdir()
    (home.path / "uploads" / "raw.TSV").touch()
    (home.path / "uploads" / "schema.toml").touch()
    return home


def planned(home: Home, verb: str, options: dict[str, Any], **things: Any) -> list[str]:
    request = JobRequest(verb=verb, options=options, **things)  # type: ignore[arg-type]
    return list(plan(request, home, "out").arguments)


def as_train(arguments: list[str]) -> TrainConfig:
    """What `mixdim train` makes of a command line."""
    start, flags = starting_point(arguments)
    default = TrainCommand(config=start)
    settings = (tyro.conf.AvoidSubcommands,)
    return tyro.cli(TrainCommand, args=flags, default=default, config=settings).config


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"batch-size": "512", "epochs": 2}, {"batch_size": 512, "epochs": 2}),
        ({"batch_size": 512}, {"batch_size": 512}),
        ({"shuffle": False, "checkpoint-async": True}, {"shuffle": False}),
        ({"optimizer.sparse-lr": 0.5}, {"optimizer.sparse_lr": 0.5}),
        ({"network.bottom": [8, 4]}, {"network.bottom": (8, 4)}),
        ({"l2-bias": None, "clip": [1, 5]}, {"clip": (1.0, 5.0)}),
        ({"l2-fields": {"user": 2, "item": 0.5}}, {"l2_fields": {"user": 2.0, "item": 0.5}}),
    ],
)
def test_options_of_a_training_mean_what_its_flags_mean(
    options: dict[str, Any], expected: dict[str, Any], home: Home
) -> None:
    arguments = planned(home, "train", options, preset="dlrm", **THINGS)
    config = as_train(arguments)
    for place, value in expected.items():
        found: Any = config
        for name in place.split("."):
            found = getattr(found, name)
        assert found == value
    assert config.data == home.path / "datasets" / "d"
    assert config.sizing == home.path / "sizings" / "s" / "sizing.json"
    assert config.output == home.path / "runs" / "out"


def test_a_run_is_warmed_up_by_a_run_of_the_service(home: Home) -> None:
    options = {"warm-start": "r"}
    arguments = planned(home, "train", options, preset="mf", **THINGS)
    assert as_train(arguments).warm_start == home.path / "runs" / "r"


def test_a_job_that_may_be_started_again_goes_on_with_its_run(home: Home) -> None:
    arguments = planned(home, "train", {}, preset="mf", max_retries=1, **THINGS)
    assert as_train(arguments).resume


def test_options_of_a_sizing_are_its_flags(home: Home) -> None:
    options = {"scheme": "popularity", "alpha": 0.5, "fields": ["a", "b"], "min-lookups": 5}
    arguments = planned(home, "size", options, data="d", budget="4x")
    command = tyro.cli(SizeCommand, args=arguments)
    assert (command.scheme, command.alpha, command.fields) == ("popularity", 0.5, ("a", "b"))
    assert (command.budget, command.min_lookups) == ("4x", 5)


def test_options_of_a_search_are_its_flags(home: Home) -> None:
    options = {"dim": 8, "method.trials": 3, "batch-size": 64, "retrain": False}
    arguments = planned(
        home, "search", options, method="random", preset="smoke", data="d", budget="2x"
    )
    name, *rest = arguments
    start, flags = starting_point(rest)
    default = SearchCommand(train=start, method=METHODS[name]())
    settings = (tyro.conf.AvoidSubcommands,)
    command = tyro.cli(SearchCommand, args=flags, default=default, config=settings)
    assert (command.dim, command.retrain, command.train.batch_size) == (8, False, 64)
    assert dataclasses.asdict(command.method)["trials"] == 3


def test_options_of_a_preparation_are_its_flags(home: Home) -> None:
    settings = (
        tyro.conf.CascadeSubcommandArgs,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.OmitArgPrefixes,
        tyro.conf.OmitSubcommandPrefixes,
    )
    options = {"min-count": 3, "overwrite": True, "schema": "schema.toml"}
    arguments = planned(home, "prepare", options, method="table", inputs=["raw.TSV"])
    config = tyro.cli(Arguments, args=arguments, config=settings).config
    assert (config.min_count, config.overwrite) == (3, True)
    source: Any = config.source
    assert source.inputs == (home.path / "uploads" / "raw.TSV",)
    assert source.schema == home.path / "uploads" / "schema.toml"


def test_options_of_an_evaluation_are_its_flags(home: Home) -> None:
    options = {"split": "validation", "slices": ["item_id"], "dtype": "int8"}
    command = tyro.cli(EvaluateCommand, args=planned(home, "evaluate", options, run="r"))
    assert (command.run, command.split) == (home.path / "runs" / "r", "validation")
    assert (command.slices, command.dtype) == (("item_id",), "int8")


def test_options_of_an_export_are_its_flags(home: Home) -> None:
    options = {"dtype": "int8", "tolerance.auc": 0.01, "fold-projections": True}
    command = tyro.cli(ExportCommand, args=planned(home, "export", options, run="r"))
    assert (command.run, command.output) == (home.path / "runs/r", home.path / "artifacts/out")
    assert (command.dtype, command.tolerance.auc, command.fold_projections) == ("int8", 0.01, True)


SPEC = {
    "recipes": {"a": {"preset": "mf", "epochs": 2}},
    "sizings": {"uniform": {"scheme": "uniform"}, "warm": {"scheme": "spectral", "warm_up": "@w"}},
    "warm_ups": {"w": {"scheme": "uniform"}},
    "seeds": [0, 1],
}


def test_a_comparison_is_what_its_file_would_be(home: Home) -> None:
    options = {"seeds": [1], "retry-failed": True}
    arguments = planned(home, "compare", options, data="d", spec=SPEC, ranks_per_node=2)
    command = tyro.cli(CompareCommand, args=arguments)
    assert (command.seeds, command.retry_failed, command.parallel) == ((1,), True, 2)
    assert (command.data, command.output) == (home.path / "datasets/d", home.path / "frontiers/out")
    assert read_spec(command.spec).seeds == (0, 1)
    assert planned(home, "compare", options, data="d", spec=SPEC)[0] == arguments[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "x"}, "spec.output is the service's own"),
        ({"sizings": {"a": {"file": "x.json"}}}, "spec.sizings.a.file is the service's own"),
        ({"sizings": {"a": {"scheme": "spectral", "warm_up": "x"}}}, "names a path"),
        ({"recipes": {"a": {"preset": "mf", "warm_start": "r"}}}, "names a path"),
        ({"recipes": {"a/../b": {"preset": "mf"}}}, "cannot have slashes"),
        ({"sizings": {"a": {"scheme": "no"}}}, "'no'"),
        ({"recipes": {}}, "recipes"),
        ({"seeds": "many"}, "spec: seeds"),
    ],
)
def test_a_comparison_names_no_files(change: dict[str, Any], message: str, home: Home) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        planned(home, "compare", {}, data="d", spec={**SPEC, **change})
    assert str(home.path) not in refused.value.message


@pytest.mark.parametrize(
    ("verb", "options", "things", "message"),
    [
        ("train", {"batch-sizes": 1}, {}, "options.batch-sizes is no flag of this verb"),
        ("train", {"batch-size": 0}, {}, "batch_size=0, expected at least 1"),
        ("train", {"batch-size": "many"}, {}, "options.batch-size: Input should be"),
        ("train", {"output": "/etc"}, {}, "options.output is the service's own"),
        ("train", {"metrics-port": 1}, {}, "options.metrics-port is the service's own"),
        ("train", {"plan": "x"}, {}, "options.plan is the service's own"),
        ("train", {"warm-start": "../r"}, {}, "cannot name one of the runs"),
        ("train", {"warm-start": "none"}, {}, "there is no 'none' among the runs"),
        ("train", {"warm-start": ["r"]}, {}, "expected a name among the runs"),
        ("train", {"network": "mf"}, {}, "options.network is no flag"),
        ("train", {"network.kind": "mf"}, {}, "options.network.kind is no flag"),
        ("train", {}, {"preset": "x.toml"}, "preset: expected one of"),
        ("train", {}, {"budget": "4x"}, "train has no use for it"),
        ("train", {}, {"data": None}, "data: train needs one"),
        ("size", {"file": "/etc/passwd"}, {}, "options.file names a path"),
        ("size", {"cluster": "/etc/passwd"}, {}, "options.cluster: expected one of"),
        ("size", {"fields": ["--output=/tmp/x"]}, {}, "a value cannot begin with '-'"),
        ("size", {"scheme": "hash", "alpha": 1}, {}, "--alpha means nothing to the scheme"),
        ("size", {}, {"budget": "lots"}, "budget 'lots' is not a number"),
        ("prepare", {"raw": "/tmp/x"}, {}, "options.raw is the service's own"),
        ("prepare", {}, {"method": "x"}, "method: expected one of"),
        ("prepare", {}, {"inputs": ["raw.TSV"]}, "1 files for synthetic, expected none"),
        ("prepare", {"min-count": float("inf")}, {}, "options.min-count: Input should be"),
        ("search", {"sizing": "x"}, {}, "options.sizing is the service's own"),
    ],
)
def test_what_a_verb_would_refuse_is_refused_at_once(
    verb: str, options: dict[str, Any], things: dict[str, Any], message: str, home: Home
) -> None:
    usual: dict[str, dict[str, Any]] = {
        "train": {"preset": "dlrm", **THINGS},
        "size": {"data": "d"},
        "prepare": {"method": "synthetic"},
        "search": {"method": "random", "preset": "smoke", "data": "d"},
    }
    with pytest.raises(ApiError, match=message) as refused:
        planned(home, verb, options, **{**usual[verb], **things})
    assert refused.value.status in (404, 422)


def test_a_table_needs_its_schema_among_the_uploads(home: Home) -> None:
    for options in ({}, {"schema": "../mixdim.db"}, {"schema": "/etc/passwd"}):
        with pytest.raises(ApiError):
            planned(home, "prepare", options, method="table", inputs=["raw.TSV"])


def test_a_misspelt_flag_is_told_its_name(home: Home) -> None:
    with pytest.raises(ApiError) as refused:
        planned(home, "train", {"optimizer.sparse-rate": 1}, preset="dlrm", **THINGS)
    assert "optimizer.sparse-lr" in str(refused.value.hint)
