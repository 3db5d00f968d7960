"""Why a job failed, in one line: its verb's own words, or the last ones, and no more than those."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.job import JobError
from service.jobs.launcher import JobState, JobStatus
from service.jobs.reason import LAST_LINES, MAX_CHARACTERS, explained

HOME = Path("/srv/mixdim")
REFUSED = JobStatus(JobState.FAILED, 2, "exit code 2")
KILLED = JobStatus(JobState.FAILED, 137, "exit code 137")
ERROR = "mixdim train: error: no such preset"


@pytest.mark.parametrize(
    ("status", "log", "message"),
    [
        (REFUSED, ["step 10", ERROR, "", "goodbye"], f"exit code 2: {ERROR}"),
        (REFUSED, ["mixdim size: error: first", ERROR], f"exit code 2: {ERROR}"),
        (REFUSED, [f"[rank1]: {ERROR}", "rank 1 ended"], f"exit code 2: {ERROR}"),
        (REFUSED, ["oh no", "", "╰────╯", "   "], "exit code 2: it said last: oh no"),
        (REFUSED, [], "exit code 2"),
        (KILLED, [ERROR, "step 20"], "exit code 137: it said last: step 20"),
        (JobStatus(JobState.FAILED), [ERROR], ERROR),
        (REFUSED, [ERROR, *["."] * LAST_LINES], "exit code 2"),
    ],
)
def test_the_reason_is_the_last_error_or_the_last_line(
    status: JobStatus, log: list[str], message: str
) -> None:
    assert explained(status, lambda: log) == message


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[31;1mred\x1b[0m \x1b]0;title\x07end\t.", "red end ."),
        ("10%\r20%\r", "20%"),
        ("a\x00b\u202ec\ud800", "a b c"),
        (b"caf\xe9".decode(errors="surrogateescape"), "caf"),
        (f"{HOME}/runs/a is not in {HOME}", "runs/a is not in HOME"),
    ],
)
def test_the_reason_is_text_that_says_nothing_of_where_the_service_lives(
    line: str, shown: str
) -> None:
    said = explained(JobStatus(JobState.FAILED), lambda: [line], HOME)
    assert said == f"it said last: {shown}"


def test_the_reason_is_short_however_long_the_line() -> None:
    said = explained(REFUSED, lambda: [f"{ERROR} {'x' * 10_000}"])
    assert len(said) == MAX_CHARACTERS
    assert said.startswith(f"exit code 2: {ERROR} xxx")


@pytest.mark.parametrize("error", [JobError, FileNotFoundError, KeyError])
def test_a_log_that_cannot_be_read_explains_nothing(error: type[Exception]) -> None:
    def log() -> Iterator[str]:
        yield "first"
        raise error("gone")

    assert explained(REFUSED, log) == "exit code 2: it said last: first"
