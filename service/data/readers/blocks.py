"""Text files as blocks of whole lines: plain, gzip or zstd, hashed while they are read."""

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from service.data.dataset import SourceFile
from service.data.readers.base import Block

COMPRESSIONS: Final = MappingProxyType({".gz": "gzip", ".gzip": "gzip", ".zst": "zstd"})
"""Compression by the ending of a file's name; any other file is read as it is."""

LONGEST_LINE_BYTES: Final = 1 << 26
"""A line that is longer is taken for a file without line ends."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class HashingFile(io.RawIOBase):
    """A file that can tell the SHA-256 of what has been read from it."""

    def __init__(self, path: Path, *, hashed: bool) -> None:
        self._file = path.open("rb", buffering=0)
        self._sha256 = hashlib.sha256() if hashed else None
        self.num_bytes = 0

    def readable(self) -> bool:
        """Arrow asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read, and remember what was read."""
        size = self._file.readinto(buffer) or 0
        if self._sha256 is not None:
            self._sha256.update(memoryview(buffer)[:size])
        self.num_bytes += size
        return size

    def close(self) -> None:
        """Close the file beneath."""
        self._file.close()
        super().close()

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far."""
        assert self._sha256 is not None, "opened with hashed=True"
        return self._sha256.hexdigest()


@dataclass(kw_only=True)
class LineBlocks:
    """Files cut at line ends into blocks of about ``block_bytes`` of text."""

    paths: tuple[Path, ...]
    block_bytes: int
    header: bool
    """Whether the first line of every file names the columns."""
    files: dict[Path, SourceFile] = field(default_factory=dict)
    """The files as the first pass read them."""

    @property
    def num_bytes(self) -> int:
        """Size of all files on disk."""
        return sum(path.stat().st_size for path in self.paths)

    def __iter__(self) -> Iterator[Block]:
        """Read every file once, in order.

        Raises:
            ValueError: If a file is not as it was in an earlier pass.
        """
        first_index, bytes_before = 0, 0
        for path in self.paths:
            first_line = line = 2 if self.header else 1
            with HashingFile(path, hashed=path not in self.files) as raw:
                for payload in _payloads(raw, path, self.block_bytes, self.header):
                    num_lines = payload.count(b"\n") + (not payload.endswith(b"\n"))
                    yield Block(
                        path=path,
                        first_line=line,
                        first_index=first_index,
                        num_lines=num_lines,
                        bytes_read=bytes_before + raw.num_bytes,
                        payload=payload,
                    )
                    line += num_lines
                    first_index += num_lines
                bytes_before += raw.num_bytes
                self._note(path, raw, line - first_line)

    def _note(self, path: Path, raw: HashingFile, num_lines: int) -> None:
        before = self.files.get(path)
        if before is None:
            self.files[path] = SourceFile(
                path=str(path),
                size_bytes=raw.num_bytes,
                sha256=raw.sha256,
                num_lines=num_lines,
            )
        elif (before.size_bytes, before.num_lines) != (raw.num_bytes, num_lines):
            raise ValueError(f"{path} changed while it was read; prepare it when it is complete")


def read_header(path: Path) -> str:
    """Return the first line of a file, without its line end.

    Raises:
        ValueError: If the file has no first line, or it is not UTF-8.
    """
    with HashingFile(path, hashed=False) as raw:
        line, _ = _read_line(_open_stream(raw, path), path)
    try:
        return line.rstrip(b"\r").decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line 1: the header is not UTF-8 ({error.reason})") from error


def check_files(paths: tuple[Path, ...]) -> None:
    """Refuse inputs that cannot be read twice.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If there is no path, one is not a regular file, or one is named twice.
    """
    if not paths:
        raise ValueError("no input files; name at least one")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; check the input path")
        if not path.is_file():
            raise ValueError(f"{path} is not a regular file; every input is read more than once")
    if twice := [path for path, times in Counter(paths).items() if times > 1]:
        raise ValueError(
            f"{twice[0]} is named twice, and its rows would be in training and test alike; name "
            f"every file once"
        )


def _open_stream(raw: HashingFile, path: Path) -> Any:
    """Return a file of text; both kinds know ``readinto``."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    return pa.input_stream(raw, compression=compression) if compression else raw


def _payloads(raw: HashingFile, path: Path, block_bytes: int, header: bool) -> Iterator[bytearray]:
    stream = _open_stream(raw, path)
    start = _read_line(stream, path)[1] if header else _first_bytes(stream, path)
    while True:
        payload = bytearray(len(start) + block_bytes)
        payload[: len(start)] = start
        size = _fill(stream, path, memoryview(payload)[len(start) :])
        del payload[len(start) + size :]
        cut = payload.rfind(b"\n") + 1
        if size == 0:
            cut = len(payload)  # the last line may lack its end
        start = bytes(payload[cut:])
        del payload[cut:]
        _check_line_length(start, path)
        if payload:
            yield payload
        if size == 0:
            return


def _read_line(stream: Any, path: Path) -> tuple[bytes, bytes]:
    """The first line, and what was read beyond it."""
    start = _first_bytes(stream, path)
    buffer = bytearray(1 << 16)
    while b"\n" not in start and (size := _fill(stream, path, memoryview(buffer))):
        start += buffer[:size]
    line, _, rest = start.partition(b"\n")
    if not line.strip():
        raise ValueError(f"{path} starts with an empty line; expected column names or data")
    return line, rest


def _first_bytes(stream: Any, path: Path) -> bytes:
    """The first bytes, without the mark that some programs put before UTF-8 text."""
    buffer = bytearray(len(BYTE_ORDER_MARK))
    return bytes(buffer[: _fill(stream, path, memoryview(buffer))]).removeprefix(BYTE_ORDER_MARK)


def _fill(stream: Any, path: Path, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends."""
    filled = 0
    try:
        while filled < len(buffer) and (size := stream.readinto(buffer[filled:])):
            filled += size
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error}; is the file whole?") from error
    return filled


def _check_line_length(line: bytes, path: Path) -> None:
    if len(line) > LONGEST_LINE_BYTES:
        raise ValueError(
            f"{path}: a line is longer than {LONGEST_LINE_BYTES:,} bytes; expected lines that end "
            f"in \\n"
        )
