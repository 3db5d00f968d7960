"""The process that keeps a job of this machine: it starts it, waits, and writes how it ended.

    python -I -S keeper.py FOLDER

It leaves whoever started it at once, holds a lock on the folder for as long as the job lives, and
runs the job once however often it is called. It needs nothing but Python, so that it starts in
milliseconds.

FOLDER/job.json      what to run
FOLDER/started.json  process that keeps it, there from the moment when the job counts as begun
FOLDER/cancel        there once somebody wants it to end
FOLDER/log.txt       what the job says; of what is too much, the end
FOLDER/exit.json     how it ended
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

JOB_FILE: Final = "job.json"
STARTED_FILE: Final = "started.json"
CANCEL_FILE: Final = "cancel"
LOG_FILE: Final = "log.txt"
EXIT_FILE: Final = "exit.json"
LOCK_FILE: Final = "lock"
MARK: Final = "MIXDIM_JOB_FOLDER"
"""Environment variable by which every process of a job is known, wherever it has gone."""

REFUSED: Final = (2, 3)
"""Exit codes of input that another start would refuse again."""
PR_SET_PDEATHSIG: Final = 1
LOOK_SECONDS: Final = 0.001
CHUNK_BYTES: Final = 1 << 20
"""More than a pipe holds: one read takes all that is in it."""
TAIL_BYTES: Final = 1 << 16
"""What is kept of the end of a log that is full: why a job failed is said last."""


def main(folder: Path) -> int:
    """Leave the caller, then keep the job; the caller sees 0 once the job counts as begun."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os._exit(_keep(folder, writer))
    os.close(writer)
    return 0 if os.read(reader, 1) else 1


def _keep(folder: Path, writer: int) -> int:
    with (folder / LOCK_FILE).open("ab") as lock:
        while not (folder / STARTED_FILE).exists():
            if _is_locked(lock.fileno()):
                break
            time.sleep(LOOK_SECONDS)  # somebody only looks whether it is held
        if (folder / STARTED_FILE).exists():
            _dismiss(writer)
            return 0
        keeper = Keeper(folder)
        keeper.claim()
        _dismiss(writer)
        return keeper.run()


class Log:
    """A file that takes what a job says, however much that is, and whether there is room or not.

    Args:
        path: Of the file, which is gone on with.
        most: Bytes that it may grow to, but for notes and the end of what is said.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._file = path.open("ab", buffering=0)
        self._room = max(most - self._file.tell(), 0)
        self._rest = b""
        self._num_rest = 0

    def write(self, said: bytes) -> None:
        """Take what was said."""
        kept, rest = said[: self._room], said[self._room :]
        self._room -= len(kept)
        self._put(kept)
        if rest and not self._num_rest:
            self._put(b"\n[the log is full: what follows is left out, but for its end]\n")
        self._rest = (self._rest + rest)[-TAIL_BYTES:]
        self._num_rest += len(rest)

    def close(self) -> None:
        """End with what was said last."""
        if self._num_rest > len(self._rest):
            self._rest = self._rest.partition(b"\n")[2] or self._rest  # from a line's beginning
            self._put(b"[%d bytes left out]\n" % (self._num_rest - len(self._rest)))
        self._put(self._rest)
        self._file.close()

    def _put(self, text: bytes) -> None:
        with suppress(OSError):  # a job does not end because the disk is full
            self._file.write(text)


class Keeper:
    """Runs a job and ends it, with all that it has started.

    Args:
        folder: Of the job.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._job = json.loads((folder / JOB_FILE).read_text())
        self._child: subprocess.Popen[bytes] | None = None
        self._deadline = float("inf")

    def claim(self) -> None:
        """Listen to requests to end, and only then say who keeps the job."""
        signal.signal(signal.SIGTERM, self._asked_to_end)
        signal.signal(signal.SIGALRM, self._out_of_patience)
        pid = os.getpid()
        write_json(self._folder / STARTED_FILE, {"pid": pid, "started": start_time(pid)})

    def run(self) -> int:
        """Start the job as often as it may be; write how it ended."""
        exit_code = None
        for _ in range(1 + int(self._job["max_retries"])):
            if self._is_cancelled():
                break
            exit_code = self._run_once()
            if exit_code in (0, *REFUSED):
                break
        cancelled = self._is_cancelled() and exit_code != 0
        write_json(self._folder / EXIT_FILE, {"exit_code": exit_code, "cancelled": cancelled})
        return 0

    def _run_once(self) -> int:
        with closing(Log(self._folder / LOG_FILE, int(self._job["log_bytes"]))) as log:
            try:
                said = self._begin()
            except OSError as error:
                log.write(f"{self._job['command'][0]}: {error.strerror}\n".encode())
                return 127
            with said:
                return self._wait(said.fileno(), log)

    def _begin(self) -> IO[bytes]:
        parent = os.getpid()
        self._child = subprocess.Popen(
            self._job["command"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self._job["environment"], MARK: str(self._folder)},
            cwd=self._job["cwd"],
            start_new_session=True,
            preexec_fn=lambda: _die_with(parent),
        )
        if self._is_cancelled():  # asked while it was being started
            self._asked_to_end()
        said: IO[bytes] = self._child.stdout  # type: ignore[assignment]
        return said

    def _wait(self, said: int, log: Log) -> int:
        """Write down what the job says until it ends; what it left behind may say no more."""
        child: subprocess.Popen[bytes] = self._child  # type: ignore[assignment]
        ended = os.pidfd_open(child.pid)
        watched = [ended, said]
        while ended not in select.select(watched, [], [])[0]:
            part = os.read(said, CHUNK_BYTES)
            log.write(part)
            if not part:  # nobody speaks any more
                watched.remove(said)
        os.close(ended)
        self._child = None  # its pid may soon be another's
        end_processes(self._folder)
        if select.select([said], [], [], 0)[0]:
            log.write(os.read(said, CHUNK_BYTES))
        code = child.wait()
        return code if code >= 0 else 128 - code

    def _is_cancelled(self) -> bool:
        return (self._folder / CANCEL_FILE).exists()

    def _asked_to_end(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        (self._folder / CANCEL_FILE).touch()
        if self._child is not None:
            _tell_group(self._child.pid, signal.SIGTERM)
            if not signal.getitimer(signal.ITIMER_REAL)[0]:
                signal.setitimer(signal.ITIMER_REAL, float(self._job["grace_seconds"]))

    def _out_of_patience(self, _number: int, _frame: FrameType | None) -> None:
        if self._child is not None:
            _tell_group(self._child.pid, signal.SIGKILL)


def end_processes(folder: Path) -> None:
    """Kill what bears the mark of a job: whatever left its group, or outlived its keeper."""
    mark = f"{MARK}={folder}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            process = os.pidfd_open(int(entry.name))  # before the look, for pids are used again
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)


def start_time(pid: int) -> str:
    """When a process was started, in the system's ticks: tells two with the same pid apart."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file in one move, to be there after a power cut as well."""
    draft = path.with_name(f".{path.name}.{threading.get_native_id()}")
    with draft.open("w") as file:
        file.write(json.dumps(content) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tell_group(leader: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, number)


def _die_with(keeper: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:  # it went before we asked
        os._exit(1)


def _dismiss(writer: int) -> None:
    """Let go of the caller's pipes and terminal, and tell it that all is well."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.write(writer, b"!")
    os.close(writer)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
