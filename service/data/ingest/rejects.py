"""Lines that are left out: each in a file with its reason, all together below a limit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from service.data.readers.base import Reject, Rows

REJECTS_FILE: Final = "rejects.tsv"
SHOWN_BYTES = 160
SHOWN_REASONS = 3
CERTAIN_FACTOR = 2.0
"""The job stops early where this many times the bearable rejects are there already."""
CERTAIN_REJECTS = 100


class RejectLog:
    """Writes ``rejects.tsv`` and judges whether there are too many."""

    def __init__(self, folder: Path, max_ratio: float, num_bytes: int) -> None:
        self._file = (folder / REJECTS_FILE).open("w", encoding="utf-8")
        self._file.write("file\tline\treason\tstart of the line\n")
        self._max_ratio = max_ratio
        self._num_bytes = num_bytes
        self._first: list[Reject] = []
        self.num_lines = 0
        self.num_rejects = 0

    def add(self, rows: Rows) -> None:
        """Note the rejects of a block.

        Raises:
            ValueError: If there are so many that the rest of the files cannot make up for them.
        """
        self.num_lines += rows.block.num_lines
        self.num_rejects += len(rows.rejects)
        self._first.extend(rows.rejects[: SHOWN_REASONS - len(self._first)])
        for reject in rows.rejects:
            self._file.write(_line(reject))
        expected_lines = self.num_lines * max(self._num_bytes / max(rows.block.bytes_read, 1), 1.0)
        bearable = self._max_ratio * expected_lines
        if self.num_rejects > CERTAIN_FACTOR * bearable + CERTAIN_REJECTS:
            raise self._too_many("so far")

    def finish(self) -> None:
        """Close the file and judge.

        Raises:
            ValueError: If more lines than bearable were rejected.
        """
        self.close()
        if self.num_rejects > self._max_ratio * self.num_lines:
            raise self._too_many("in all")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _too_many(self, when: str) -> ValueError:
        examples = "; ".join(
            f"{reject.path}, line {reject.line}: {reject.reason}" for reject in self._first
        )
        return ValueError(
            f"{self.num_rejects:,} of {self.num_lines:,} lines {when} are malformed "
            f"({100 * self.num_rejects / max(self.num_lines, 1):.4g}%), expected at most "
            f"{100 * self._max_ratio:.4g}% (--max-reject-ratio); the first: {examples}"
        )


def _line(reject: Reject) -> str:
    text = reject.text[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    columns: Sequence[object] = (reject.path, reject.line, reject.reason, text.rstrip("\r"))
    return "\t".join(_escaped(str(column)) for column in columns) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
