"""Options of the benchmark of checkpoints, readable without torch."""

from dataclasses import dataclass, field
from pathlib import Path

from service.bench.harness import RaceConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """Race saving and loading checkpoints against the disk."""

    mebibytes: tuple[int, ...] = (64, 512, 2048)
    """Bytes of the tables' weights, by run."""

    folder: Path = Path("runs")
    """Where the checkpoints are written, on the disk that is measured; removed afterwards."""

    threads: int = 1
    """Threads that train meanwhile."""

    race: RaceConfig = field(default_factory=RaceConfig)
    """Repeats, and patience with other users of the machine."""

    def __post_init__(self) -> None:
        if not self.mebibytes or min(self.mebibytes) < 1 or self.threads < 1:
            raise ValueError(
                f"mebibytes={self.mebibytes}, threads={self.threads}; expected sizes and threads "
                f"of at least 1"
            )
