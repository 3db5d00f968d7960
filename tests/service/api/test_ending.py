"""A service that ends with its container: its jobs write their checkpoints first, if it says so."""

import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.api.config import ServiceConfig
from service.api.database import connect, upgrade
from service.api.jobs import Jobs
from service.api.records import NewJob
from service.api.scheduler import Scheduler
from service.api.states import Event
from service.jobs.launcher import JobState
from service.jobs.local import LocalLauncher
from service.metrics import ServiceMetrics

REQUEST = {"nodes": 1, "ranks_per_node": 1, "host": "cpu-small", "image": None, "max_retries": 0}
NEW = NewJob(
    owner="ann", name="a", verb="train", arguments=("smoke",), request=REQUEST, request_sha256="a"
)


@pytest.mark.parametrize(
    ("end_jobs", "tries", "state"),
    [(True, 1, JobState.CANCELLED), (True, 2, JobState.CANCELLED), (False, 1, JobState.RUNNING)],
)
def test_jobs_of_this_machine_end_with_the_service_where_they_are_to(
    end_jobs: bool, tries: int, state: JobState, tmp_path: Path
) -> None:
    script = f"trap 'echo saved > {tmp_path}/checkpoint; exit 143' TERM; echo > {tmp_path}/on;"
    command = ["/bin/sh", "-c", f"{script} sleep 60 & wait"]
    launcher = LocalLauncher(tmp_path / "jobs", command=lambda job: command, grace_seconds=20)
    engine = connect(f"sqlite:///{tmp_path / 'records.db'}")
    upgrade(engine)
    jobs = Jobs(engine, waiting_per_user=100)
    config = ServiceConfig(poll_seconds=0.05, end_jobs=end_jobs)
    scheduler = Scheduler(jobs, {"local": launcher}, config, ServiceMetrics(CollectorRegistry()))
    job = jobs.create(NEW)[0]
    for event in (Event.START, Event.FAIL, Event.RETRY) * (tries - 1):
        job = jobs.move(job.id, event)
    scheduler.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "on").exists():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)
    scheduler.stop()
    assert launcher.status(job.key).state is state
    assert (tmp_path / "checkpoint").exists() is end_jobs
    launcher.cancel(job.key)
    engine.dispose()
