"""What an export is asked to be."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from models.sizing import ServingDtype
from service.data.dataset import Split, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerances:
    """Largest gaps between an artifact's scores and its run's."""

    auc: float = 0.001
    """Of the area under the ROC curve."""

    log_loss: float = 0.001
    """Of the mean negative log likelihood of clicks, in nats."""

    mse: float = 0.005
    """Of the mean squared error of ratings."""

    def __post_init__(self) -> None:
        for name in ("auc", "log_loss", "mse"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"tolerance {name}={value}, expected 0 or more; try 0.001")

    def of(self, task: Task) -> dict[str, float]:
        """The gaps that count for a task."""
        if task == "rating":
            return {"mse": self.mse}
        return {"auc": self.auc, "log_loss": self.log_loss}


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Make an artifact of a run: a folder that scores raw rows without the training stack."""

    run: tyro.conf.Positional[Path]
    """Run folder written by ``mixdim train``."""

    output: Path
    """Folder to make; it appears when it is complete and its scores are those of the run."""

    dtype: ServingDtype = "fp32"
    """What weights of tables are stored as; everything else stays fp32."""

    fold_projections: bool = False
    """Multiply narrow tables by their projections before they are stored: more bytes, fewer
    products a prediction."""

    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""

    data: Path | None = None
    """Dataset folder; the one that was trained on by default."""

    split: Split = "test"
    """Split whose scores decide whether the artifact is let through."""

    tolerance: Tolerances = field(default_factory=Tolerances)
    """Largest gaps between the artifact's scores and the run's."""

    onnx: bool = False
    """Write the program for ONNX runtimes, too; needs the extra ``onnx``."""

    overwrite: bool = False
    """Replace the artifact that ``output`` holds."""
