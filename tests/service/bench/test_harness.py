"""The frame of all races."""

import json
import os
from functools import partial
from pathlib import Path

import pytest

from service.bench.harness import (
    Contender,
    Figures,
    OnRun,
    RaceConfig,
    Report,
    Run,
    race,
    silent,
)
from service.bench.machine import Load, describe_machine, wait_until_quiet
from service.commands.bench import Story


def figure_of_this_process(value: float, repetition: int) -> Figures:
    return {"speed": value + repetition, "process": float(os.getpid())}


def failing(repetition: int) -> Figures:
    raise ValueError("no data")


def contender(name: str, value: float = 1.0) -> Contender:
    return Contender(name=name, about="a test", run=partial(figure_of_this_process, value))


def held(contenders: list[Contender], repeats: int = 1, on_run: OnRun = silent) -> Report:
    config = RaceConfig(repeats=repeats, quiet_seconds=0)
    return race(contenders, config, on_run, benchmark="test", headline="speed", options={})


def run(name: str, speed: float, foreign_ratio: float = 0.0) -> Run:
    figures = {"speed": speed}
    return Run(contender=name, repetition=0, figures=figures, foreign_ratio=foreign_ratio)


def report(*runs: Run) -> Report:
    names = dict.fromkeys(run.contender for run in runs)
    contenders = [contender(name) for name in names]
    return Report(benchmark="test", headline="speed", options={}, contenders=contenders, runs=runs)


def test_contenders_take_turns_each_time_in_a_fresh_process() -> None:
    told: list[Run] = []
    runs = held([contender("a", 10), contender("b", 20)], 2, lambda r: told.append(r.runs[-1])).runs
    assert [(run.contender, run.repetition) for run in runs] == [
        ("a", 0),
        ("b", 0),
        ("a", 1),
        ("b", 1),
    ]
    assert [run.figures["speed"] for run in runs] == [10, 20, 11, 21]
    assert len({run.figures["process"] for run in runs} | {os.getpid()}) == 5
    assert told == runs


def test_a_contender_that_fails_says_why() -> None:
    broken = Contender(name="broken", about="a test", run=failing)
    with pytest.raises(ValueError, match="no data"):
        held([broken])


def test_an_interrupted_race_leaves_its_runs_in_the_file(tmp_path: Path) -> None:
    broken = Contender(name="broken", about="a test", run=failing)
    with pytest.raises(ValueError, match="no data"):
        held([contender("a", 10), broken], on_run=Story(tmp_path / "new" / "race.json"))
    found = json.loads((tmp_path / "new" / "race.json").read_text())
    assert [run["figures"]["speed"] for run in found["runs"]] == [10]
    assert found["contenders"]["a"]["figures"]["speed"]["median"] == 10
    assert found["contenders"]["broken"]["figures"] == {}


def test_contenders_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"contenders \['a', 'a'\] share names"):
        held([contender("a"), contender("a")])


def test_median_and_range_are_of_the_quiet_runs() -> None:
    runs = [run("a", speed) for speed in (3.0, 1.0, 2.0)]
    spread = report(*runs, run("a", 0.1, foreign_ratio=0.5)).spread("a", "speed")
    assert spread is not None
    assert (spread.median, spread.min, spread.max) == (2.0, 1.0, 3.0)
    assert (spread.num_runs, spread.num_left_out) == (3, 1)


def test_disturbed_runs_count_where_there_are_no_others() -> None:
    spread = report(run("a", 5.0, foreign_ratio=0.5)).spread("a", "speed")
    assert spread is not None
    assert (spread.median, spread.num_left_out) == (5.0, 0)


def test_a_figure_nobody_measured_has_no_spread() -> None:
    assert report(run("a", 5.0)).spread("a", "auc") is None


def test_the_json_holds_every_run_and_the_machine() -> None:
    found = json.loads(json.dumps(report(run("a", 5.0), run("b", 6.0)).as_json()))
    assert [run["figures"]["speed"] for run in found["runs"]] == [5.0, 6.0]
    assert found["contenders"]["b"]["figures"]["speed"]["median"] == 6.0
    assert found["machine"]["cores"] >= 1
    assert "torch" in found["machine"]["packages"]


def test_the_machine_names_its_processor() -> None:
    assert describe_machine()["cpu"]


@pytest.mark.parametrize(
    ("busy", "own", "stolen", "expected"),
    [(0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0), (1.5, 0.5, 0.0, 0.5), (1.0, 1.0, 0.5, 0.25)],
)
def test_what_is_not_ours_is_foreign(
    monkeypatch: pytest.MonkeyPatch, busy: float, own: float, stolen: float, expected: float
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    before = Load(seconds=0, busy_seconds=10, own_seconds=5, stolen_seconds=1)
    after = Load(seconds=1, busy_seconds=10 + busy, own_seconds=5 + own, stolen_seconds=1 + stolen)
    assert after.foreign_ratio_since(before) == pytest.approx(expected)


def test_own_work_is_counted_as_own() -> None:
    before = Load.now()
    sum(range(3_000_000))
    assert Load.now().own_seconds > before.own_seconds


def test_waiting_ends_when_the_time_is_up() -> None:
    before = Load.now()
    wait_until_quiet(max_ratio=-1.0, timeout_seconds=0.5)
    assert Load.now().seconds - before.seconds < 5


def test_impossible_races_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats=0"):
        RaceConfig(repeats=0)
