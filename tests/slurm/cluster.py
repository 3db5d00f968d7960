"""A throw-away Slurm of two nodes, and whoever works at its login node; see ``cluster.sh``."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from service.jobs.launcher import JobState

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = Path(__file__).with_name("cluster.sh")
COMMANDS: Final = Path(sys.executable).parent
NEEDED: Final = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "unshare", "ip")
MISSING = [name for name in NEEDED if not shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin")]
SECONDS: Final = 600
"""How long a job may take before something is wrong."""
MARKS: Final = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and slurmd need root"),
]


class Cluster:
    """Commands as a person on the login node types them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = os.environ | {
            "SLURM_CI_DIR": str(folder / "cluster"),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
        }

    def script(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [str(SCRIPT), *words],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *words: str) -> str:
        return self.script("exec", *words)

    @contextmanager
    def running(self, log: Path, *words: str) -> Iterator[None]:
        """Have something run on the login node; SIGKILL ends it."""
        note = log.with_suffix(".pid")
        note.unlink(missing_ok=True)
        noted = ("sh", "-c", f'echo $$ >{note}; exec "$@"', "sh", *words)
        with log.open("w") as file:
            process = subprocess.Popen(
                [str(SCRIPT), "exec", *noted],
                cwd=self.folder,
                env=self._environment,
                stdout=file,
                stderr=file,
            )
        try:
            self.wait_for(lambda: note.is_file() and note.read_text(), log.read_text)
            yield
        finally:
            os.kill(int(note.read_text()), signal.SIGKILL)
            process.wait(60)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Have this thread open its connections from the login node."""
        libc = ctypes.CDLL(None, use_errno=True)
        holder = (self.folder / "cluster/pid/holder").read_text().strip()
        with (
            Path("/proc/thread-self/ns/net").open() as ours,
            Path(f"/proc/{holder}/ns/net").open() as theirs,
        ):
            assert libc.setns(theirs.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(ours.fileno(), 0) == 0, os.strerror(ctypes.get_errno())

    def submit(self, *words: str) -> str:
        flags = ("--scheduler", "slurm", "--option", "partition=batch", "--home", "home")
        return self.run("mixdim", "submit", *flags, *words).split("\n")[0]

    def jobs(self, command: str, key: str, *words: str) -> str:
        return self.run("mixdim", "jobs", command, key, "--home", "home", *words)

    def status(self, key: str) -> dict[str, Any]:
        return dict(json.loads(self.jobs("status", key, "--json")))

    def accounted(self, name: str, what: str) -> list[str]:
        """What the accounting, which comes a moment late, says of all ended jobs of a name."""
        line = ("sacct", "-n", "-X", "-P", "--starttime=1970-01-02", "--name", name, "-o")
        ended: list[str] = []

        def have_ended() -> bool:
            ended[:] = self.run(*line, "State").splitlines()
            return bool(ended) and not {"PENDING", "RUNNING"} & set(ended)

        self.wait_for(have_ended, lambda: ended)
        return self.run(*line, what).splitlines()

    def wait_for(self, condition: Callable[[], object], what: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, what()
            time.sleep(0.02)

    def wait_for_state(self, key: str, state: str) -> None:
        def is_reached() -> bool:
            found = JobState(self.status(key)["state"])
            ended = found.is_final and found != state
            assert not ended, f"{key} {found}, not {state}: {self.jobs('logs', key)}"
            return found == state

        self.wait_for(is_reached, lambda: self.jobs("logs", key))

    def freeze_behind_a_checkpoint(self, run: Path, log: Callable[[], object]) -> list[int]:
        """Stop the two ranks of a job in the middle, so that nothing depends on who is faster."""
        self.wait_for(lambda: len(ranks_of(run)) == 2, log)
        self.wait_for(lambda: list((run / "checkpoints").glob("step-*[0-9]")), log)
        ranks = ranks_of(run)
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)
        assert not (run / "result.json").exists()
        return ranks


def ranks_of(run: Path) -> list[int]:
    """Processes that train a run."""
    ranks = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            program, *words = (process / "cmdline").read_bytes().split(b"\0")
            is_rank = b"python" in program and b"service.torchrun" not in words
            folders = [Path(os.fsdecode(word)).name for word in words]
            if is_rank and b"train" in words and run.name in folders:
                ranks.append(int(process.name))
    return ranks


def scores(run: Path) -> Any:
    return json.loads((run / "result.json").read_text())["scores"]
