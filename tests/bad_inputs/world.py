"""A folder in which everything is as it should be, and the ways to spoil it."""

import contextlib
import io
import json
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.tables import Block
from service.__main__ import main
from service.sizing import SizingFile, write_sizing
from tests.datasets import write_dataset

LINE = "\t".join(["{label}", *["1"] * 13, *["68fd1e64"] * 26]) + "\n"
WIDTHS = {"C1": (40, 8), "C2": (7, 4), "C3": (300, 4)}
TAKEN_PORT = 18_990
FULL_AFTER_BYTES = 20_000
PART = "data/train/part-00001.parquet"

Make = Callable[[Path], object]
"""Spoils something in a folder that `write_world` has filled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadInput:
    """One thing that users do or suffer."""

    name: str
    command: str
    """Arguments of ``mixdim``, relative to the folder."""
    says: tuple[str, ...]
    """What the message must hold: file, place, fix."""
    make: Make = lambda _: None
    around: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """What the command runs in, such as a full disk."""
    code: int = 2
    needs_run: bool = False
    """Whether the folder holds a run with a checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a command did."""

    code: int
    message: str
    seconds: float
    lost: list[str]
    """Files of datasets and checkpoints that were there before and are not, or differ."""


def write_world(folder: Path) -> None:
    """Raw lines, a dataset, a sizing and a sharding plan, all as they should be."""
    (folder / "log.tsv").write_text("".join(LINE.format(label=i % 2) for i in range(400)))
    write_dataset(folder / "data", rows={"train": 600, "validation": 100, "test": 100})
    fields = {
        name: (Block(num_embeddings=rows, embedding_dim=dim, asked_dim=dim),)
        for name, (rows, dim) in WIDTHS.items()
    }
    write_sizing(SizingFile(format_version=1, fields=fields, out_dim=8), folder / "sizing.json")


def write_run(folder: Path) -> None:
    """A run of three steps in the world."""
    code, message = called(
        "train smoke --data data --sizing sizing.json --output run --max-steps 3 "
        "--batch-size 64 --matmul mkl",
        folder,
    )
    assert code == 0, message


def outcome_of(bad: BadInput, folder: Path) -> Outcome:
    """Spoil the folder, run the command in it, and see what it says and leaves."""
    bad.make(folder)
    before = _kept(folder)
    start = time.monotonic()
    with bad.around():
        code, message = called(bad.command, folder)
    after = _kept(folder)
    return Outcome(
        code=code,
        message=message,
        seconds=time.monotonic() - start,
        lost=[name for name, content in before.items() if after.get(name) != content],
    )


def called(command: str, folder: Path) -> tuple[int, str]:
    """Exit code of a command in a folder, and what it wrote to stderr."""
    said = io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(said),
    ):
        try:
            code = main(command.split())
        except SystemExit as exit_:  # how the parser of flags ends
            code = int(exit_.code or 0)
    return code, said.getvalue()


def _kept(folder: Path) -> dict[str, bytes]:
    """Datasets and checkpoints, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for root in ("data", "run/checkpoints")
        for path in sorted((folder / root).rglob("*"))
        if path.is_file()
    }


def text(name: str, content: str | bytes) -> Make:
    """A file with this content."""
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def changed(name: str, change: Callable[[bytes], bytes]) -> Make:
    """A file whose bytes were changed."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def gone(name: str) -> Make:
    """A file or folder that is no longer there."""

    def remove(folder: Path) -> None:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()

    return remove


def half(content: bytes) -> bytes:
    """What is left of a file that was cut short."""
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """A file with one bit that a disk has turned over."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def entry(name: str, *keys: str, value: object) -> Make:
    """A JSON file in which one value was changed, or taken out where it is None."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[int(key) if isinstance(inner, list) else key]
        if value is None:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        (folder / name).write_text(json.dumps(content))

    return change


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """A file system on which no file grows beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AFTER_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def taken_port() -> Iterator[None]:
    """`TAKEN_PORT` is somebody else's."""
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # it is taken all the same
            other.bind(("127.0.0.1", TAKEN_PORT))
            other.listen()
        yield
