"""How a run ended, as result.json has it."""

from dataclasses import dataclass

from service.data.dataset import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """How a run ended."""

    steps: int
    best_step: int
    """Step of the checkpoint that validated best."""
    split: Split
    """Split that the scores are of."""
    scores: dict[str, float]
    """Scores of the best checkpoint; empty when the run was stopped."""
    examples_per_second: float
    """Over all ranks, loading included; validations and checkpoints are not."""
    stopped_by: str | None = None
    """Signal that ended the run early; it can be resumed."""
    rank: int = 0
    """The rank that says so."""
    warnings: tuple[str, ...] = ()
    """What somebody should look at: damaged checkpoints."""
