"""Files whose lengths are known beforehand."""

from collections.abc import Mapping
from pathlib import Path


def check_sizes(folder: Path, expected: Mapping[str, int]) -> int:
    """Refuse files of a folder that are shorter or longer than they are to be.

    Args:
        folder: Where they are.
        expected: Bytes by name.

    Returns:
        The bytes of them all.

    Raises:
        ValueError: If one has another length.
    """
    for name, num_bytes in expected.items():
        if (size := (folder / name).stat().st_size) != num_bytes:
            raise ValueError(
                f"{folder / name} has {size:,} bytes, expected {num_bytes:,}; export again"
            )
    return sum(expected.values())
