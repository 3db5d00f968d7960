"""Where a run stands: `progress.json` of a checkpoint."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

PROGRESS_FILE: Final = "progress.json"

FORMAT_VERSION: Final = 2
"""2: the tables' optimizer state has one set of names, whatever the kernel."""


@dataclass(kw_only=True, slots=True)
class Progress:
    """Where a run stands; everything besides weights that a resumed run needs."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    batch: int = 0
    """Global batches of this epoch that are done."""
    best_score: float = float("-inf")
    """Best headline figure of a validation so far; larger is better."""
    best_step: int = -1
    num_worse: int = 0
    """Validations since the best one."""
    num_examples: int = 0
    """Examples that weights have learned from."""
    num_architecture_examples: int = 0
    """Examples that an architecture has learned from, in steps of its own."""
    validated_step: int = -1
    """Step of the last validation."""
    order: dict[str, Any] = field(default_factory=dict)
    """What decides which examples a batch number means."""
    lr_ratio: float = 1.0
    """Learning rates now over those of the configuration."""
    num_skipped: int = 0
    """Batches passed over because the loss was not a number; each has halved the rates."""
    scheduler: dict[str, Any] = field(default_factory=dict)
    """State of the learning rate's scheduler."""
    world_size: int = 0
    """Ranks that wrote the checkpoint."""


def write_progress(progress: Progress, checkpoint: Path) -> None:
    """Write ``progress.json`` into a checkpoint's folder."""
    record = {"format_version": FORMAT_VERSION, **asdict(progress)}
    (checkpoint / PROGRESS_FILE).write_text(json.dumps(record) + "\n")


def read_progress(checkpoint: Path) -> Progress:
    """Read ``progress.json`` of a checkpoint.

    Raises:
        ValueError: If another version has written the checkpoint.
    """
    record = json.loads((checkpoint / PROGRESS_FILE).read_text())
    version = record.pop("format_version", 1)
    if version != FORMAT_VERSION:
        raise ValueError(
            f"checkpoint {checkpoint} has format_version {version}, this mixdim reads "
            f"{FORMAT_VERSION}; finish the run with the version that began it (run.json names "
            f"it), or train anew with another --output"
        )
    return Progress(**record)
