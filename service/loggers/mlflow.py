"""A run's settings and figures in MLflow, one MLflow run for all starts of a run folder."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from service.adapters import adapter_of
from service.config import TrainConfig
from service.loggers.base import Record, figures
from service.run_folder import MLFLOW_FILE, RunFolder

EXPERIMENT: Final = "mixdim"
FOLDER: Final = "mlruns"
MOST_METRICS: Final = 1000
"""Of one request."""
MOST_PARAMS: Final = 100
MOST_LETTERS: Final = 500
"""Of a parameter's value."""


class MLflowLogger:
    """Passes lines on to what MLFLOW_TRACKING_URI names, or to ``mlruns`` beside the run folder.

    MLflow forgets no point, so what it has is asked for first, and lines that are there are not
    sent again: a resumed run repeats them to the last digit.

    Args:
        config: The run; what it is set to becomes parameters.
        folder: Its folder, whose name is the run's.

    Raises:
        OSError: If MLflow does not answer, or refuses.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or _folder_beside(folder)
        try:
            self._client = MlflowClient(tracking_uri=uri)
            known = _known(folder, uri) if config.resume else None
            self._run_id = known or self._begin(config, folder)
            folder.write_json(MLFLOW_FILE, {"run_id": self._run_id, "tracking_uri": uri})
            self._last = self._last_steps()
            self._client.set_terminated(self._run_id, "RUNNING")
        except MlflowException as error:
            raise OSError(f"MLflow at {uri}: {error}") from error

    def log(self, records: Sequence[Record]) -> None:
        """Send the figures that MLflow has not.

        Raises:
            OSError: If MLflow does not take them.
        """
        now = int(time.time() * 1000)
        new = [
            Metric(name, value, now, record["step"])
            for record in records
            for name, value in figures(record).items()
            if record["step"] > self._last.get(name, -1)
        ]
        try:
            for first in range(0, len(new), MOST_METRICS):
                self._client.log_batch(self._run_id, metrics=new[first : first + MOST_METRICS])
                for metric in new[first : first + MOST_METRICS]:
                    self._last[metric.key] = metric.step
        except MlflowException as error:
            raise OSError(f"MLflow: {error}") from error

    def close(self, *, has_failed: bool) -> None:
        """Say how the run has ended.

        Raises:
            OSError: If MLflow does not take it.
        """
        try:
            self._client.set_terminated(self._run_id, "FAILED" if has_failed else "FINISHED")
        except MlflowException as error:
            raise OSError(f"MLflow: {error}") from error

    def _begin(self, config: TrainConfig, folder: RunFolder) -> str:
        """A new MLflow run, with what the run is set to."""
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        number = (
            experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        )
        tags = {"mlflow.runName": folder.path.name, "mixdim.folder": str(folder.path.resolve())}
        run_id: str = self._client.create_run(number, tags=tags).info.run_id
        settings = adapter_of(TrainConfig).dump_python(config, mode="json")
        params = [Param(name, str(value)[:MOST_LETTERS]) for name, value in _flat(settings)]
        for first in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(run_id, params=params[first : first + MOST_PARAMS])
        return run_id

    def _last_steps(self) -> dict[str, int]:
        """The last step that MLflow has of every figure."""
        names = self._client.get_run(self._run_id).data.metrics
        return {
            name: max(metric.step for metric in self._client.get_metric_history(self._run_id, name))
            for name in names
        }


def _folder_beside(folder: RunFolder) -> str:
    """A folder of MLflow's, which it asks to be allowed; a database takes it minutes to make."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return (folder.path.resolve().parent / FOLDER).as_uri()


def _known(folder: RunFolder, uri: str) -> str | None:
    """The MLflow run that an earlier start has begun at the same place."""
    path = folder.path / MLFLOW_FILE
    if not path.is_file():
        return None
    before: dict[str, str] = json.loads(path.read_text())
    return before["run_id"] if before["tracking_uri"] == uri else None


def _flat(settings: Mapping[str, Any], *place: str) -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names, as flags have them."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, *place, name)
        else:
            yield ".".join([*place, name]), value
