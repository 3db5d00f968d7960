"""What is rounded besides, and when: as budgets ask for it, and of earlier runs as well."""

import pytest

from service.commands.compare import EXIT_SOME_FAILED
from service.compare.choices import read_spec
from service.compare.grid import expand
from service.compare.records import append_record
from service.compare.runner import COSTS, to_do
from tests.service.compare.specs import small_spec, write_spec
from tests.service.compare.test_compare_command import compare, records_of

SAME = str(340 * 4 * 2 * 4)
"""Bytes of what uniform:4 asks for."""


@pytest.mark.parametrize("budgets", [["uniform:4", SAME], [SAME, "uniform:4"]])
def test_a_plan_of_two_budgets_is_rounded_where_one_of_them_asks_for_it(budgets, tmp_path):
    top = f'serve_as = ["int8"]\nserve_budgets = ["uniform:4"]\nseeds = [0]\nbudgets = {budgets}'
    path = write_spec(tmp_path, top=top)
    text = path.read_text().replace("seeds = [0, 1]\n", "")
    path.write_text(text.replace('budgets = ["uniform:8"]\n', ""))
    grid = expand(read_spec(path))
    todo = to_do(grid, {}, retry_failed=False)
    assert (len(grid.runs), len(todo.runs)) == (4, 2)
    assert {run.dtypes for run in todo.runs.values()} == {("int8",)}


def test_a_run_is_settled_once_all_that_is_asked_for_was_rounded(tmp_path):
    (run, *_) = expand(small_spec(tmp_path, top='serve_as = ["int8", "int4"]')).runs

    def is_left(status, served=(), *, retry_failed=False, **more):
        record = {"status": status, "error": "why", "served": dict.fromkeys(served), **more}
        grid = expand(small_spec(tmp_path, top='serve_as = ["int8", "int4"]'))
        return run.digest in to_do(grid, {run.digest: record}, retry_failed=retry_failed).runs

    assert not is_left("done", ["int8", "int4"])
    assert is_left("done", ["int8"])
    assert not is_left("infeasible")
    assert not is_left("failed"), "but on demand"
    assert not is_left("failed", error=""), "though nobody said why"
    assert is_left("failed", retry_failed=True)
    assert not is_left("done", ["int8"], failed_since="no room"), "the same"
    assert is_left("done", ["int8"], failed_since="no room", retry_failed=True)
    assert not is_left("done", ["int8", "int4"], failed_since="no room", retry_failed=True)


def test_what_is_asked_for_later_is_rounded_then_and_costs_stay_those_of_the_first_time(
    tmp_path, capsys
):
    flags = ("--sizings", "uniform", "--seeds", "0")
    compare(capsys, write_spec(tmp_path, top='serve_as = ["int8"]'), *flags)
    path = write_spec(tmp_path, top='serve_as = ["int4"]')
    code, table, story = compare(capsys, path, "--sizings", "uniform")
    assert (code, "2 runs to train, 0 done before" in story) == (0, True)
    assert "| uniform, int4 | uniform:8 |" in table
    first, *others = records_of(tmp_path)
    again = next(record for record in others if record["hash"] == first["hash"])
    assert (first["served"].keys(), again["served"].keys()) == ({"int8"}, {"int8", "int4"})
    assert again["test"] == first["test"]
    assert {name: again.get(name) for name in COSTS} == {name: first.get(name) for name in COSTS}
    path = write_spec(tmp_path, top='serve_as = ["int8", "int4"]')
    listed = compare(capsys, path, *flags, "--dry-run")[1]
    assert "1 runs, 1 done" in listed, "what was rounded before stays"
    path = write_spec(tmp_path, top='serve_as = ["int8", "fp16"]')
    listed = compare(capsys, path, "--sizings", "uniform", "--dry-run")[1]
    assert "2 runs, 0 done" in listed, "what is asked for is not all there"
    path = write_spec(tmp_path, top='serve_as = ["int4"]')
    append_record(tmp_path / "out/runs.jsonl", {**again, "status": "failed", "error": "no room"})
    code, _, story = compare(capsys, path, "--sizings", "uniform")
    assert (code, "0 runs to train, 2 done before" in story) == (0, True)
    assert "failed:" not in story, "what failed since is nothing that is asked for"
    path = write_spec(tmp_path, top='serve_as = ["int4", "fp16"]')
    code, _, story = compare(capsys, path, *flags)
    assert (code, "no room" in story) == (EXIT_SOME_FAILED, True)
