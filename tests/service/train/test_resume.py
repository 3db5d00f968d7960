"""A killed and resumed run ends as the undisturbed one, to the last digit."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from service.config import TrainConfig
from service.distributed import launch
from service.train.loop import train
from service.train.report import Reporter
from tests.service.train.runs import make_run, sharded

ROOT = Path(__file__).parents[3]
TIMES = {"examples_per_second", "loader_wait_ratio"}


def command(config: TrainConfig, *flags: str, every: int = 7) -> list[str]:
    """The command line of a configuration of `make_run`."""
    return [
        *(sys.executable, "-m", "service", "train", "smoke", "--json"),
        *("--data", str(config.data), "--sizing", str(config.sizing)),
        *("--output", str(config.output), "--batch-size", str(config.batch_size)),
        *("--epochs", "2", "--max-steps", "0", "--matmul", "mkl", "--nproc", str(config.nproc)),
        *("--log-every", "5", "--checkpoint-every", str(every), "--network.dropout", "0.1", *flags),
    ]


def metrics_of(run: Path) -> list[dict[str, object]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in TIMES}
        for line in lines
    ]


def kill_when(path: Path, process: subprocess.Popen[str]) -> None:
    """SIGKILL to the whole process group as soon as a file exists."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def started(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.dist
@pytest.mark.parametrize("nproc", [1, 2])
def test_sigkill_and_resume_give_the_metrics_of_an_undisturbed_run(nproc, tmp_path):
    config = make_run(tmp_path, nproc=nproc, batch_size=128 // nproc)
    calm = replace(config, output=tmp_path / "calm")
    done = subprocess.run(command(calm), cwd=ROOT, capture_output=True, text=True, check=True)

    victim = started(command(config))
    kill_when(config.output / "checkpoints" / "step-00000021", victim)
    assert not (config.output / "result.json").exists()
    again = subprocess.run(
        command(config, "--resume"), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(again.stdout)["scores"] == json.loads(done.stdout)["scores"]
    assert metrics_of(config.output) == metrics_of(calm.output)


@pytest.mark.dist
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("nproc", [1, 2])
def test_a_signal_ends_soon_and_in_a_checkpoint(number, nproc, tmp_path):
    config = make_run(tmp_path, nproc=nproc, batch_size=4)
    process = started(command(config, every=0))
    log = ""
    while "step 10/" not in log:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line, log
        log += line
    # A terminal sends Ctrl-C to all processes; a scheduler sends SIGTERM to the first.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, rest = process.communicate(timeout=25)
    assert process.returncode == 128 + number, log + rest
    assert "go on with --resume" in rest
    assert "Traceback" not in rest
    assert list((config.output / "checkpoints").glob("step-????????/.metadata"))


def test_a_signal_on_a_validation_step_does_not_skip_the_validation(tmp_path, monkeypatch):
    config = make_run(tmp_path, max_steps=20, validate_every=10)

    class Interrupted(Reporter):
        def end_step(self, progress, loss, loader):
            super().end_step(progress, loss, loader)
            if progress.step == 10:
                signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("service.train.loop.Reporter", Interrupted)
        assert launch(train, config, nproc=1, name="stopped").stopped_by == "SIGTERM"
    launch(train, replace(config, resume=True), nproc=1, name="again")
    validated = [line["step"] for line in metrics_of(config.output) if line["kind"] == "validation"]
    assert validated == [10, 20]


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    config = make_run(tmp_path, max_steps=20, checkpoint_every=8)
    expected = launch(train, config, nproc=1, name="whole")
    newest = config.output / "checkpoints" / "step-00000020"
    (newest / ".metadata").unlink()
    again = launch(train, replace(config, resume=True), nproc=1, name="again")
    assert again.scores == expected.scores


def test_another_order_of_examples_is_refused_within_an_epoch(tmp_path):
    config = make_run(tmp_path, max_steps=10)
    launch(train, config, nproc=1, name="first")
    other = replace(config, resume=True, max_steps=20, batch_size=256)
    with pytest.raises(ValueError, match="global_batch_size=128, this job has 256"):
        launch(train, other, nproc=1, name="other")


def test_resuming_a_finished_run_trains_nothing_and_scores_the_same(tmp_path):
    config = make_run(tmp_path)
    first = launch(train, config, nproc=1, name="first")
    again = launch(train, replace(config, resume=True), nproc=1, name="again")
    assert (again.steps, again.scores) == (first.steps, first.scores)


@pytest.mark.dist
@pytest.mark.parametrize(
    ("kind", "optimizer"), [("row_wise", "rowwise_adagrad"), ("column_wise", "adagrad")]
)
def test_a_run_of_two_ranks_resumes_on_one_under_another_sharding_type(kind, optimizer, tmp_path):
    config = make_run(tmp_path, epochs=1, batch_size=64, nproc=2, **sharded(kind, optimizer))
    launch(train, config, nproc=2, name="two")
    alone = {"epochs": 2, "nproc": 1, "batch_size": 128, **sharded("table_wise", optimizer)}
    resumed = launch(train, replace(config, resume=True, **alone), nproc=1, name="one")
    straight = replace(config, output=tmp_path / "straight", **alone)
    expected = launch(train, straight, nproc=1, name="straight")
    assert resumed.steps == expected.steps
    assert resumed.scores == pytest.approx(expected.scores, abs=1e-4)


@pytest.mark.dist
def test_tables_without_optimizer_state_resume_on_more_ranks_and_sharded_anew(tmp_path):
    config = make_run(tmp_path, epochs=1, max_steps=4, **sharded("table_wise", "sgd"))
    launch(train, config, nproc=1, name="one")
    more = {"max_steps": 8, "nproc": 2, "batch_size": 64}
    more |= sharded("column_wise", "sgd")
    resumed = launch(train, replace(config, resume=True, **more), nproc=2, name="two")
    straight = replace(config, output=tmp_path / "straight", **more)
    expected = launch(train, straight, nproc=2, name="straight")
    assert resumed.steps == expected.steps
    assert resumed.scores == pytest.approx(expected.scores, abs=1e-4)


def test_a_checkpoint_of_another_model_is_refused_with_a_reason(tmp_path):
    config = make_run(tmp_path, max_steps=2)
    launch(train, config, nproc=1, name="first")
    other = replace(config, resume=True, max_steps=4, **sharded("table_wise", "adagrad"))
    with pytest.raises(ValueError, match=r"checkpoint .*step-00000002 does not fit this model"):
        launch(train, other, nproc=1, name="other")


def test_tables_of_another_size_are_refused_before_any_is_read(tmp_path, capsys):
    config = make_run(tmp_path, max_steps=2)
    launch(train, config, nproc=1, name="first")
    other = tmp_path / "other.json"
    other.write_text(config.sizing.read_text().replace('"embedding_dim": 4', '"embedding_dim": 16'))
    refused = (
        r"table 'C4': run .*/run has 500 rows of width 4 projected to 16, .*/other.json has "
        r"500 rows of width 16; .* give --sizing .*/run/sizing.json, or .* --resume-from .*/run"
    )
    with pytest.raises(ValueError, match=refused):
        launch(train, replace(config, sizing=other, resume=True), nproc=1, name="other")
    assert "averaged by columns" not in capsys.readouterr().err


def test_a_checkpoint_of_another_format_is_refused_by_its_version(tmp_path):
    config = make_run(tmp_path, max_steps=2)
    launch(train, config, nproc=1, name="first")
    path = config.output / "checkpoints" / "step-00000002" / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 1}))
    path.with_name("manifest.json").unlink()  # which came later
    with pytest.raises(ValueError, match="has format_version 1, this mixdim reads 2"):
        launch(train, replace(config, resume=True, max_steps=4), nproc=1, name="second")


def test_a_folder_in_use_is_refused_by_name(tmp_path):
    config = make_run(tmp_path, max_steps=2)
    launch(train, config, nproc=1, name="first")
    with pytest.raises(ValueError, match="is not empty; give --resume to go on"):
        launch(train, config, nproc=1, name="second")


def test_overwrite_deletes_a_run_and_nothing_else(tmp_path):
    config = make_run(tmp_path, max_steps=4)
    launch(train, config, nproc=1, name="first")
    (config.output / "notes.txt").write_text("mine")
    launch(train, replace(config, max_steps=2, overwrite=True), nproc=1, name="second")
    assert (config.output / "notes.txt").read_text() == "mine"
    assert [path.name for path in (config.output / "checkpoints").iterdir()] == ["step-00000002"]


def test_overwrite_spares_what_it_cannot_replace(tmp_path):
    config = make_run(tmp_path, max_steps=2)
    launch(train, config, nproc=1, name="first")
    own = replace(config, sizing=config.output / "sizing.json", overwrite=True)
    with pytest.raises(ValueError, match="lies in the run folder that --overwrite clears"):
        launch(train, own, nproc=1, name="own")
    sharded_adam = sharded("row_wise", "adam")
    faulty = replace(config, overwrite=True, **sharded_adam)
    with pytest.raises(ValueError, match="adam is not fused on cpu"):
        launch(train, faulty, nproc=1, name="faulty")
    assert (config.output / "result.json").exists()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "precious").touch()
    with pytest.raises(ValueError, match="holds no run, and --overwrite only deletes runs"):
        launch(train, replace(config, output=foreign, overwrite=True), nproc=1, name="foreign")
