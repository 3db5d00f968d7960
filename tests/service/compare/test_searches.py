"""Searches side by side with schemes: what they share, what they cost, and what rounding costs."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.sizing import Serving, plan_bytes
from service.__main__ import main
from service.compare import pool
from service.compare.choices import sizing_of
from service.compare.figures import widths_of
from service.compare.frontier import frontier
from service.compare.grid import expand
from service.compare.records import append_record
from service.compare.runner import _job
from service.compare.tables import as_csv, as_markdown
from service.search.methods.random_search import RandomSearch
from service.search.methods.spectral import SpectralSearch
from service.search.run import search
from service.sizing import read_sizing
from tests.service.compare.specs import small_spec, write_spec
from tests.service.compare.test_frontier import SPEC, recorded

SEARCHES = """
[sizings.spectral]
search = "spectral"
energy = 0.9
budgets = ["uniform:8", "uniform:4"]

[sizings.random]
search = "random"
trials = 1
candidates = [8, 16]
budgets = ["100"]
"""


def searched(folder: Path) -> Path:
    """A comparison of two searches with uniform tables; one of them cannot meet its budget."""
    path = write_spec(folder, top='serve_as = ["int8"]\n', sizings=SEARCHES)
    path.write_text(path.read_text().replace("seeds = [0, 1]", "seeds = [0]"))
    return path


def test_keys_of_a_search_go_to_its_options_or_to_the_tables_that_it_starts_from(tmp_path):
    sizings = SEARCHES + "[sizings.wide]\nsearch = 'spectral'\ndim = 32\nfields = ['C2']\n"
    spec = replace(small_spec(tmp_path, sizings=sizings), dim=8)
    assert sizing_of(spec, "spectral", {}).method == SpectralSearch(energy=0.9)
    assert sizing_of(spec, "random", {}).method == RandomSearch(trials=1, candidates=(8, 16))
    runs = {(run.sizing, run.budget): run for run in expand(spec).runs}
    narrow, wide = runs["spectral", "uniform:4"].search, runs["wide", "uniform:8"].search
    assert (narrow.dim, narrow.fields, narrow.budget) == (8, ("C1", "C3"), str(340 * 4 * 2 * 4))
    assert (wide.dim, wide.fields, wide.budget) == (32, ("C2",), str(7 * 8 * 2 * 4))
    assert runs["spectral", "uniform:4"].plan is None


def test_options_of_a_search_decide_its_hash(tmp_path):
    found = {}
    for energy in ("0.9", "0.8"):
        spec = small_spec(tmp_path, sizings=SEARCHES.replace("0.9", energy))
        found[energy] = {run.name: run.digest for run in expand(spec).runs}
    changed = {name for name, digest in found["0.9"].items() if found["0.8"][name] != digest}
    assert changed == {name for name in found["0.9"] if "spectral" in name}
    assert len(changed) == 4


REFUSED = {
    'search = "spectrall"': r"sizings.s.search='spectrall', expected one of random, .*spectral",
    'search = "random"\nenergy = 1.0': r"sizings.s.energy means nothing to the search 'random'",
    'search = "random"\nscheme = "uniform"': r"sizings.s.scheme means nothing to the search",
    'search = "random"\ntrials = 0': r"sizings.s: .*trials=0, expected at least 1",
    'search = "random"\ndim = 7': r"sizings.s.*7",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_search_that_is_none_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match=REFUSED[text]):
        small_spec(tmp_path, sizings=f"[sizings.s]\n{text}\n")


def test_a_search_is_no_warm_up(tmp_path):
    with pytest.raises(ValueError, match=r"warm_ups.w.search: a search is no warm-up"):
        small_spec(tmp_path, sizings='[warm_ups.w]\nsearch = "random"\n')


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("budgets = ['4 x 4']", "budget '4 x 4' is not a number"),
        ("fields = ['C9']", "'C9'.* C1, C2"),
    ],
)
def test_a_search_that_cannot_begin_is_refused_before_anything_is_trained(line, message, tmp_path):
    spec = small_spec(tmp_path, sizings=f"[sizings.s]\nsearch = 'spectral'\n{line}\n")
    with pytest.raises(ValueError, match=message):
        expand(spec)


def test_searches_are_compared_at_equal_bytes_and_share_their_base(tmp_path, capsys):
    path = searched(tmp_path)
    assert main(["compare", str(path)]) == 0
    printed = capsys.readouterr()
    lines = (tmp_path / "out/runs.jsonl").read_text().splitlines()
    records = {(r["sizing"], r["budget"]): r for r in map(json.loads, lines)}
    wide, narrow = records["spectral", "uniform:8"], records["spectral", "uniform:4"]
    assert [stage["name"] for stage in wide["stages"]] == ["base", "spectra", "retrain"]
    assert wide["stages"][0] == narrow["stages"][0], "the base was trained once, and counts twice"
    assert wide["search"]["examples"] > wide["training"]["examples"] == 2 * 2000
    assert "random 100: budget of 100 bytes" in printed.out, "no plan fits, and nothing failed"
    assert not list((tmp_path / "out/stages").iterdir())
    assert not list((tmp_path / "out/runs").iterdir())
    assert main(["compare", str(path)]) == 0
    assert "0 runs to train, 5 done before" in capsys.readouterr().err
    spec = small_spec(tmp_path, sizings=SEARCHES)
    run = next(r for r in expand(spec).runs if r.name == "mf spectral uniform:4 seed 0")
    alone = replace(run.search, train=replace(run.search.train, output=tmp_path / "alone"))
    assert search(alone, lambda stage: None).test == narrow["test"]
    (plan,) = (tmp_path / "out/sizings/mf").glob("spectral-uniform-4-0-*.json")
    assert widths_of(read_sizing(plan)) == narrow["widths"], "and can be trained with"
    served = Serving(dtype="int8")
    assert "| spectral, int8 | uniform:8 |" in printed.out
    assert 0 < wide["served"]["int8"]["serving_bytes"] < wide["bytes"]["serving_bytes"]
    uniform = records["uniform", "uniform:8"]
    plan = next(r for r in expand(spec).runs if r.sizing == "uniform").plan.plan
    expected = plan_bytes(plan, serving=served).serving_bytes
    assert uniform["served"]["int8"]["serving_bytes"] == expected
    append_record(
        tmp_path / "out/runs.jsonl", wide | {"served": {"int8": {"error": "tables of width 6"}}}
    )
    assert main(["compare", str(searched(tmp_path))]) == 0
    printed = capsys.readouterr().out
    assert "| spectral, int8 | uniform:8 |" not in printed
    assert "## Cannot be served so\n\n* mf spectral uniform:8, int8: tables of width 6" in printed


def test_costs_are_counted_in_trainings_of_the_widest_baseline():
    cells, records = recorded()
    for record in records.values():
        record |= {"training": {"examples": 100, "seconds": 2.0}}
        record["own_memory_bytes"] = 200
    for name, record in records.items():
        if name.startswith("narrow"):
            cost = {"examples": 250, "seconds": 7.0, "own_memory_bytes": 500}
            record |= {"search": cost, "needs": []}
    found = frontier(SPEC, cells, records)
    narrow, uniform = found[0].cost, found[2].cost
    assert dict(narrow.search_ratio) == {"examples": 2.5, "seconds": 3.5}
    assert narrow.memory_ratio == (550 - 50) / (250 - 50)
    assert narrow.total("seconds") == 9.0
    assert (uniform.memory_ratio, uniform.search["examples"]) == (1.0, 0)
    markdown = as_markdown(SPEC, found, {})
    assert "| 250 | 2.50 | 7.0 | 3.50 | 9.0 | 2.50 x |" in markdown
    assert as_csv(found).splitlines()[1].endswith(",250,7,100,2,2.5,3.5,2.5")


def test_a_search_that_trains_nothing_costs_0_and_the_memory_of_its_training():
    cells, records = recorded()
    for name, record in records.items():
        record |= {"training": {"examples": 100, "seconds": 2.0}, "own_memory_bytes": 200}
        if name.startswith("narrow"):
            cost = {"examples": 0, "seconds": 0.0, "own_memory_bytes": None}
            record |= {"search": cost, "needs": [], "own_memory_bytes": 300}
    found = frontier(SPEC, cells, records)
    assert found[0].cost.memory_ratio == 1.5
    markdown = as_markdown(SPEC, found, {})
    assert markdown.count("| 0 | 0.00 | 0.0 | 0.00 | 2.0 | 1.50 x |") == 2
    assert "|  |  |  |  | 2.0 | 1.00 x |" in markdown, "a scheme does not search"


def test_a_search_of_unknown_memory_is_not_given_that_of_its_training():
    cells, records = recorded()
    for name, record in records.items():
        record |= {"own_memory_bytes": 200}
        if name.startswith("narrow"):
            record["search"] = {"examples": 9, "seconds": 0.1, "own_memory_bytes": None}
    assert frontier(SPEC, cells, records)[0].cost.memory_ratio is None


def test_rounded_tables_are_rows_compared_with_the_baseline_in_fp32():
    cells, records = recorded()
    for name, record in records.items():
        if record["status"] == "done" and name != "first":
            mse = record["test"]["mse"] + 0.01
            record["served"] = {"int4": {"test": {"mse": mse}, "serving_bytes": 7}}
    spec = replace(SPEC, serve_as=("int8", "int4"), serve_budgets=("uniform:4",))
    found = {(p.name, p.budget): p for p in frontier(spec, cells, records)}
    assert ("narrow, int4", "uniform:8") not in found, "nobody asked for it"
    rounded = found["narrow, int4", "uniform:4"]
    assert rounded.difference.mean == pytest.approx(-0.04 / 3 + 0.01)
    assert rounded.figures["serving_bytes"] == 7
    assert found["uniform, int4", "uniform:4"].difference.mean == pytest.approx(0.01)
    assert found["narrow", "uniform:4"].difference.mean == pytest.approx(-0.04 / 3)


def test_jobs_that_may_wait_for_each_other_are_handed_out_when_nothing_else_is_left():
    sent: list[SimpleNamespace] = []
    groups = {"ab1": ("a", "ab"), "ab2": ("a", "ab"), "ac1": ("a", "ac"), "no": (), "d": ("d",)}
    jobs = {name: SimpleNamespace(groups=of) for name, of in groups.items()}
    connection = SimpleNamespace(send=sent.append)
    workers = [SimpleNamespace(job=None, connection=connection) for _ in range(6)]
    waiting = list(jobs)
    for worker in workers:
        pool._hand_out(worker, workers, waiting, jobs)
    assert [worker.job for worker in workers] == ["ab1", "no", "d", "ac1", "ab2", None]
    assert (waiting, sent) == ([], [jobs[worker.job] for worker in workers[:5]])


def test_searches_of_one_plan_have_more_to_wait_for_than_of_two_and_other_seeds_have_nothing(
    tmp_path,
):
    spec = small_spec(tmp_path, sizings=SEARCHES + '[sizings.sseds]\nsearch = "sseds"\n')
    groups = {
        run.name: {*_job(spec, run, tmp_path, keep=False).groups} for run in expand(spec).runs
    }

    def shared(one: str, other: str) -> int:
        return len(groups[f"mf {one}"] & groups[f"mf {other}"])

    wide, narrow = "spectral uniform:8 seed 0", "spectral uniform:4 seed 0"
    assert shared(wide, narrow) > shared(wide, "sseds uniform:8 seed 0") > 0
    assert shared(wide, "spectral uniform:8 seed 1") == 0
    assert shared(wide, "uniform uniform:8 seed 0") == 0
