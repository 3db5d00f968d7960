"""Text files as blocks of whole lines: plain, gzip or zstd, hashed while they are read."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from service.data.base import Block
from service.data.dataset import SourceFile

COMPRESSIONS: Final = MappingProxyType({".gz": "gzip", ".gzip": "gzip", ".zst": "zstd"})
"""Compression by the ending of a file's name; any other file is read as it is."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class HashingFile(io.RawIOBase):
    """A file that knows the SHA-256 of what has been read from it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._sha256 = hashlib.sha256()
        self.num_bytes = 0

    def readable(self) -> bool:
        """Arrow asks."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read, and remember what was read."""
        data = self._file.read(size) or b""
        self._sha256.update(data)
        self.num_bytes += len(data)
        return data

    def close(self) -> None:
        """Close the file beneath."""
        self._file.close()
        super().close()

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far."""
        return self._sha256.hexdigest()


@dataclass(kw_only=True)
class LineBlocks:
    """Files cut at line ends into blocks of about ``block_bytes`` of text."""

    paths: tuple[Path, ...]
    block_bytes: int
    header: bool
    """Whether the first line of every file names the columns."""
    files: list[SourceFile] = field(default_factory=list)
    """The files that the last pass has finished."""

    @property
    def num_bytes(self) -> int:
        """Size of all files on disk."""
        return sum(path.stat().st_size for path in self.paths)

    def __iter__(self) -> Iterator[Block]:
        """Read every file once, in order."""
        self.files.clear()
        first_index, bytes_before = 0, 0
        for path in self.paths:
            raw = HashingFile(path)
            first_line = line = 2 if self.header else 1
            with raw:
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
                self.files.append(
                    SourceFile(
                        path=str(path),
                        size_bytes=raw.num_bytes,
                        sha256=raw.sha256,
                        num_lines=line - first_line,
                    )
                )


def read_header(path: Path) -> str:
    """Return the first line of a file, without its line end.

    Raises:
        ValueError: If the file has no first line, or it is not UTF-8.
    """
    with HashingFile(path) as raw:
        line, _ = _split_header(_open_stream(raw, path), path)
    try:
        return line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line 1: the header is not UTF-8 ({error.reason})") from error


def check_files(paths: tuple[Path, ...]) -> None:
    """Refuse inputs that cannot be read twice.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If there is no path, or one is not a regular file.
    """
    if not paths:
        raise ValueError("no input files; name at least one")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; check the input path")
        if not path.is_file():
            raise ValueError(f"{path} is not a regular file; every input is read more than once")


def _open_stream(raw: HashingFile, path: Path) -> pa.NativeFile:
    compression = COMPRESSIONS.get(path.suffix.lower())
    return pa.input_stream(raw, compression=compression, buffer_size=1 << 20)


def _payloads(raw: HashingFile, path: Path, block_bytes: int, header: bool) -> Iterator[bytes]:
    stream = _open_stream(raw, path)
    rest = _split_header(stream, path)[1] if header else _without_mark(_read(stream, path, 4096))
    while data := _read(stream, path, block_bytes):
        cut = data.rfind(b"\n") + 1
        if cut:
            yield rest + data[:cut]
            rest = data[cut:]
        else:
            rest += data
            _check_line_length(rest, block_bytes, path)
    if rest:
        yield rest


def _split_header(stream: pa.NativeFile, path: Path) -> tuple[bytes, bytes]:
    start = b""
    while b"\n" not in start and (data := _read(stream, path, 1 << 16)):
        start += data
    line, _, rest = _without_mark(start).partition(b"\n")
    if not line.strip():
        raise ValueError(f"{path} is empty; expected a header line and data lines")
    return line, rest


def _without_mark(start: bytes) -> bytes:
    return start.removeprefix(BYTE_ORDER_MARK)


def _read(stream: pa.NativeFile, path: Path, size: int) -> bytes:
    try:
        return bytes(stream.read(size))
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error}; is the file whole?") from error


def _check_line_length(line: bytes, block_bytes: int, path: Path) -> None:
    longest = max(16 * block_bytes, 1 << 26)
    if len(line) > longest:
        raise ValueError(
            f"{path}: a line is longer than {longest:,} bytes; expected lines that end in \\n"
        )
