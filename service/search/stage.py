"""A training that a search needs: begun, gone on with, or looked up where it has ended."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from service.config import TrainConfig
from service.peak_memory import PeakMemory
from service.run_cost import own_cost
from service.run_folder import METRICS_FILE, RESULT_FILE, RunFolder, without_nan
from service.stop import Stopped

if TYPE_CHECKING:
    from service.train.result import TrainResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What a finished stage cost and found, as ``stages/NAME.json`` has it."""

    name: str
    folder: Path
    """Run folder; a measurement has none."""
    examples: int = 0
    """Examples that it was trained on, or that were measured."""
    seconds: float = 0.0
    """Of training, loading included, validations and checkpoints not; or of measuring."""
    peak_memory_bytes: int | None = None
    """Most memory of the first rank, with torch and its libraries; None where unknown."""
    own_memory_bytes: int | None = None
    """The same above what the rank held when the stage began."""
    validation: dict[str, float | None] = field(default_factory=dict)
    """Scores of the best checkpoint."""
    test: dict[str, float | None] = field(default_factory=dict)
    found: Any = None
    """What a measurement came to."""

    @property
    def score(self) -> float:
        """How well it validates, more is better: what early stopping goes by.

        Raises:
            ValueError: If it was never validated.
        """
        for name, sign in (("auc", 1.0), ("log_loss", -1.0), ("mse", -1.0)):
            if (value := self.validation.get(name)) is not None:
                return sign * value
        raise ValueError(
            f"stage {self.name!r} has no scores of a validation split; look into {self.folder}"
        )


_ADAPTER: Final = TypeAdapter(Stage)


def read_stage(path: Path) -> Stage:
    """Read what a finished stage has left; the search's folder may have moved since."""
    return replace(_ADAPTER.validate_json(path.read_bytes()), folder=path.with_suffix(""))


def write_stage(stage: Stage, path: Path) -> None:
    """Write it in one move."""
    RunFolder(path.parent).write_json(path.name, _ADAPTER.dump_python(stage, mode="json"))


def train_stage(name: str, config: TrainConfig) -> Stage:
    """Train a stage to its end, from wherever it was left.

    Args:
        name: The stage's.
        config: Its training; the output is the stage's own run folder.

    Raises:
        Stopped: If somebody said stop; there is a checkpoint.
        ValueError: What the training refuses; `PlanError` and `JobError` likewise.
    """
    trained = None
    if not (config.output / RESULT_FILE).is_file():
        from service.distributed import launch  # takes seconds, which a finished stage spares

        config = replace(config, resume=True, overwrite=False)
        restarts = {"max_restarts": config.max_restarts}
        trained = launch(_train, config, nproc=config.nproc, name="mixdim-search", **restarts)
        if trained.stopped_by:
            raise Stopped(Signals[trained.stopped_by])
    return _finished(name, config.output, trained)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trained:
    """What a rank says that has trained."""

    stopped_by: str | None
    peak_memory_bytes: int | None
    own_memory_bytes: int | None


def _train(config: TrainConfig) -> _Trained:
    from service.train.loop import train

    peak = PeakMemory()
    result: TrainResult = train(config)
    return _Trained(
        stopped_by=result.stopped_by,
        peak_memory_bytes=peak.total_bytes,
        own_memory_bytes=peak.own_bytes,
    )


def _finished(name: str, folder: Path, trained: _Trained | None) -> Stage:
    """What a run's files say of it, and its rank if it has trained just now."""
    result = json.loads((folder / RESULT_FILE).read_text())
    lines = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    scored = [line for line in lines if line["kind"] == "validation"]
    best: dict[str, Any] = {}
    for line in scored:
        best = line if line["step"] == result["best_step"] else best
    cost = own_cost(folder)
    return Stage(
        name=name,
        folder=folder,
        examples=cost.examples,
        seconds=cost.seconds,
        peak_memory_bytes=trained.peak_memory_bytes if trained else None,
        own_memory_bytes=trained.own_memory_bytes if trained else None,
        validation={key: best[key] for key in result["scores"] if key in best},
        test=dict(without_nan(result["scores"])) if result["split"] == "test" else {},
    )


def as_json(stage: Stage) -> dict[str, Any]:
    """A stage as the search's record has it."""
    content = asdict(stage) | {"folder": stage.folder.name}
    del content["found"]
    return content
