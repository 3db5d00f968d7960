"""Learning rates over a run: down when validation says so, or along a curve that is known ahead."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from service.checkpoint import Progress
from service.config import OptimizerConfig, Schedule

CURVES: Final[dict[Schedule, Callable[[float], float]]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda _done: 1.0,
}
"""Share of the configured rates by the share of the run's steps that are done."""
SKIPPED: Final = 0.5
"""What a batch that is passed over multiplies all rates with."""


class Rates:
    """The schedule of all learning rates, tables' and others'.

    Args:
        optimizer: Whose rates; as configured, whatever the progress.
        config: Which schedule.
        progress: Where the run stands; its rates are taken up.
        total_steps: Steps of a run that does not stop early.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        config: OptimizerConfig,
        progress: Progress,
        *,
        total_steps: int,
    ) -> None:
        self._optimizer, self._config, self._total_steps = optimizer, config, max(total_steps, 1)
        self._groups: list[dict[str, Any]] = optimizer.param_groups
        for group in self._groups:
            group["initial_lr"] = group["lr"]
        self._curve: LambdaLR | None = None
        self._plateau: ReduceLROnPlateau | None = None
        self.take_up(progress)

    def take_up(self, progress: Progress) -> None:
        """Set the rates of a position."""
        for group in self._groups:
            group["lr"] = group["initial_lr"]
        if self._config.schedule == "plateau":
            self._plateau = _plateau(self._optimizer, self._config)
            if progress.scheduler:
                self._plateau.load_state_dict(progress.scheduler)
            for group in self._groups:
                group["lr"] *= progress.lr_ratio
        else:
            highest = SKIPPED**progress.num_skipped
            rate = partial(_share, CURVES[self._config.schedule], self._total_steps, highest)
            self._curve = LambdaLR(self._optimizer, rate, last_epoch=progress.step - 1)

    def step(self) -> None:
        """Go on along the curve, where there is one; after every step of the optimizer."""
        if self._curve is not None:
            self._curve.step()

    def judge(self, score: float, progress: Progress) -> None:
        """Drop the rates if a validation's score, larger is better, has not improved."""
        if self._plateau is not None:
            self._plateau.step(score)
            progress.scheduler = self._plateau.state_dict()
        progress.lr_ratio = self._groups[-1]["lr"] / self._groups[-1]["initial_lr"]


def _plateau(optimizer: Optimizer, config: OptimizerConfig) -> ReduceLROnPlateau:
    return ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=config.plateau_factor,
        patience=config.plateau_patience,
        threshold=0.0,
        eps=0.0,
    )


def _share(curve: Callable[[float], float], total_steps: int, highest: float, step: int) -> float:
    return highest * curve(min(step / total_steps, 1.0))
