"""One run and its artifacts, for all tests of what is served."""

from pathlib import Path

import pytest

from service.distributed import launch
from service.export.config import ExportConfig, Tolerances
from service.export.export import export
from service.serving.manifest import Manifest
from tests.service.serving.served_runs import ServedRun, make_run

WIDE = Tolerances(auc=0.2, log_loss=0.2)
"""The run is too short for its scores to mean anything; predictions are compared instead."""


def made(config: ExportConfig) -> Manifest:
    """Export as the command does."""
    return launch(export, config, nproc=1, name="export")


@pytest.fixture(scope="session")
def served_run(tmp_path_factory: pytest.TempPathFactory) -> ServedRun:
    return make_run(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def fp32(served_run: ServedRun) -> Path:
    """The artifact that keeps everything as it was trained."""
    output = served_run.config.output.parent / "fp32"
    made(ExportConfig(run=served_run.config.output, output=output, onnx=True, tolerance=WIDE))
    return output
