"""How a process multiplies: the routine of fp32 products on CPUs, and TF32 on GPUs."""

from typing import Literal

import torch

from models.layers.linear import set_matmul
from service.config import TrainConfig
from service.distributed import Ranks
from service.run_folder import RUN_FILE, RunFolder


def set_arithmetic(config: TrainConfig, folder: RunFolder, ranks: Ranks) -> None:
    """Have all ranks multiply alike.

    Args:
        config: The run.
        folder: A run that is resumed goes on with the routine that is recorded here.
        ranks: The ranks, of whom the first one measures for all.

    Raises:
        ValueError: If TF32 is asked for where there is none.
    """
    if config.precision == "tf32" and ranks.device.type != "cuda":
        raise ValueError(
            f"precision='tf32' rounds products on GPUs, and this rank is on {ranks.device.type}; "
            f"use fp32 or bf16"
        )
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    matmul = matmul_of(config, folder) if config.resume else config.matmul
    set_matmul(ranks.from_first(lambda: set_matmul(matmul)))


def matmul_of(config: TrainConfig, folder: RunFolder) -> Literal["auto", "mkl", "onednn"]:
    """The routine to ask for: what is configured, or instead of ``auto`` what the run has used.

    Two routines round differently, and a measurement on a busy machine may favour the other one.
    """
    if config.matmul != "auto" or not (folder.path / RUN_FILE).is_file():
        return config.matmul
    used: Literal["auto", "mkl", "onednn"] = folder.read_run().get("matmul", "auto")
    return used
