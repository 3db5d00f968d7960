"""What the workers of a comparison agree on."""

import pytest

from models.layers import linear
from service.compare import worker
from service.compare.worker import Job, agreed_matmul
from service.config import TrainConfig


def test_all_runs_multiply_with_the_routine_that_the_first_has_measured(tmp_path, monkeypatch):
    measured = iter(["mkl", *["onednn"] * 99])
    monkeypatch.setattr(linear, "choose_matmul", lambda: next(measured))
    file = tmp_path / "matmul.txt"
    assert [agreed_matmul(file) for _ in range(3)] == ["mkl"] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["matmul.txt"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("widths of 7; try 8"), "widths of 7; try 8"),
        (FileNotFoundError("data is gone"), "data is gone"),
        (KeyError("C1"), "KeyError: 'C1'"),
    ],
)
def test_what_is_expected_to_go_wrong_is_said_without_a_class(error, said, tmp_path, monkeypatch):
    def fail(_job: Job) -> None:
        raise error

    monkeypatch.setattr(worker, "_train", fail)
    outcome = worker.answer(Job(config=TrainConfig(output=tmp_path / "run")))
    assert (outcome["status"], outcome["error"]) == ("failed", said)


def test_workers_that_measure_at_the_same_time_agree(tmp_path, monkeypatch):
    file = tmp_path / "matmul.txt"

    def slower() -> str:
        file.write_text("onednn")  # another worker's
        return "mkl"

    monkeypatch.setattr(linear, "choose_matmul", slower)
    assert agreed_matmul(file) == "onednn"
