"""The run folder: what a training leaves behind, readable without us.

RUN/run.json          configuration, plan, versions, git commit, hash of the data
RUN/sizing.json       the sizing plan that was trained
RUN/sharding.json     where every table lived
RUN/metrics.jsonl     one line per log interval and validation
RUN/checkpoints/      see service.checkpoint
RUN/resize.json       what became of the tables of the run that it goes on from
RUN/tensorboard/      the figures of metrics.jsonl for TensorBoard, where they were asked for
RUN/mlflow.json       which of MLflow's runs has them, likewise
RUN/result.json       final scores; there when the run ended by itself
"""

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.adapters import adapter_of
from service.config import TrainConfig
from service.data.dataset import DATASET_FILE
from service.first_fault import first_fault
from service.job import job_id, num_restarts

RUN_FILE = "run.json"
SIZING_FILE = "sizing.json"
SHARDING_FILE = "sharding.json"
METRICS_FILE = "metrics.jsonl"
RESIZE_FILE = "resize.json"
RESULT_FILE = "result.json"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
MLFLOW_FILE = "mlflow.json"
DRAFT = ".draft"
"""End of the name of a file that is being written."""

PACKAGES = ("mixdim", "torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "pyarrow", "numpy")


class RunFolder:
    """The files of one run; only the first rank writes them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / CHECKPOINTS

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep other trainings out of it; nothing is left of one unused.

        Raises:
            ValueError: If another training writes into it.
        """
        was_there = self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            if _is_taken(folder) and not num_restarts():  # by ranks of ours that are still dying
                raise ValueError(
                    f"another training writes into {self.path}; wait for its end, stop it, or give "
                    f"another --output"
                )
            yield
        finally:
            if not was_there:
                with suppress(OSError):  # it is not empty: the training has begun
                    self.path.rmdir()
            os.close(folder)

    def check(self, config: TrainConfig) -> TrainConfig:
        """Refuse a folder that holds another run, and flags that would delete what is needed.

        Returns:
            The configuration to go by: a job that was started again goes on with its own run.

        Raises:
            ValueError: If the folder is in use and neither --resume nor --overwrite is given, is
                no run's, or holds a plan that --overwrite would delete.
        """
        if num_restarts() and self._is_claimed():
            return replace(config, resume=True, overwrite=False)
        if config.resume or not self._is_in_use():
            return config
        if not config.overwrite:
            raise ValueError(
                f"{self.path} is not empty; give --resume to go on with the run in it, "
                f"--overwrite to delete it, or another --output"
            )
        if not (self.path / RUN_FILE).is_file() or "config" not in self.read_run():
            raise ValueError(
                f"{self.path} is not empty and holds no run, and --overwrite only deletes runs; "
                f"give another --output"
            )
        for plan in (config.sizing, config.plan):
            if plan is not None and plan.resolve().parent == self.path.resolve():
                raise ValueError(
                    f"{plan} lies in the run folder that --overwrite clears; copy it elsewhere, or "
                    f"give another --output"
                )
        return config

    def _is_in_use(self) -> bool:
        names = [path.name for path in self.path.iterdir()] if self.path.exists() else []
        return any(not name.endswith(DRAFT) for name in names)  # what was being written is nobody's

    def _is_claimed(self) -> bool:
        """Whether the run in this folder was begun by this job."""
        return (self.path / RUN_FILE).is_file() and self.read_run().get("job") == job_id()

    def make_ready(self, config: TrainConfig, *, last_step: int, last_validated: int) -> None:
        """Make the folder, and drop what an older run, or later steps of this one, left."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / RESULT_FILE).unlink(missing_ok=True)
        if config.resume:
            self._forget_metrics_after({"train": last_step, "validation": last_validated})
            return
        shutil.rmtree(self.path / TENSORBOARD, ignore_errors=True)
        for name in (SIZING_FILE, SHARDING_FILE, METRICS_FILE, MLFLOW_FILE, RESIZE_FILE):
            (self.path / name).unlink(missing_ok=True)
        # run.json stays until the next one takes its place: killed in between, the job that is
        # started again finds a run that is not its own, and clears it again.
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def write_run(self, config: TrainConfig, facts: Mapping[str, object]) -> None:
        """Record what is about to be trained, and with what."""
        record = {
            "config": adapter_of(TrainConfig).dump_python(config, mode="json"),
            **facts,
            "job": job_id(),
            "data_sha256": file_sha256(config.data / DATASET_FILE),
            "git_commit": git_commit(),
            "versions": {"python": platform.python_version(), **package_versions()},
            "machine": {"cpu": platform.processor() or platform.machine(), "os": platform.system()},
        }
        self.write_json(RUN_FILE, record)

    def read_run(self) -> dict[str, Any]:
        """Read ``run.json``.

        Raises:
            FileNotFoundError: If the folder holds no run.
            ValueError: If the file is no record of a run.
        """
        path = self.path / RUN_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{self.path} holds no {RUN_FILE}; {self._instead()}")
        try:
            record: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: {error}; restore it, or train anew") from error
        return record

    def _instead(self) -> str:
        """What to give where there is no run."""
        with suppress(OSError, ValueError, AttributeError):
            run = json.loads((self.path / "search.json").read_text()).get("run")
            if run is not None:
                return f"it holds a search, whose model is in {self.path / run}"
        return "train with `mixdim train`"

    def read_config(self) -> TrainConfig:
        """The configuration that the run was trained with.

        Raises:
            FileNotFoundError: If the folder holds no run.
            ValueError: If its record holds no configuration of this version.
        """
        try:
            config = self.read_run().get("config")
            found: TrainConfig = adapter_of(TrainConfig).validate_python(config)
        except ValidationError as error:
            raise ValueError(
                f"{self.path / RUN_FILE}: {first_fault(error, 'config')}; restore it, or train anew"
            ) from error
        return found

    def write_json(self, name: str, record: object) -> None:
        """Write a file in one move, so that readers never see half of it."""
        draft = self.path / f".{name}{DRAFT}"
        draft.write_text(json.dumps(record, indent=1) + "\n")
        draft.rename(self.path / name)

    def append_metrics(self, record: Mapping[str, object]) -> None:
        """Add a line to ``metrics.jsonl``, whole or not at all.

        Raises:
            OSError: If it cannot be written.
        """
        path = self.path / METRICS_FILE
        line = json.dumps(without_nan(record)).encode() + b"\n"
        with path.open("ab", buffering=0) as file:
            end = file.tell()
            if file.write(line) < len(line):  # as much as there was room for
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def _forget_metrics_after(self, steps: Mapping[str, int]) -> None:
        """Drop the lines that a resumed run will write again; ``steps`` are the last ones kept."""
        path = self.path / METRICS_FILE
        if not path.is_file():
            return
        kept = []
        for line in path.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the line that a killed run was writing
            if record["step"] <= steps.get(record["kind"], -1):
                kept.append(line)
        draft = path.with_suffix(DRAFT)
        draft.write_text("".join(f"{line}\n" for line in kept))
        draft.rename(path)


def delete_whole(folder: Path) -> None:
    """Delete a folder as well as can be; a kill leaves all of it, or nothing by its name."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)  # what a kill has left
    with suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _is_taken(folder: int) -> bool:
    """Lock an open folder until it is closed; whether somebody else has."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks, as some over networks are
        return False
    return False


def without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON does not know, at any depth."""
    if isinstance(value, Mapping):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that decide what a run computes."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Commit of the source tree, with ``+changes`` when it differs; None outside of one."""
    here = Path(__file__).parent
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(here), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")
