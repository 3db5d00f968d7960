"""The whole verb: runs once, skips what is done, survives failures, kills and Ctrl-C."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from service.__main__ import main
from service.compare.choices import read_spec
from service.compare.grid import Grid, expand, write_plans
from service.compare.pool import run_all
from service.compare.records import append_record, read_records
from service.compare.runner import to_do
from service.compare.worker import Job
from service.distributed import launch
from service.run_folder import RunFolder
from service.train.loop import train
from tests.service.compare.specs import small_spec, write_data, write_spec

ROOT = Path(__file__).parents[3]


TOO_SMALL = "[sizings.small]\nscheme = 'popularity'\nbudgets = ['100']\n"


def records_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "out/runs.jsonl").read_text().splitlines()]


def compare(capsys: pytest.CaptureFixture[str], spec: Path, *flags: str) -> tuple[int, str, str]:
    code = main(["compare", str(spec), *flags])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_comparison_trains_once_draws_and_skips_what_is_done(tmp_path, capsys):
    spec = write_spec(tmp_path, top='slices = ["C3"]')
    code, table, story = compare(capsys, spec, "--parallel", "2")
    assert code == 0
    assert "4 runs to train, 0 done before, 0 failed before; 0 warm-ups; 2 at a time" in story
    assert table.count("| uniform:8 |") == 4, "two sizings, in the table and in the slices"
    assert {record["status"] for record in records_of(tmp_path)} == {"done"}
    files = {path.name for path in (tmp_path / "out").iterdir()}
    endings = {f"frontier{end}" for end in (".json", ".csv", ".md", "-mf.png", "-mf.svg")}
    assert files >= endings
    assert not list((tmp_path / "out/runs").iterdir()), "run folders are not kept"
    again, same, story = compare(capsys, spec)
    assert (again, same) == (0, table)
    assert "0 runs to train, 4 done before" in story
    plotted = compare(capsys, spec, "--plot-only", "--data", str(tmp_path / "gone"))
    assert plotted[:2] == (0, table)


def test_a_run_in_the_pool_scores_what_train_scores_alone(tmp_path):
    run = next(r for r in grid_of(tmp_path).runs if r.name == "mf popularity uniform:8 seed 1")
    config = replace(run.config, output=tmp_path / "alone")
    alone = launch(train, config, nproc=1, name="alone")
    job = Job(config=replace(config, output=tmp_path / "pooled"), keep=True)
    ((name, outcome),) = run_all({"it": job}, num_workers=3, threads=1, logs=tmp_path / "logs")
    assert (name, outcome["status"], outcome["test"]) == ("it", "done", alone.scores)
    assert (outcome["steps"], outcome["best_step"]) == (alone.steps, alone.best_step)
    assert (outcome["epochs"], outcome["threads"]) == (2, 1)
    assert len(outcome["widths"]["C3"]) == 2
    assert 0 < outcome["validation"]["mse"] != alone.scores["mse"]
    kept = json.loads((tmp_path / "pooled/result.json").read_text())
    assert kept["scores"] == alone.scores


def test_a_run_that_fails_stops_no_other_and_is_retried_on_demand(tmp_path, capsys):
    wild = '[recipes.wild]\npreset = "mf"\nepochs = 1\nmatmul = "mkl"\n'
    wild += "[recipes.wild.optimizer]\nsparse_lr = 1e30\n"
    path = write_spec(tmp_path, recipe=wild, top='metric = "rmse"')
    path.write_text(path.read_text().replace("seeds = [0, 1]", "seeds = [0]"))
    code, table, story = compare(capsys, path)
    assert code == 1
    # Either a step's loss or a prediction of the validation is the first that is no number.
    failed = r"failed: wild uniform uniform:8 seed 0: (NotANumber|FloatingPointError): "
    assert re.search(failed, story)
    by_recipe = {(r["recipe"], r["sizing"]): r["status"] for r in records_of(tmp_path)}
    assert by_recipe["mf", "uniform"] == by_recipe["mf", "popularity"] == "done"
    assert by_recipe["wild", "uniform"] == by_recipe["wild", "popularity"] == "failed"
    assert "## mf" in table and "## wild" not in table
    grid, records = expand(read_spec(path)), read_records(tmp_path / "out/runs.jsonl")
    left = to_do(grid, records, retry_failed=False)
    assert (len(left.runs), left.num_done, left.num_failed) == (0, 2, 2)
    assert len(to_do(grid, records, retry_failed=True).runs) == 2


def test_without_test_rows_all_is_scored_on_validation_and_called_so(tmp_path, capsys):
    write_data(tmp_path / "data", test=0)
    spec = write_spec(tmp_path, top='serve_as = ["int8"]\nslices = ["C3"]')
    code, table, _ = compare(capsys, spec, "--sizings", "uniform", "--seeds", "0")
    (record,) = records_of(tmp_path)
    assert (code, record["split"], record["test"]["num_rows"]) == (0, "validation", 200)
    assert "| validation mse ± sd (lower is better) |" in table and "test mse" not in table
    assert "| uniform, int8 | uniform:8 |" in table
    assert record["served"]["int8"]["test"]["num_rows"] == 200
    assert sum(of["num_rows"] for of in record["slices"]["C3"].values()) == 200
    assert ">validation MSE<" in (tmp_path / "out/frontier-mf.svg").read_text()


WARM = """
[warm_ups.wide]
dim = 16
[warm_ups.wild]
dim = 16
train = {optimizer = {sparse_lr = 1e30}}
[sizings.alike]
dim = 16
budgets = [""]
[sizings.warm]
train = {warm_start = "@wide"}
[sizings.hopeless]
train = {warm_start = "@wild"}
"""


def test_warm_ups_come_first_and_take_along_only_what_needs_them(tmp_path, capsys):
    path = write_spec(tmp_path, sizings=WARM)
    path.write_text(path.read_text().replace("seeds = [0, 1]", "seeds = [0]"))
    code, table, story = compare(capsys, path)
    assert code == 1
    assert "5 runs to train, 0 done before, 0 failed before; 2 warm-ups" in story
    assert "hopeless uniform:8 seed 0: its warm-up mf @wild seed 0 has failed" in story
    records = {record["sizing"]: record for record in records_of(tmp_path)}
    assert {name for name, r in records.items() if r["status"] == "failed"} == {"@wild", "hopeless"}
    assert records["warm"]["test"] != records["uniform"]["test"]
    assert records["warm"]["needs"] == [records["@wide"]["hash"]]
    assert records["alike"]["hash"] == records["@wide"]["hash"], "and its folder stays for warm"
    assert records["alike"]["seconds"] == records["@wide"]["seconds"], "it is trained but once"
    assert f" {records['alike']['seconds']:.1f} + {records['warm']['seconds']:.1f} |" in table
    assert "| @wide |" not in table
    again = compare(capsys, path)[2]
    assert "0 runs to train, 4 done before, 1 failed before; 0 warm-ups" in again


def test_a_part_is_trained_and_the_rest_can_follow(tmp_path, capsys):
    spec = write_spec(tmp_path)
    part = ("--recipes", "mf", "--sizings", "uniform", "--budgets", "uniform:8", "--seeds", "1")
    code, table, story = compare(capsys, spec, *part)
    assert code == 0
    assert "1 runs to train" in story
    assert [(r["sizing"], r["seed"]) for r in records_of(tmp_path)] == [("uniform", 1)]
    assert "popularity" not in table
    code, _, story = compare(capsys, spec, "--seeds", "7", "--dry-run")
    assert code == 2
    assert "--seeds 7: no run has it; seeds: 0, 1" in story
    code, _, story = compare(capsys, spec, "--parallel", "-1", "--dry-run")
    assert (code, "parallel=-1, expected 0 or more" in story) == (2, True)
    code, listed, _ = compare(capsys, spec, "--sizings", "uniform", "--dry-run")
    assert listed.endswith("2 runs, 1 done\n") and "popularity" not in listed


def test_a_dry_run_lists_bytes_and_trains_nothing(tmp_path, capsys):
    spec = write_spec(tmp_path)
    code, listed, _ = compare(capsys, spec, "--dry-run")
    assert code == 0
    assert f"{340 * 8:>12,} {340 * 8 * 8:>15,}  0/2" in listed
    assert listed.endswith("4 runs, 0 done\n")
    assert not (tmp_path / "out").exists()


def test_two_comparisons_never_write_into_one_folder(tmp_path, capsys):
    spec = write_spec(tmp_path)
    with RunFolder(tmp_path / "out").held():
        code, _, story = compare(capsys, spec)
    assert (code, (tmp_path / "out/runs.jsonl").exists()) == (2, False)
    assert "another training writes into" in story


def test_what_is_wrong_is_said_with_the_file_and_what_is_lost_with_its_line(tmp_path, capsys):
    spec = write_spec(tmp_path, top='slices = ["C9"]')
    assert f"{spec}: slices: 'C9' is not a field" in compare(capsys, spec)[2]
    spec.write_text(spec.read_text().replace("seeds = [0, 1]", "seeds = []"))
    assert f"{spec}: seeds: there are 0, expected at least 1" in compare(capsys, spec)[2]
    spec = write_spec(tmp_path, sizings=TOO_SMALL)
    append_record(tmp_path / "out/runs.jsonl", {"hash": "a", "status": "failed", "error": "b"})
    with (tmp_path / "out/runs.jsonl").open("a") as file:
        file.write('{"hash": "b"')
    code, _, story = compare(capsys, spec, "--sizings", "uniform", "--seeds", "0")
    assert (code, "runs.jsonl: line 2 cannot be read; its run counts as not done" in story) == (
        0,
        True,
    )
    assert "left out: mf small 100: budget of 100 bytes is too small" in story
    assert "here they are keys of the sizing" in story


def test_plotting_before_anything_ran_says_so(tmp_path, capsys):
    code, _, story = compare(capsys, write_spec(tmp_path), "--plot-only")
    assert code == 2
    assert "run the comparison without --plot-only" in story


def test_plotting_from_a_broken_file_names_it(tmp_path, capsys):
    spec = write_spec(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/grid.json").write_text("")
    code, _, story = compare(capsys, spec, "--plot-only")
    assert code == 2
    assert "out/grid.json: Expecting value" in story
    assert "run the comparison without --plot-only, which writes it anew" in story


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_stops_all_processes_and_leaves_checkpoints(number, tmp_path):
    spec = write_spec(tmp_path, recipe="patience = 10000\n")
    spec.write_text(spec.read_text().replace("epochs = 2", "epochs = 10000"))
    command = [sys.executable, "-m", "service", "compare", str(spec)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        runs = tmp_path / "out/runs"
        wait_until(lambda: len(list(runs.glob("*/checkpoints/step-*/progress.json"))) >= 1)
        children = [int(pid) for pid in children_of(process.pid)]
        process.send_signal(number)
        story = process.communicate(timeout=60)[1]
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert ("the same command goes on from here" in story) == (number != signal.SIGKILL)
    assert "Traceback" not in story
    assert not (tmp_path / "out/runs.jsonl").exists(), "a stopped run is neither done nor failed"
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    steps = [json.loads(p.read_text())["step"] for p in runs.glob("*/checkpoints/*/progress.json")]
    assert min(steps) > 0


def test_a_worker_that_is_killed_costs_its_run_alone(tmp_path):
    uniform = [r for r in grid_of(tmp_path, seeds=(0, 1, 2)).runs if r.sizing == "uniform"]
    jobs = {
        str(run.config.seed): Job(config=replace(run.config, output=tmp_path / run.digest))
        for run in uniform
    }
    ended = run_all(jobs, num_workers=1, threads=1, logs=tmp_path / "logs")
    assert next(ended)[1]["status"] == "done"
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    rest = dict(ended)
    assert [(name, rest[name]["status"]) for name in rest] == [("1", "failed"), ("2", "done")]
    assert "ended by SIGKILL" in rest["1"]["error"]
    assert rest["1"]["seconds"] == 0, "as every record says"
    assert not multiprocessing.active_children()


def test_a_stopped_run_ends_like_an_undisturbed_one(tmp_path):
    run = grid_of(tmp_path).runs[1]
    whole, half = (replace(run.config, output=tmp_path / n) for n in ("whole", "half"))
    # Leaves what a signal after the first epoch leaves.
    launch(train, replace(half, epochs=1), nproc=1, name="half")
    jobs = {"half": Job(config=replace(half, resume=True)), "whole": Job(config=whole)}
    ended = dict(run_all(jobs, num_workers=1, threads=1, logs=tmp_path / "logs"))
    assert ended["half"]["test"] == ended["whole"]["test"]
    assert ended["half"]["steps"] == ended["whole"]["steps"] == 32
    first = (tmp_path / "logs/worker-0.log").read_text().partition("run whole")[0]
    assert "step 32/32" in first and "validation at step 16:" not in first


def grid_of(folder: Path, seeds: tuple[int, ...] = (0, 1)) -> Grid:
    """The runs of the small comparison, their plans written."""
    grid = expand(replace(small_spec(folder), seeds=seeds))
    write_plans(grid)
    return grid


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_until(is_so, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
