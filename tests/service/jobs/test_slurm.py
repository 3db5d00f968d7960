"""What Slurm's words mean, by commands that say what a Slurm 22.05 has said.

`tests/slurm` runs the real one.
"""

import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from deploy.job import Job
from service.job import JobError
from service.jobs.launcher import AwayError, JobState, JobStatus
from service.jobs.slurm import SlurmLauncher

Fake = Callable[[Mapping[str, str]], None]

JOB = Job("size", ("data",))
CONTROL = (
    "JobId=7 JobName=key Account=root QOS=normal JobState={state} Reason={reason} "
    "Dependency=(null) Requeue=1 Restarts={restarts} BatchFlag=1 ExitCode={code} "
    "TimeLimit=00:05:00 NodeList={nodes} BatchHost=n1 Comment= Power= "
)
FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts commands on the path that are lines of shell."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")

    def put(scripts: Mapping[str, str]) -> None:
        for name in ("sbatch", "squeue", "scontrol", "sacct", "scancel"):
            path = commands / name
            path.write_text(f"#!/bin/sh\n{scripts.get(name, 'exit 1')}\n")
            path.chmod(0o755)

    return put


def controlled(state: str, code: str = "0:0", nodes: str = "", **facts: str) -> dict[str, str]:
    """What scontrol says of a job."""
    known = {"reason": "None", "restarts": "0"} | facts
    said = CONTROL.format(state=state, code=code, nodes=nodes, **known)
    names = 'if [ "$2" = hostnames ]; then echo n1; echo n2; else'
    return {"scontrol": f"{names} echo '{said}'; fi"}


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (
            controlled("PENDING", reason="Resources"),
            JobStatus(JobState.PENDING, message="pending, Resources"),
        ),
        (
            controlled("RUNNING", nodes="n[1-2]"),
            JobStatus(JobState.RUNNING, message="running", hosts=("n1", "n2")),
        ),
        (
            controlled("COMPLETED", nodes="n1", restarts="2"),
            JobStatus(JobState.SUCCEEDED, 0, "completed, restarts 2"),
        ),
        (
            controlled("FAILED", "3:0", reason="NonZeroExitCode"),
            JobStatus(JobState.FAILED, 3, "failed, NonZeroExitCode"),
        ),
        (controlled("NODE_FAIL", "0:9"), JobStatus(JobState.FAILED, 137, "node_fail")),
        (controlled("CANCELLED", "0:15"), JobStatus(JobState.CANCELLED, 143, "cancelled")),
        (
            {"scontrol": FORGOTTEN, "sacct": "echo '7|CANCELLED by 0|0:0|n1'"},
            JobStatus(JobState.CANCELLED, 0, "cancelled by 0"),
        ),
        (
            {"scontrol": FORGOTTEN, "sacct": "echo 'accounting storage is disabled' >&2; exit 1"},
            JobStatus(JobState.MISSING, message="Slurm knows no job 7"),
        ),
    ],
)
def test_what_slurm_says_is_understood(
    said: Mapping[str, str], status: JobStatus, slurm: Fake, tmp_path: Path
) -> None:
    slurm(said)
    assert SlurmLauncher(tmp_path).status("key/7") == status


def test_a_job_is_submitted_once(slurm: Fake, tmp_path: Path) -> None:
    slurm({"sbatch": f"echo x >> {tmp_path}/count; echo '7;cluster'", "squeue": "true"})
    launcher = SlurmLauncher(tmp_path / "jobs")
    assert [launcher.submit("key", JOB) for _ in range(2)] == ["key/7", "key/7"]
    assert (tmp_path / "count").read_text() == "x\n"
    assert SlurmLauncher(tmp_path / "jobs").find("key") == "key/7"


@pytest.mark.parametrize(
    "said",
    [
        {"squeue": 'case "$*" in *--name=key*) echo 7;; esac'},
        {"squeue": "true", "sacct": 'case "$*" in *--name=key*) echo 7;; esac'},
    ],
)
def test_a_job_whose_number_was_never_written_down_is_found_by_its_name(
    said: Mapping[str, str], slurm: Fake, tmp_path: Path
) -> None:
    slurm({**said, "sbatch": "echo 8"})
    assert SlurmLauncher(tmp_path).submit("key", JOB) == "key/7"
    assert SlurmLauncher(tmp_path).find("other") is None


def test_what_slurm_refuses_is_told_in_its_words(slurm: Fake, tmp_path: Path) -> None:
    slurm({"sbatch": "echo 'sbatch: error: invalid partition: gpu' >&2; exit 1", "squeue": "true"})
    with pytest.raises(
        JobError, match=r"sbatch ended with exit code 1 and said: .* partition: gpu"
    ):
        SlurmLauncher(tmp_path).submit("key", JOB)
    assert SlurmLauncher(tmp_path).find("key") is None


@pytest.mark.parametrize(
    "said",
    [
        {"scontrol": "echo 'error: Unable to contact slurm controller' >&2; exit 1"},
        {
            "scontrol": FORGOTTEN,
            "sacct": "echo 'error: Problem talking to the database: ...' >&2; exit 1",
        },
    ],
)
def test_a_slurm_that_does_not_answer_has_not_lost_the_job(
    said: Mapping[str, str], slurm: Fake, tmp_path: Path
) -> None:
    slurm(said)
    with pytest.raises(AwayError, match=r"got no answer from Slurm and said: error: .*; ask again"):
        SlurmLauncher(tmp_path).status("key/7")


def test_a_submission_that_outlives_who_began_it_is_waited_for(slurm: Fake, tmp_path: Path) -> None:
    begun, done = tmp_path / "begun", tmp_path / "done"
    slurm(
        {
            "sbatch": f"touch {begun}; sleep 1; echo 7 >> {done}; echo 7",
            "squeue": f"cat {done} 2>/dev/null; true",
            "sacct": "true",
        }
    )
    child = os.fork()
    if not child:
        SlurmLauncher(tmp_path / "jobs").submit("key", JOB)
        os._exit(0)
    while not begun.exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert SlurmLauncher(tmp_path / "jobs").submit("key", JOB) == "key/7"
    assert done.read_text() == "7\n"


def test_a_machine_without_slurm_is_told_where_to_submit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(JobError, match="squeue is not on this machine; submit from a login node"):
        SlurmLauncher(tmp_path).submit("key", JOB)


def test_an_ended_job_is_not_cancelled_again(slurm: Fake, tmp_path: Path) -> None:
    slurm({**controlled("COMPLETED"), "scancel": f"touch {tmp_path}/cancelled"})
    SlurmLauncher(tmp_path).cancel("key/7")
    assert not (tmp_path / "cancelled").exists()


def test_secrets_of_the_service_reach_no_job(
    slurm: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXDIM_DATABASE", "postgresql://secret")
    slurm({"squeue": "true", "sbatch": f"env > {tmp_path}/environment; echo 7"})
    SlurmLauncher(tmp_path / "jobs").submit("key", JOB)
    assert "postgresql" not in (tmp_path / "environment").read_text()


def test_a_home_may_be_called_what_it_likes(tmp_path: Path) -> None:
    folder = tmp_path / """it's 100% "mine" $x"""
    text = SlurmLauncher(folder).describe("key", JOB)
    (directive,) = re.findall(r"^#SBATCH (--output=.*)", text, re.MULTILINE)
    # sbatch takes quotes as shells do, and % as the beginning of a pattern.
    written = str(folder / "key" / "log.txt").replace("%", "%%")
    assert shlex.split(directive) == [f"--output={written}"]


def test_logs_are_read_from_where_slurm_writes_them(slurm: Fake, tmp_path: Path) -> None:
    slurm(controlled("COMPLETED"))
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "log.txt").write_text("one\ntwo\n")
    launcher = SlurmLauncher(tmp_path)
    assert f"#SBATCH --output={tmp_path}/key/log.txt" in launcher.describe("key", JOB)
    assert list(launcher.logs("key/7")) == ["one", "two"]
    assert list(launcher.logs("key/7", follow=True, offset=4)) == ["two"]
