"""``mixdim train --resume-from RUN``: what it says, refuses and goes on with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.networks import FMNetwork, NCFNetwork
from service.__main__ import main
from service.config import TrainConfig
from service.distributed import launch
from service.train.loop import train
from tests.service.resize.stored_runs import alone, resize, run_of, scores, store
from tests.service.train.test_resume import metrics_of
from tests.service.warm_runs import Sizes, make_data, uniform

RECUT: Sizes = {
    **uniform(4),
    "C1": [(10, 4, 0), (30, 4, 0)],
    "C3": [(1, 4, 0), (299, 4, 0)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a stopped run on it."""
    path = tmp_path_factory.mktemp("resume-from")
    make_data(path / "data")
    alone(store, old_run(path))
    return path


def old_run(folder: Path) -> TrainConfig:
    return run_of(folder, "old", uniform(4), 4, network=FMNetwork())


def arguments(config: TrainConfig) -> list[str]:
    return [
        *("train", "fm", "--data", str(config.data), "--sizing", str(config.sizing)),
        *("--output", str(config.output), "--pooling", "mean", "--matmul", "mkl"),
        *("--optimizer.sparse", "adagrad", "--batch-size", "128", "--log-every", "1"),
    ]


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1, "one clear line"
    return message


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_shows_every_table_and_writes_nothing(folder, capsys):
    sizes: Sizes = {"C1": [(10, 8, 0), (30, 4, 0)], "C2": [(7, 1, 0)], "C3": [(100, 4, 200)]}
    new = run_of(folder, "shown", sizes, 8, network=FMNetwork())
    before = files_of(folder)
    argv = [*arguments(new), "--resume-from", str(folder / "old"), "--dry-run"]
    assert main(argv) == 0
    shown = capsys.readouterr().out
    for words in ("widened", "narrowed, packed", "ids share rows", "field removed", "exactly"):
        assert words in shown
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    lines = {line["table"]: line for line in found["tables"]}
    assert lines["C1/1"]["projection"] == "from the old vectors"
    assert lines["C2"]["projection"] == "refit"
    assert lines["C2"]["kept_ratio"] < 1
    assert any("network.linear.weight 1 x 19 -> 1 x 27" in line for line in found["layers"])
    assert files_of(folder) == before


def test_a_run_goes_on_in_a_folder_of_its_own_and_is_resumed_there(folder):
    old, new = old_run(folder), run_of(folder, "new", RECUT, 4, network=FMNetwork())
    before = files_of(old.output)
    new = replace(new, resume_from=old.output, max_steps=9, patience=9)
    first = launch(train, new, nproc=1, name="first")
    assert first.steps == 9
    assert files_of(old.output) == before
    assert json.loads((new.output / "resize.json").read_text())["is_exact"]
    again = launch(train, replace(new, resume=True, max_steps=11), nproc=1, name="again")
    assert again.steps == 11
    further = run_of(folder, "further", uniform(8), 8, network=FMNetwork())
    alone(resize, replace(further, resume_from=new.output))
    assert alone(scores, further) == pytest.approx(alone(scores, new), abs=1e-6)


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "adagrad", "amsgrad"])
def test_cut_into_other_blocks_a_run_takes_the_steps_it_would_have_taken(optimizer, tmp_path):
    make_data(tmp_path / "data")

    def run(name: str, sizes: Sizes, **changes: object) -> TrainConfig:
        config = run_of(tmp_path, name, sizes, 4, network=FMNetwork(), optimizer=optimizer)
        config = replace(config, log_every=1, patience=9, **changes)
        launch(train, config, nproc=1, name=name)
        return config

    calm = run("calm", uniform(4), max_steps=8)
    stopped = run("stopped", uniform(4), max_steps=5)
    moved = run("moved", RECUT, max_steps=8, resume_from=stopped.output)
    expected, found = (
        [line for line in metrics_of(config.output) if line["kind"] == "train"][-3:]
        for config in (calm, moved)
    )
    assert [line["step"] for line in found] == [6, 7, 8]
    for line, other in zip(found, expected, strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=2e-6)


def test_what_cannot_go_on_is_refused_in_one_line(folder, capsys):
    new = run_of(folder, "refused", RECUT, 4, network=FMNetwork())
    flags = ["--resume-from", str(folder / "old")]
    nowhere = ["--resume-from", str(folder / "nowhere")]
    dry = arguments(new)
    assert "name it: --resume-from RUN" in error_of(capsys, *dry, "--dry-run")
    assert "nowhere holds no run.json" in error_of(capsys, *dry, *nowhere, "--dry-run")
    ncf = ["train", "ncf", *dry[2:], *flags]
    assert "network.kind=fm, this one has ncf" in error_of(capsys, *ncf)
    pooled = [*dry, *flags, "--pooling", "sum"]
    assert "give --pooling mean" in error_of(capsys, *pooled)
    warm = [*dry, *flags, "--warm-start", str(folder / "old")]
    assert "give one of them" in error_of(capsys, *warm)
    own = [*dry, "--resume-from", str(new.output)]
    assert "give another --output" in error_of(capsys, *own)
    narrow = arguments(run_of(folder, "narrow", uniform(2), 4, network=FMNetwork()))
    for path in (folder / "data" / "vocab").iterdir():
        path.rename(path.with_suffix(".away"))
    message = error_of(capsys, *narrow, *flags)
    assert "holds no vocab/C1.parquet" in message
    for path in (folder / "data" / "vocab").iterdir():
        path.rename(path.with_suffix(".parquet"))
    assert not new.output.exists()


def test_a_plain_resume_never_reshapes_a_run_and_names_the_way(folder, capsys):
    wide = run_of(folder, "wide", uniform(8), 8, network=FMNetwork())
    argv = [*arguments(replace(wide, output=folder / "old")), "--resume"]
    assert "in a folder of its own: --resume-from" in error_of(capsys, *argv)


def test_another_network_of_the_same_kind_is_refused(folder):
    old = run_of(folder, "ncf", uniform(4), 4, network=NCFNetwork(hidden=(8,)))
    alone(store, old)
    new = run_of(folder, "ncf-new", uniform(4), 4, network=NCFNetwork(hidden=(16,)))
    with pytest.raises(ValueError, match=r"network.hidden=\(8,\), this one has \(16,\)"):
        alone(resize, replace(new, resume_from=old.output))
