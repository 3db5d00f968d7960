"""Datasets that take another's place: whoever looks finds the old one or the new one, whole."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.data.ingest import staging

WRITER = """
import json, sys
from pathlib import Path
from service.data.ingest.staging import staged_folder
output, times, mark = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
for turn in range(times):
    with staged_folder(output, overwrite=True) as folder:
        (folder / "part").write_text(f"{mark}{turn}")
        (folder / "dataset.json").write_text(json.dumps({"part": f"{mark}{turn}"}))
    print(turn, flush=True)
"""


def writer(output: Path, times: int, mark: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(output), str(times), mark]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def written(output: Path) -> str:
    """What a dataset says of its part, after a look at whether that is so."""
    said = str(json.loads((output / "dataset.json").read_text())["part"])
    assert (output / "part").read_text() == said
    return said


def test_a_reader_finds_a_dataset_at_every_moment_of_an_overwrite(tmp_path: Path) -> None:
    output = tmp_path / "data"
    process = writer(output, 400, "a")
    assert process.stdout is not None and process.stdout.readline() == "0\n"
    looks = 0
    while process.poll() is None:
        assert (output / "dataset.json").is_file()
        looks += 1
    process.communicate()
    assert looks > 1000 and written(output) == "a399"


def test_an_overwrite_that_is_killed_leaves_the_old_dataset_or_the_new_one(tmp_path: Path) -> None:
    output = tmp_path / "data"
    for turn in range(4):
        process = writer(output, 100_000, f"{turn}-")
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.017 * turn)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert written(output).startswith(f"{turn}-")


def test_two_that_overwrite_one_dataset_at_the_same_time_leave_one_of_theirs(
    tmp_path: Path,
) -> None:
    output = tmp_path / "data"
    writers = [writer(output, 300, mark) for mark in "ab"]
    assert [(process.communicate(), process.returncode)[1] for process in writers] == [0, 0]
    assert written(output) in ("a299", "b299")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_second_that_makes_a_dataset_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "data"
    with (
        pytest.raises(FileExistsError, match="data exists; choose another --output or add"),
        staging.staged_folder(output, overwrite=False) as second,
    ):
        (second / "dataset.json").write_text('{"part": "second"}')
        with staging.staged_folder(output, overwrite=False) as first:
            (first / "part").write_text("first")
            (first / "dataset.json").write_text('{"part": "first"}')
    assert written(output) == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_without_an_exchange_of_names_two_renames_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(staging, "_exchange", lambda *_: False)
    output = tmp_path / "data"
    for turn in "ab":
        with staging.staged_folder(output, overwrite=True) as folder:
            (folder / "part").write_text(turn)
            (folder / "dataset.json").write_text(json.dumps({"part": turn}))
    assert written(output) == "b"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
