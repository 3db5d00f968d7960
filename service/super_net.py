"""A finished AutoDim super-net as plans start from it: the first columns of its shared tables."""

# Shapes:  D width of the tables, d_n width of a candidate

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models.layers.batch_norm import EPSILON
from models.search.autodim import unit_length
from models.sizing.spectral import Floats
from service.checkpoint import last_checkpoint
from service.run_folder import RunFolder
from service.warm_up import EMBEDDINGS, WarmUp


class SuperNet(WarmUp):
    """The shared tables, layers and matrices at the end of a super-net's training.

    Its vectors are the tables' rows, of which a plan takes the first columns (``warm_columns``).
    What the network has seen of the first ``d_n`` is ``x_n W_n / sigma_n`` times `unit_length`, up
    to a shift that all ids have in common.

    Args:
        folder: The run.

    Raises:
        FileNotFoundError: If the folder holds no run, or the run left no checkpoint.
        ValueError: If candidates have tables of their own.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, last_checkpoint(RunFolder(folder).checkpoints))

    def _check_kind(self) -> None:
        """Refuse a run without shared tables."""
        choice = self.config.embeddings
        if choice.kind != "autodim" or choice.tables != "shared":
            raise ValueError(
                f"run {self.folder} has a table for every candidate, and plans start from the "
                f"first columns of shared ones; search with tables 'shared', or train anew"
            )

    @property
    def lifts(self) -> Mapping[int, Floats]:
        """By width ``d_n``, what makes of its columns what the network has seen, ``(d_n, D)``."""
        choice = self.config.embeddings
        assert choice.kind == "autodim"
        widths, out_dim = choice.candidates, choice.candidates[-1]
        length = unit_length(len(self.plan.fields), out_dim)
        variance = self.stored.read(f"{EMBEDDINGS}mixture.variance")
        scales = length / np.sqrt(variance + EPSILON)  # (N, D)
        if choice.unify == "pad":
            matrices = [np.eye(width, out_dim) for width in widths]
        else:
            under_each_other = self.stored.read(f"{EMBEDDINGS}mixture.unify").astype(np.float64)
            matrices = np.split(under_each_other, np.cumsum(widths)[:-1])
        return {
            width: scale * matrix
            for width, scale, matrix in zip(widths, scales, matrices, strict=True)
        }


def is_super_net(folder: Path) -> bool:
    """Whether a run is the training of a super-net."""
    return RunFolder(folder).read_config().embeddings.kind == "autodim"
