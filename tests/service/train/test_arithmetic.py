"""Which arithmetic is asked of torch; TF32 itself takes a GPU."""

from types import SimpleNamespace

import pytest
import torch

from service.config import TrainConfig
from service.run_folder import RunFolder
from service.train.arithmetic import set_arithmetic


def on(device: str) -> SimpleNamespace:
    """A single rank."""
    return SimpleNamespace(device=torch.device(device), from_first=lambda make: make())


def test_tf32_is_asked_of_a_gpu_for_one_training_and_not_for_the_next(tmp_path):
    found = []
    for precision in ("tf32", "fp32", "tf32", "bf16"):
        set_arithmetic(
            TrainConfig(precision=precision, matmul="mkl"), RunFolder(tmp_path), on("cuda")
        )
        found.append(torch.get_float32_matmul_precision())
    assert found == ["high", "highest", "high", "highest"]


def test_tf32_is_refused_on_a_cpu(tmp_path):
    with pytest.raises(ValueError, match=r"rounds products on GPUs, .* on cpu; use fp32 or bf16"):
        set_arithmetic(TrainConfig(precision="tf32"), RunFolder(tmp_path), on("cpu"))
