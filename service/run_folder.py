"""The run folder: what a training leaves behind, readable without us.

RUN/run.json          configuration, plan, versions, git commit, hash of the data
RUN/sizing.json       the sizing plan that was trained
RUN/sharding.json     where every table lived
RUN/metrics.jsonl     one line per log interval and validation
RUN/checkpoints/      see service.checkpoint
RUN/result.json       final scores; there when the run ended by itself
"""

import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from service.config import TrainConfig
from service.data.dataset import DATASET_FILE

RUN_FILE = "run.json"
SIZING_FILE = "sizing.json"
SHARDING_FILE = "sharding.json"
METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "result.json"
CHECKPOINTS = "checkpoints"

PACKAGES = ("mixdim", "torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "pyarrow", "numpy")


class RunFolder:
    """The files of one run; only the first rank writes them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / CHECKPOINTS

    def prepare(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or refuse one that holds another run.

        Raises:
            ValueError: If the folder is in use and neither flag is given.
            OSError: If it cannot be written.
        """
        if overwrite and (self.path / RUN_FILE).is_file():
            shutil.rmtree(self.path)
        if self.path.exists() and any(self.path.iterdir()) and not resume:
            raise ValueError(
                f"{self.path} is not empty; give --resume to go on with the run in it, "
                f"--overwrite to delete it, or another --output"
            )
        self.path.mkdir(parents=True, exist_ok=True)

    def write_run(self, config: TrainConfig, facts: Mapping[str, object]) -> None:
        """Record what is about to be trained, and with what."""
        record = {
            "config": TypeAdapter(TrainConfig).dump_python(config, mode="json"),
            **facts,
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
        """
        path = self.path / RUN_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{self.path} holds no {RUN_FILE}; train with `mixdim train`")
        record: dict[str, Any] = json.loads(path.read_text())
        return record

    def read_config(self) -> TrainConfig:
        """The configuration that the run was trained with."""
        return TypeAdapter(TrainConfig).validate_python(self.read_run()["config"])

    def write_json(self, name: str, record: object) -> None:
        """Write a file in one move, so that readers never see half of it."""
        draft = self.path / f".{name}.draft"
        draft.write_text(json.dumps(record, indent=1) + "\n")
        draft.rename(self.path / name)

    def append_metrics(self, record: Mapping[str, object]) -> None:
        """Add a line to ``metrics.jsonl``."""
        with (self.path / METRICS_FILE).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def forget_metrics_after(self, step: int) -> None:
        """Drop the lines that a resumed run will write again."""
        path = self.path / METRICS_FILE
        if not path.is_file():
            return
        kept = []
        for line in path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except ValueError:
                continue  # the line that a killed run was writing
        draft = path.with_suffix(".draft")
        draft.write_text("".join(f"{line}\n" for line in kept))
        draft.rename(path)


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
