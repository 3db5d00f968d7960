"""Hashes of whole arrays: of numbers, and of strings as 64-bit keys."""

from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.data.readers.base import Strings

WORD_BYTES = 8
MIX: Final = MappingProxyType(
    {"step": 0x9E3779B97F4A7C15, "first": 0xBF58476D1CE4E5B9, "second": 0x94D049BB133111EB}
)


def splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit numbers, one to one.

    Source:
        Steele, Lea, Flood, *Fast Splittable Pseudorandom Number Generators*, OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        z = state + np.uint64(MIX["step"])
        z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX["first"])
        z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX["second"])
        return z ^ (z >> np.uint64(31))


def string_keys(strings: Strings) -> NDArray[np.uint64]:
    """Key of every string: its own bytes where they are at most 8, else a hash of them.

    Equal strings have equal keys; different strings may share one, though it is rare.
    """
    offsets, data = _parts(strings)
    lengths = np.diff(offsets)
    starts = offsets[:-1]
    keys = _words(data, starts, lengths)
    rest = np.flatnonzero(lengths > WORD_BYTES)
    if len(rest):
        keys[rest] = splitmix64(keys[rest] ^ lengths[rest].astype(np.uint64))
    done = WORD_BYTES
    while len(rest):
        more = _words(data, starts[rest] + done, lengths[rest] - done)
        keys[rest] = splitmix64(keys[rest] ^ more)
        done += WORD_BYTES
        rest = rest[lengths[rest] > done]
    return keys


def _parts(strings: Strings) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets and bytes, with room to read a whole word behind the last one."""
    wide = pa.types.is_large_string(strings.type)
    buffers: list[Any] = list(strings.buffers())
    if len(strings) == 0:
        return np.zeros(1, dtype=np.int64), np.zeros(WORD_BYTES, dtype=np.uint8)
    offsets = np.frombuffer(buffers[1], dtype=np.int64 if wide else np.int32)
    offsets = offsets[strings.offset : strings.offset + len(strings) + 1].astype(np.int64)
    data = np.zeros(offsets[-1] - offsets[0] + WORD_BYTES, dtype=np.uint8)
    if buffers[2] is not None:
        used = np.frombuffer(buffers[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
        data[: len(used)] = used
    return offsets - offsets[0], data


def _words(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Up to 8 bytes from each start, shorter ones filled up with zeros."""
    every_start = np.ndarray((len(data) - WORD_BYTES + 1,), dtype="<u8", buffer=data, strides=(1,))
    bits = 8 * np.clip(WORD_BYTES - lengths, 0, WORD_BYTES - 1).astype(np.uint64)
    words: NDArray[np.uint64] = every_start[starts] & (np.uint64(2**64 - 1) >> bits)
    words[lengths <= 0] = 0
    return words
