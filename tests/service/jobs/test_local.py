"""Jobs of this machine: begun once, ended whole, found again, never mistaken for another."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.jobs import keeper
from service.jobs.launcher import Job, JobState
from service.jobs.local import LocalLauncher, verb_command

JOB = Job(verb="train")


def launcher(folder: Path, script: str, grace_seconds: float = 20) -> LocalLauncher:
    """One whose jobs are a line of shell."""
    command = ["/bin/sh", "-c", script]
    return LocalLauncher(folder, command=lambda job: command, grace_seconds=grace_seconds)


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def ended(jobs: LocalLauncher, key: str) -> JobState:
    wait_for(lambda: jobs.status(key).state.is_final)
    return jobs.status(key).state


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pid_in(path: Path) -> int:
    wait_for(lambda: path.is_file() and path.read_text().strip())
    return int(path.read_text())


@pytest.mark.parametrize(
    ("script", "state", "exit_code"),
    [
        ("echo done", JobState.SUCCEEDED, 0),
        ("exit 2", JobState.FAILED, 2),
        ("kill -9 $$", JobState.FAILED, 137),
    ],
)
def test_the_end_of_a_job_is_known(
    script: str, state: JobState, exit_code: int, tmp_path: Path
) -> None:
    jobs = launcher(tmp_path, script)
    assert jobs.submit("one", JOB) == "one"
    assert ended(jobs, "one") is state
    assert jobs.status("one").exit_code == exit_code


def test_a_key_begins_one_job_however_often_it_is_submitted(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, f"echo begun >> {tmp_path}/count; sleep 0.2")
    calls = [threading.Thread(target=jobs.submit, args=("one", JOB)) for _ in range(8)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert ended(jobs, "one") is JobState.SUCCEEDED
    jobs.submit("one", JOB)
    assert (tmp_path / "count").read_text() == "begun\n"


def test_a_submission_that_was_cut_short_is_taken_up(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, "true")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / keeper.JOB_FILE).write_text("{")  # the service was killed here
    assert (jobs.find("one"), jobs.status("one").state) == ("one", JobState.PENDING)
    jobs.submit("one", JOB)
    assert ended(jobs, "one") is JobState.SUCCEEDED


def test_what_nobody_submitted_is_missing(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, "true")
    assert jobs.find("one") is None
    assert jobs.status("one").state is JobState.MISSING
    with pytest.raises(ValueError, match="expected lower-case letters"):
        jobs.status("../one")


def test_a_cancelled_job_gets_time_to_end(tmp_path: Path) -> None:
    script = "trap 'echo saved; exit 143' TERM; echo begun; while true; do sleep 0.05; done"
    jobs = launcher(tmp_path, script)
    jobs.submit("one", JOB)
    wait_for(lambda: list(jobs.logs("one")))
    jobs.cancel("one")
    assert ended(jobs, "one") is JobState.CANCELLED
    assert list(jobs.logs("one"))[-1] == "saved"


def test_what_does_not_listen_is_killed_with_all_it_started(tmp_path: Path) -> None:
    child = f"trap '' TERM; echo $$ > {tmp_path}/child; while true; do sleep 0.05; done"
    script = f"trap '' TERM; setsid sh -c \"{child.replace('$$', chr(92) + '$$')}\" & wait; sleep 9"
    jobs = launcher(tmp_path, script, grace_seconds=0.2)
    jobs.submit("one", JOB)
    pid = pid_in(tmp_path / "child")
    jobs.cancel("one")
    assert ended(jobs, "one") is JobState.CANCELLED
    wait_for(lambda: not is_alive(pid))


def test_what_a_job_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, f"sleep 100 & echo $! > {tmp_path}/child")
    jobs.submit("one", JOB)
    pid = pid_in(tmp_path / "child")
    assert ended(jobs, "one") is JobState.SUCCEEDED
    wait_for(lambda: not is_alive(pid))


def test_a_job_that_is_cancelled_before_it_begins_never_does(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, f"touch {tmp_path}/ran")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / keeper.JOB_FILE).write_text("{}")
    jobs.cancel("one")
    jobs.submit("one", JOB)
    assert ended(jobs, "one") is JobState.CANCELLED
    assert not (tmp_path / "ran").exists()


def test_a_killed_keeper_takes_its_job_along(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, f"echo $$ > {tmp_path}/child; sleep 100; sleep 100")
    jobs.submit("one", JOB)
    pid = pid_in(tmp_path / "child")
    os.kill(json.loads((tmp_path / "one" / keeper.STARTED_FILE).read_text())["pid"], signal.SIGKILL)
    wait_for(lambda: jobs.status("one").state is JobState.FAILED)
    assert jobs.status("one").message.startswith("lost")
    wait_for(lambda: not is_alive(pid))


@pytest.mark.parametrize("left", ["", '{"exit_co'])
def test_an_end_that_cannot_be_read_is_a_lost_job(left: str, tmp_path: Path) -> None:
    jobs = launcher(tmp_path, "true")
    jobs.submit("a", JOB)
    ended(jobs, "a")
    (tmp_path / "a" / keeper.EXIT_FILE).write_text(left)
    assert jobs.status("a").state is JobState.FAILED
    assert "exit.json cannot be read" in jobs.status("a").message


def test_another_process_with_the_keepers_pid_is_left_alone(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, "true")
    jobs.submit("one", JOB)
    ended(jobs, "one")
    (tmp_path / "one" / keeper.EXIT_FILE).unlink()
    begun = {"pid": os.getpid(), "started": "1"}  # the pid is ours now
    keeper.write_json(tmp_path / "one" / keeper.STARTED_FILE, begun)
    jobs.cancel("one")  # would end these tests
    assert jobs.status("one").state is JobState.FAILED


def test_failures_are_tried_again_and_refusals_are_not(tmp_path: Path) -> None:
    for code, starts in ((1, 3), (2, 1)):
        jobs = launcher(tmp_path, f"echo begun; exit {code}")
        jobs.submit(f"exit-{code}", Job(verb="train", max_retries=2))
        assert ended(jobs, f"exit-{code}") is JobState.FAILED
        assert list(jobs.logs(f"exit-{code}")) == ["begun"] * starts


def test_a_log_is_followed_to_its_end_and_taken_up_anywhere(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, "echo häää; sleep 0.3; echo two; printf three")
    jobs.submit("one", JOB)
    lines = list(jobs.logs("one", follow=True))
    assert lines == ["häää", "two", "three"]
    assert list(jobs.logs("one", offset=len("häää\n".encode()))) == lines[1:]
    assert list(jobs.logs("one", offset=2**62)) == []


def test_a_log_that_is_full_keeps_beginning_and_end_and_its_job_goes_on(tmp_path: Path) -> None:
    script = ["/bin/sh", "-c", "seq 1 200000; echo begun again; exit 1"]
    jobs = LocalLauncher(tmp_path, command=lambda job: script, log_bytes=5000)
    jobs.submit("one", Job(verb="train", max_retries=1))
    assert ended(jobs, "one") is JobState.FAILED
    assert jobs.status("one").exit_code == 1
    lines = list(jobs.logs("one"))
    notes = [line for line in lines if line.startswith("[")]
    said = sum(len(f"{n}\n") for n in range(1, 200_001)) + len("begun again\n")
    left_out = [int(note.split()[0][1:]) for note in notes if "left out]" in note]
    assert lines[:3] == ["1", "2", "3"]
    assert lines[-3:] == ["199999", "200000", "begun again"]
    assert len(notes) == 4
    assert all(
        0 <= said - 5000 * (start == 0) - cut <= keeper.TAIL_BYTES
        for start, cut in enumerate(left_out)
    )
    assert (tmp_path / "one" / keeper.LOG_FILE).stat().st_size < 5000 + 2 * keeper.TAIL_BYTES + 500


def test_a_log_that_is_a_little_too_long_loses_nothing(tmp_path: Path) -> None:
    script = ["/bin/sh", "-c", "seq 1 1000"]
    jobs = LocalLauncher(tmp_path, command=lambda job: script, log_bytes=1000)
    jobs.submit("one", JOB)
    ended(jobs, "one")
    note = "\n[the log is full: what follows is left out, but for its end]\n"
    text = (tmp_path / "one" / keeper.LOG_FILE).read_text()
    assert text.replace(note, "") == "".join(f"{n}\n" for n in range(1, 1001))


def test_a_job_does_not_end_because_its_disk_is_full(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, f"seq 1 100000 && echo well > {tmp_path}/ended")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / keeper.LOG_FILE).symlink_to("/dev/full")
    jobs.submit("one", JOB)
    assert ended(jobs, "one") is JobState.SUCCEEDED
    assert (tmp_path / "ended").read_text() == "well\n"


def test_what_hides_from_its_keeper_and_speaks_on_does_not_hold_the_end_up(tmp_path: Path) -> None:
    hidden = f"env -i setsid sh -c 'echo $$ > {tmp_path}/pid; yes'"
    jobs = launcher(tmp_path, f"{hidden} & until [ -s {tmp_path}/pid ]; do sleep 0.02; done")
    jobs.submit("one", JOB)
    pid = pid_in(tmp_path / "pid")
    assert ended(jobs, "one") is JobState.SUCCEEDED
    wait_for(lambda: not is_alive(pid))  # nobody listens to it


def test_a_job_that_closes_its_output_goes_on(tmp_path: Path) -> None:
    jobs = launcher(tmp_path, f"echo one; exec >&- 2>&-; sleep 0.2; echo two > {tmp_path}/two")
    jobs.submit("one", JOB)
    assert ended(jobs, "one") is JobState.SUCCEEDED
    assert list(jobs.logs("one")) == ["one"]
    assert (tmp_path / "two").exists()


def test_a_job_does_not_see_what_is_the_services_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXDIM_DATABASE", "postgresql://user:secret@host/db")
    jobs = launcher(tmp_path, "env")
    jobs.submit("one", Job(verb="train", environment={"OURS": "yes"}))
    ended(jobs, "one")
    said = "\n".join(jobs.logs("one"))
    assert "OURS=yes" in said
    assert "secret" not in said


def test_ranks_are_asked_for_where_a_verb_starts_them() -> None:
    job = Job(verb="train", arguments=("smoke",), ranks_per_node=2)
    assert verb_command(job)[-4:] == ["train", "smoke", "--nproc", "2"]
    assert verb_command(Job(verb="size", ranks_per_node=2))[-1] == "size"
