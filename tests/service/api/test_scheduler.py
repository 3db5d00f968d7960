"""The loop: it starts jobs in their turn, within limits, and goes on wherever it was killed."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from service.api.config import Limits, ServiceConfig
from service.api.database import connect, upgrade
from service.api.jobs import Jobs
from service.api.records import NewJob
from service.api.scheduler import PORT_ATTEMPTS, Scheduler, as_job
from service.api.states import Event, State
from service.job import JobError
from service.jobs.launcher import AwayError, Job, JobState, JobStatus
from service.metrics.service import ServiceMetrics

REQUEST = {"nodes": 1, "ranks_per_node": 1, "host": "cpu-small", "image": None, "max_retries": 0}
NEW = NewJob(
    owner="ann", name="a", verb="train", arguments=("smoke",), request=REQUEST, request_sha256="a"
)


@dataclass
class Memory:
    """A launcher whose jobs end when the test says so."""

    jobs: dict[str, JobState] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)
    refuses: bool = False
    said: tuple[str, ...] = ()
    trouble: Exception | None = None
    """What every question is answered with."""

    def submit(self, key: str, job: Job) -> str:
        if self.trouble:
            raise self.trouble
        if self.refuses:
            raise JobError("no machine")
        if key not in self.jobs:
            self.submitted.append(key)
            self.jobs[key] = JobState.RUNNING
        return key

    def find(self, key: str) -> str | None:
        return key if key in self.jobs else None

    def status(self, handle: str) -> JobStatus:
        if self.trouble:
            raise self.trouble
        return JobStatus(self.jobs.get(handle, JobState.MISSING), hosts=("n1",))

    def logs(self, handle: str, *, follow: bool = False, offset: int = 0) -> Iterator[str]:
        return iter(self.said)

    def cancel(self, handle: str) -> None:
        self.jobs[handle] = JobState.CANCELLED


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    engine: Engine = connect(f"sqlite:///{tmp_path / 'records.db'}")
    upgrade(engine)
    yield Jobs(engine, waiting_per_user=100)
    engine.dispose()


def turns(
    jobs: Jobs,
    launcher: Memory,
    number: int = 1,
    cluster: Memory | None = None,
    *,
    ports: tuple[int, int] = (9400, 9899),
    **limits: Any,
) -> None:
    """What a service does that is started, takes some turns, and is killed."""
    config = ServiceConfig(limits=Limits(**limits), metrics_ports=ports)
    launchers = {"local": launcher, "cluster": cluster or launcher}
    scheduler = Scheduler(jobs, launchers, config, ServiceMetrics(CollectorRegistry()))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(number):
            scheduler.turn(pool)


def states(jobs: Jobs, ids: Sequence[str]) -> list[str]:
    return [jobs.get(job).state.value for job in ids]


def test_a_job_goes_from_the_queue_to_its_end(jobs: Jobs) -> None:
    launcher = Memory()
    job = jobs.create(NEW)[0].id
    turns(jobs, launcher)
    assert states(jobs, [job]) == ["running"]
    turns(jobs, launcher)
    assert jobs.get(job).hosts == ("n1",)
    launcher.jobs[job] = JobState.SUCCEEDED
    turns(jobs, launcher)
    assert [event.event for event in jobs.events(job)] == ["submit", "start", "run", "succeed"]


def test_a_service_killed_before_submitting_submits_once(jobs: Jobs) -> None:
    launcher = Memory()
    job = jobs.create(NEW)[0].id
    jobs.move(job, Event.START)  # killed here
    turns(jobs, launcher, 3)
    assert launcher.submitted == [job]
    assert states(jobs, [job]) == ["running"]


def test_a_service_killed_after_submitting_finds_its_job(jobs: Jobs) -> None:
    launcher = Memory()
    job = jobs.create(NEW)[0].id
    jobs.move(job, Event.START)
    launcher.submit(job, Job(verb="train"))  # killed here
    turns(jobs, launcher, 3)
    assert launcher.submitted == [job]
    assert states(jobs, [job]) == ["running"]


@pytest.mark.parametrize("was_submitted", [False, True])
def test_a_cancelled_start_ends_whether_it_was_submitted_or_not(
    was_submitted: bool, jobs: Jobs
) -> None:
    launcher = Memory()
    job = jobs.create(NEW)[0].id
    jobs.move(job, Event.START)
    if was_submitted:
        launcher.submit(job, Job(verb="train"))
    jobs.move(job, Event.CANCEL)
    turns(jobs, launcher, 2)
    assert states(jobs, [job]) == ["cancelled"]
    assert JobState.RUNNING not in launcher.jobs.values()


def test_a_job_that_its_scheduler_forgot_has_failed(jobs: Jobs) -> None:
    launcher = Memory()
    job = jobs.create(NEW)[0].id
    turns(jobs, launcher)
    launcher.jobs.clear()
    turns(jobs, launcher)
    assert states(jobs, [job]) == ["failed"]
    assert jobs.get(job).message == "its scheduler knows it no more"


def test_a_job_that_is_not_taken_fails_with_the_reason(jobs: Jobs) -> None:
    job = jobs.create(NEW)[0].id
    turns(jobs, Memory(refuses=True))
    assert (jobs.get(job).state, jobs.get(job).message) == (State.FAILED, "no machine")


def test_jobs_of_a_scheduler_that_does_not_answer_stay_as_they_are(jobs: Jobs) -> None:
    here, cluster = Memory(), Memory()
    running = jobs.create(replace(NEW, scheduler="cluster"))[0].id
    turns(jobs, here, 1, cluster)
    cluster.trouble = AwayError("no answer")
    late, local = (jobs.create(replace(NEW, scheduler=s))[0].id for s in ("cluster", "local"))
    turns(jobs, here, 3, cluster)
    assert states(jobs, [running, late, local]) == ["running", "queued", "running"]
    cluster.trouble = None
    turns(jobs, here, 1, cluster)
    assert cluster.submitted == [running, late]


def test_a_submission_without_an_answer_is_made_again(jobs: Jobs) -> None:
    cluster = Memory(trouble=AwayError("no answer"))
    job = jobs.create(replace(NEW, scheduler="cluster"))[0].id
    turns(jobs, Memory(), 2, cluster)
    assert states(jobs, [job]) == ["starting"]
    cluster.trouble = None
    turns(jobs, Memory(), 2, cluster)
    assert cluster.submitted == [job]
    assert states(jobs, [job]) == ["running"]


def test_whatever_a_launcher_raises_the_others_are_looked_at(jobs: Jobs) -> None:
    here, cluster = Memory(), Memory()
    ids = [jobs.create(replace(NEW, scheduler=s))[0].id for s in ("cluster", "local")]
    turns(jobs, here, 1, cluster)
    cluster.trouble = ZeroDivisionError("a library of a scheduler")
    here.jobs[ids[1]] = JobState.SUCCEEDED
    turns(jobs, here, 1, cluster)
    assert states(jobs, ids) == ["running", "succeeded"]


def test_a_scheduler_that_is_gone_fails_its_jobs(jobs: Jobs) -> None:
    job = jobs.create(replace(NEW, scheduler="gone"))[0].id
    turns(jobs, Memory(), 2)
    assert states(jobs, [job]) == ["failed"]


def test_another_try_is_another_submission(jobs: Jobs) -> None:
    launcher = Memory()
    job = jobs.create(NEW)[0].id
    turns(jobs, launcher)
    launcher.jobs[job] = JobState.FAILED
    turns(jobs, launcher)
    jobs.move(job, Event.RETRY)
    turns(jobs, launcher)
    assert launcher.submitted == [job, f"{job}-2"]
    assert "--resume" in as_job(jobs.get(job), ServiceConfig()).arguments


def test_a_user_runs_as_many_as_may_be_and_others_pass(jobs: Jobs) -> None:
    anns = [jobs.create(NEW)[0].id for _ in range(3)]
    bobs = jobs.create(replace(NEW, owner="bob"))[0].id
    turns(jobs, Memory(), running_per_user=2)
    assert states(jobs, [*anns, bobs]) == ["running", "running", "queued", "running"]


def test_a_user_holds_as_many_gpus_as_may_be(jobs: Jobs) -> None:
    large, small = (jobs.create(replace(NEW, num_gpus=number))[0].id for number in (6, 2))
    larger = jobs.create(replace(NEW, num_gpus=1, scheduler="cluster"))[0].id
    turns(jobs, Memory(), gpus_per_user=8)
    assert states(jobs, [large, small, larger]) == ["running", "running", "queued"]


def test_this_machine_runs_as_many_as_it_may_and_clusters_more(jobs: Jobs) -> None:
    first, second = (jobs.create(NEW)[0].id for _ in range(2))
    far = jobs.create(replace(NEW, scheduler="cluster"))[0].id
    turns(jobs, Memory(), local_jobs=1)
    assert states(jobs, [first, second, far]) == ["running", "queued", "running"]


def test_the_more_urgent_starts_first(jobs: Jobs) -> None:
    launcher = Memory()
    ids = [jobs.create(replace(NEW, priority=number))[0].id for number in (0, 3, 1)]
    turns(jobs, launcher, 1, local_jobs=1)
    launcher.jobs[ids[1]] = JobState.SUCCEEDED
    turns(jobs, launcher, 1, local_jobs=1)
    assert launcher.submitted == [ids[1], ids[2]]


def test_no_two_live_jobs_share_a_port(jobs: Jobs) -> None:
    ids = [jobs.create(replace(NEW, num_ports=3))[0].id for _ in range(4)]
    turns(jobs, Memory())
    firsts = [jobs.get(job).metrics_port or 0 for job in ids]
    taken = {port for first in firsts for port in range(first, first + 3)}
    assert len(taken) == 12
    assert "--metrics-port" in as_job(jobs.get(ids[0]), ServiceConfig()).arguments


TAKEN = "mixdim train: error: metrics port 9401 on 0.0.0.0 of local rank 1: Address already in use"


@pytest.mark.parametrize("scheduler", ["local", "cluster"])
def test_a_job_whose_ports_somebody_took_starts_again_with_others(
    scheduler: str, jobs: Jobs
) -> None:
    launcher = Memory(said=(TAKEN,))
    job = jobs.create(replace(NEW, num_ports=2, scheduler=scheduler))[0].id
    ports: list[int] = []
    for attempt in range(PORT_ATTEMPTS):
        turns(jobs, launcher, 2)
        running = jobs.get(job)
        assert (running.state, running.attempt) == (State.RUNNING, attempt + 1)
        ports.append(running.metrics_port or 0)
        launcher.jobs[running.key] = JobState.FAILED
    assert len({port + rank for port in ports for rank in range(2)}) == 2 * PORT_ATTEMPTS
    turns(jobs, launcher)
    assert (jobs.get(job).state, jobs.get(job).message) == (State.FAILED, TAKEN)
    assert [event.event for event in jobs.events(job)][:5] == [
        *("submit", "start", "run", "again", "start")
    ]


def test_a_job_that_fails_for_another_reason_has_failed(jobs: Jobs) -> None:
    launcher = Memory(said=("mixdim train: error: port: Address already in use",))
    job = jobs.create(replace(NEW, num_ports=2))[0].id
    turns(jobs, launcher)
    launcher.jobs[job] = JobState.FAILED
    turns(jobs, launcher)
    assert states(jobs, [job]) == ["failed"]


def test_ports_begin_anew_where_they_end(jobs: Jobs) -> None:
    job = jobs.create(replace(NEW, num_ports=2, scheduler="cluster"))[0].id
    launcher = Memory(said=(TAKEN,))
    given = []
    for _ in range(3):
        turns(jobs, launcher, 2, ports=(9400, 9403))
        given.append(jobs.get(job).metrics_port)
        launcher.jobs[jobs.get(job).key] = JobState.FAILED
    assert given == [9400, 9402, 9400]
