"""Trainings that searches share: one at a time, and once."""

import subprocess
import sys
import threading
from pathlib import Path

from service.search.shared import SharedStages
from tests.service.compare.specs import write_spec
from tests.service.compare.test_compare_command import compare, records_of

HOLDING = """
import sys, time
from pathlib import Path
from service.search.shared import SharedStages
with SharedStages(folder=Path(), locks=Path(sys.argv[1])).held("base"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_training_is_held_by_one_process_until_that_has_died(tmp_path):
    shared = SharedStages(folder=tmp_path / "stages", locks=tmp_path)
    held: list[Path] = []

    def wait() -> None:
        with shared.held("base") as folder:
            held.append(folder)

    waiting = threading.Thread(target=wait)
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            waiting.start()
            with shared.held("super-net"):
                waiting.join(0.5)
            assert not held, "but another one is free"
        finally:
            other.kill()
    waiting.join(60)
    assert held == [tmp_path / "stages" / "base"]


def test_searches_at_the_same_time_train_what_they_share_once(tmp_path, capsys):
    sizings = "[sizings.spectral]\nsearch = 'spectral'\nbudgets = ['uniform:8', 'uniform:4']\n"
    path = write_spec(tmp_path, sizings=sizings)
    flags = ("--sizings", "spectral", "--seeds", "0", "--parallel", "2")
    code, _, story = compare(capsys, path, *flags)
    assert (code, "2 runs to train" in story) == (0, True), story
    one, other = records_of(tmp_path)
    assert one["stages"][0]["name"] == "base"
    assert one["stages"][0] == other["stages"][0]
    logs = [log.read_text() for log in (tmp_path / "out/logs").iterdir()]
    assert [log.count("run ") for log in logs] == [1, 1], "each of two workers had one of them"
    assert sum("validation at step" in log.partition("stage base")[0] for log in logs) == 1
    assert not list((tmp_path / "out/stages").iterdir())
