"""What the workers of a comparison agree on."""

from models.layers import linear
from service.compare.worker import agreed_matmul


def test_all_runs_multiply_with_the_routine_that_the_first_has_measured(tmp_path, monkeypatch):
    measured = iter(["mkl", *["onednn"] * 99])
    monkeypatch.setattr(linear, "choose_matmul", lambda: next(measured))
    file = tmp_path / "matmul.txt"
    assert [agreed_matmul(file) for _ in range(3)] == ["mkl"] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["matmul.txt"]


def test_workers_that_measure_at_the_same_time_agree(tmp_path, monkeypatch):
    file = tmp_path / "matmul.txt"

    def slower() -> str:
        file.write_text("onednn")  # another worker's
        return "mkl"

    monkeypatch.setattr(linear, "choose_matmul", slower)
    assert agreed_matmul(file) == "onednn"
