"""What the form for a job is made from: the verbs' own configurations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from service.api.asked import Verb
from service.api.errors import ApiError, place_of
from service.api.forms import Asked, describe
from service.api.options import lay_over
from service.api.verbs import SOURCES, prepare_form, size_form, train_form
from service.config import TrainConfig
from service.presets import PRESETS

VERBS = get_args(Verb)


def by_name(options: list[Asked]) -> Mapping[str, Asked]:
    return {option.name: option for option in options}


def nowhere(_kind: str, name: str) -> Path:
    return Path(name)


def of_train(preset: str = "dlrm") -> Mapping[str, Asked]:
    return by_name(describe("train", ["local"], preset).options)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_says_what_it_is_for(verb: Verb) -> None:
    form = describe(verb, ["local"])
    assert len(form.options) >= 5
    assert [option.name for option in form.options if not option.help] == []
    assert [thing.name for thing in form.things if not thing.help] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_defaults_are_those_of_the_preset(preset: str) -> None:
    options, config = of_train(preset), PRESETS[preset]()
    assert options["epochs"].default == config.epochs
    assert options["optimizer.sparse-lr"].default == config.optimizer.sparse_lr
    assert options["l2"].default == config.l2


def test_types_are_those_of_the_configuration() -> None:
    options = of_train()
    types = {
        name: options[name].type for name in ("epochs", "l2", "shuffle", "network.top", "clip")
    }
    assert types == {
        **{"epochs": "integer", "l2": "number", "shuffle": "boolean"},
        **{"network.top": "list", "clip": "list"},
    }
    assert options["sharding.tables"].type == "mapping"
    assert [choice.name for choice in options["precision"].choices or ()] == [
        "fp32",
        "tf32",
        "bf16",
    ]


def test_paths_are_left_out_and_things_are_named() -> None:
    options = of_train()
    assert {"data", "sizing", "output", "plan", "metrics-port"} & options.keys() == set()
    assert options["warm-start"].among == "runs"
    assert options["resume-data"].among == "datasets"


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (train_form("mf"), describe("train", [], "mf").options),
        (size_form(), describe("size", []).options),
        (
            prepare_form(SOURCES["synthetic"]()),
            describe("prepare", [], method="synthetic").options,
        ),
    ],
    ids=["train", "size", "prepare"],
)
def test_every_option_with_its_default_is_accepted(form: Any, options: list[Asked]) -> None:
    given = {one.name: one.default for one in options if one.default not in (None, [], {})}
    assert len(given) > 5
    config, _ = lay_over(form, given, nowhere)
    assert config == form.start


def test_a_method_brings_its_own_options() -> None:
    names = [set(by_name(describe("search", [], None, of).options)) for of in ("random", "autodim")]
    assert "method.trials" in names[0] - names[1]
    assert "method.pretrain" in names[1] - names[0]


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ApiError, match="preset: expected one of dlrm, dcnv2"):
        describe("train", [], "dlrn")


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("options.batch-size: Input should be a valid integer", "options.batch-size"),
        ("options.optimizer.sparse-lr: Input should be", "options.optimizer.sparse-lr"),
        ("options.batch-sice is no flag of this verb", "options.batch-sice"),
        ("body.nodes: Input should be greater than 0", "nodes"),
        ("sizing: train needs one; name it", "sizing"),
        ("nodes=2 on one machine, expected 1", "nodes"),
        ("2 files too many", None),
    ],
)
def test_messages_begin_with_the_place_of_the_fault(message: str, place: str | None) -> None:
    assert place_of(message) == place


def test_the_place_of_a_refused_option_is_its_field() -> None:
    with pytest.raises(ApiError) as caught:
        lay_over(train_form("dlrm"), {"batch-size": "many"}, nowhere)
    assert place_of(caught.value.message) == "options.batch-size"
    assert isinstance(train_form("dlrm").start, TrainConfig)
