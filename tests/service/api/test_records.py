"""Records, on SQLite and on PostgreSQL alike: written once per key, moved by the table alone."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect

from service.api.accounts import Accounts, Role
from service.api.belonging import claim
from service.api.database import connect, downgrade, metadata, upgrade
from service.api.errors import ApiError
from service.api.jobs import Jobs
from service.api.records import Filter, NewJob, Record
from service.api.states import Event, IllegalMove, State

NEW = NewJob(
    owner="ann", name="size", verb="size", arguments=("data",), request={}, request_sha256="a"
)


@pytest.fixture
def jobs(engine: Engine) -> Jobs:
    return Jobs(engine, waiting_per_user=5)


def test_migrations_make_the_tables_that_the_code_knows(engine: Engine) -> None:
    found = inspect(engine)
    assert {*found.get_table_names()} == {*metadata.tables, "alembic_version"}
    for name, table in metadata.tables.items():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        indexes = {index["name"] for index in found.get_indexes(name)}
        assert {str(index.name) for index in table.indexes} <= indexes


def test_migrations_can_be_taken_back_and_made_again(engine: Engine) -> None:
    downgrade(engine, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    upgrade(engine)
    upgrade(engine)  # nothing is left to do
    assert "jobs" in inspect(engine).get_table_names()


def test_all_who_find_no_tables_may_make_them_at_once(engine: Engine) -> None:
    downgrade(engine, "base")
    others = [connect(engine.url.render_as_string(hide_password=False)) for _ in range(3)]
    with ThreadPoolExecutor(len(others)) as pool:
        assert list(pool.map(upgrade, others)) == [None] * len(others)
    for other in others:
        other.dispose()


def test_records_belong_to_the_first_home_that_is_served_wherever_it_is_moved(
    engine: Engine, tmp_path: Path
) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    first.mkdir()
    other.mkdir()
    claim(engine, first)
    claim(engine, first.rename(tmp_path / "moved"))
    with pytest.raises(ValueError, match=r"are not of .*other, but of another home") as refused:
        claim(engine, other)
    told = re.search(r"write (\w+) into (\S+)", str(refused.value))
    assert told is not None
    Path(told[2]).write_text(told[1])
    claim(engine, other)


def test_a_database_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'mysql', expected sqlite"):
        connect("mysql://host/name")


def test_a_key_stands_for_one_job_of_its_owner(jobs: Jobs) -> None:
    keyed = replace(NEW, idempotency_key="k")
    first, is_new = jobs.create(keyed)
    again, is_new_again = jobs.create(keyed)
    others, is_others_new = jobs.create(replace(keyed, owner="bob"))
    assert (is_new, is_new_again, is_others_new) == (True, False, True)
    assert first.id == again.id != others.id
    with pytest.raises(ApiError, match="was asked something else"):
        jobs.create(replace(keyed, request_sha256="b"))


def test_jobs_are_in_the_order_of_their_submission_however_fast_they_come(jobs: Jobs) -> None:
    made = [jobs.create(replace(NEW, owner=f"user-{n}"))[0].id for n in range(50)]
    assert [job.id for job in jobs.unfinished()] == made
    assert [job.id for job in jobs.page(Filter(), 100)] == made[::-1]


def test_many_who_send_a_key_at_once_get_one_job(jobs: Jobs) -> None:
    found: list[Record] = []
    keyed = replace(NEW, idempotency_key="k")
    threads = [
        threading.Thread(target=lambda: found.append(jobs.create(keyed)[0])) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len({job.id for job in found}) == 1
    assert len(jobs.page(Filter(), 100)) == 1


def test_one_of_many_moves_at_once_is_done(jobs: Jobs) -> None:
    job, _ = jobs.create(NEW)
    done: list[str] = []

    def move() -> None:
        try:
            jobs.move(job.id, Event.START)
            done.append("moved")
        except IllegalMove:
            done.append("refused")

    threads = [threading.Thread(target=move) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["moved", *["refused"] * 7]
    assert [event.event for event in jobs.events(job.id)] == ["submit", "start"]


def test_what_happens_is_written_down_with_its_facts(jobs: Jobs) -> None:
    job, _ = jobs.create(replace(NEW, num_ports=2))
    jobs.move(job.id, Event.START, metrics_port=9400)
    jobs.move(job.id, Event.RUN, handle="h")
    jobs.note_facts(job.id, hosts=["n1"])
    running = jobs.get(job.id)
    assert (running.handle, running.hosts, running.metrics_port) == ("h", ("n1",), 9400)
    ended = jobs.move(job.id, Event.FAIL, "no room", exit_code=1)
    assert (ended.state, ended.message, ended.exit_code) == (State.FAILED, "no room", 1)
    assert (ended.metrics_port, ended.hosts) == (None, ())
    assert [event.state for event in jobs.events(job.id)] == [*[*State][:3], State.FAILED]


def test_another_try_has_a_key_of_its_own_and_no_past(jobs: Jobs) -> None:
    job, _ = jobs.create(NEW)
    jobs.move(job.id, Event.START)
    failed = jobs.move(job.id, Event.FAIL, "no", exit_code=1)
    again = jobs.move(job.id, Event.RETRY)
    assert (failed.key, again.key) == (job.id, f"{job.id}-2")
    assert (again.exit_code, again.ended_at, again.handle) == (None, None, None)


def test_no_two_jobs_write_one_folder(jobs: Jobs) -> None:
    first, _ = jobs.create(replace(NEW, folder="runs/a"))
    with pytest.raises(ApiError, match=f"job {first.id} is writing runs/a"):
        jobs.create(replace(NEW, folder="runs/a"))
    jobs.move(first.id, Event.CANCEL)
    second, _ = jobs.create(replace(NEW, folder="runs/a"))
    with pytest.raises(ApiError, match=f"job {second.id} is writing runs/a"):
        jobs.move(first.id, Event.RETRY)


def test_a_user_cannot_fill_the_queue(jobs: Jobs) -> None:
    for _ in range(5):
        jobs.create(NEW)
    with pytest.raises(ApiError, match="5 jobs of ann wait already"):
        jobs.create(NEW)
    jobs.create(replace(NEW, owner="bob"))


def test_pages_are_whole_and_in_order(jobs: Jobs) -> None:
    made = [jobs.create(replace(NEW, owner=f"u{number}"))[0].id for number in range(7)]
    seen: list[str] = []
    while page := jobs.page(Filter(before=seen[-1] if seen else None), 3):
        seen += [job.id for job in page]
    assert sorted(seen, reverse=True) == seen
    assert sorted(seen) == sorted(made)


def test_filters_find_what_they_name(jobs: Jobs) -> None:
    for owner, name in (("ann", "x"), ("bob", "x"), ("bob", "y")):
        jobs.create(replace(NEW, owner=owner, name=name))
    wanted: list[tuple[dict[str, Any], int]] = [
        ({"owner": "bob"}, 2),
        ({"owner": "bob", "name": "x"}, 1),
        ({"states": (State.RUNNING,)}, 0),
        ({"verb": "size"}, 3),
    ]
    assert [len(jobs.page(Filter(**which), 9)) for which, _ in wanted] == [n for _, n in wanted]
    assert jobs.count()["queued"] == 3


def test_the_queue_goes_by_priority_and_then_by_age(jobs: Jobs) -> None:
    low, high, later = (
        jobs.create(replace(NEW, priority=priority))[0].id for priority in (0, 5, 0)
    )
    assert next(job.id for job in jobs.unfinished()) == high
    assert {job.id for job in jobs.unfinished()[1:]} == {low, later}


def test_tokens_are_good_until_they_expire_or_are_revoked(engine: Engine) -> None:
    accounts = Accounts(engine)
    assert accounts.are_none()
    token, secret = accounts.create("ann", Role.VIEWER)
    _, old = accounts.create("ann", Role.VIEWER, expires_at=1.0)
    found = accounts.find(secret)
    assert found is not None
    assert (found.name, found.role) == ("ann", Role.VIEWER)
    assert accounts.find(old) is accounts.find("wrong") is accounts.find("\udc80") is None
    assert (accounts.revoke(token.id), accounts.revoke(token.id)) == (True, False)
    assert accounts.find(secret) is None


def test_a_secret_is_kept_nowhere(engine: Engine) -> None:
    _, secret = Accounts(engine).create("ann", Role.ADMIN)
    with engine.connect() as connection:
        rows = connection.execute(metadata.tables["tokens"].select()).all()
    assert secret not in str(rows)
    assert secret.removeprefix("mixdim_") not in str(rows)
