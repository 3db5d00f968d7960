"""Checkpoints written and chosen by ranks that stay alive; importable by spawned processes."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from service.checkpoint import Checkpoints, Progress
from service.config import TrainConfig
from service.distributed import Ranks, joined_ranks
from tests.service.train.resumes import Run, Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of three checkpoints: at rest, changed right after, and damaged on one rank."""

    sums_at_rest: dict[str, float]
    """Sum of the local weights by name when the second checkpoint began."""
    sums_loaded: dict[str, float]
    """What the second checkpoint gave back, though the weights had changed at once."""
    drawn: list[float]
    """Random numbers drawn after the second checkpoint had begun."""
    drawn_again: list[float]
    """And after it had been loaded."""
    chosen: list[str]
    """The newest whole checkpoint after each damage, as this rank sees it."""
    problems: list[str]
    """Why the others were passed over, as this rank sees it."""


def save_and_damage(config: TrainConfig, shape: Shape) -> list[Outcome]:
    """Two checkpoints, the second beside changes; then the second and the first are damaged."""
    with joined_ranks("cpu") as ranks:
        run = Run(config, shape, ranks, done=0)
        run.steps(2)
        folder = config.output / "checkpoints"
        with Checkpoints(folder, ranks, keep=3, copies=[config.sizing]) as checkpoints:
            outcome = _outcome(run, checkpoints, folder, ranks)
        return ranks.gather(outcome)


def _outcome(run: Run, checkpoints: Checkpoints, folder: Path, ranks: Ranks) -> Outcome:
    model, optimizer = run.engine.model, run.engine.optimizer
    progress = Progress(step=1)
    checkpoints.save(model, optimizer, progress)
    at_rest = _sums(model)
    progress.step = 2
    checkpoints.begin(model, optimizer, progress)
    progress.step = 99
    with torch.no_grad():
        for tensor in _local_tensors(model).values():
            tensor.fill_(7.0)
    drawn = _drawn()
    checkpoints.finish()
    assert checkpoints.load(model, optimizer, folder / "step-00000002").step == 2
    loaded, again = _sums(model), _drawn()
    chosen, problems = [], []
    for step in (2, 1):
        chosen.append(_name(checkpoints))
        if ranks.is_first:
            file = folder / f"step-{step:08d}" / f"__{ranks.world_size - 1}_0.distcp"
            flip_a_bit(file)
        ranks.any(False)
        if step == 2:
            chosen.append(_name(checkpoints))
            problems += checkpoints.problems.values()
    try:
        checkpoints.last()
    except ValueError as error:
        problems.append(str(error))
    return Outcome(
        sums_at_rest=at_rest,
        sums_loaded=loaded,
        drawn=drawn,
        drawn_again=again,
        chosen=chosen,
        problems=problems,
    )


def flip_a_bit(file: Path) -> None:
    """Of the byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _name(checkpoints: Checkpoints) -> str:
    path = checkpoints.last()
    assert path is not None
    return path.name


def _drawn() -> list[float]:
    return [float(torch.rand(())), float(np.random.rand()), random.random()]


def _sums(model: torch.nn.Module) -> dict[str, float]:
    return {name: float(tensor.sum()) for name, tensor in _local_tensors(model).items()}


def _local_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, value in model.state_dict().items():
        shards = value.local_shards() if hasattr(value, "local_shards") else None
        if shards is None:
            tensors[name] = value
        else:
            tensors |= {f"{name}.{i}": shard.tensor for i, shard in enumerate(shards)}
    return tensors
