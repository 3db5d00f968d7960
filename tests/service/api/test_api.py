"""Jobs over HTTP: submitted once, followed, ended, tried again; their owner's and no other's."""

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.jobs import keeper
from tests.service.api.served import MANY, Client, serving, wait_for


def events_of(answer: httpx.Response) -> list[dict[str, str]]:
    """Server-sent events, read by their specification."""
    found = []
    for block in answer.text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name:
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        found += [fields] if fields else []
    return found


def test_a_job_runs_to_its_end(client: Client) -> None:
    answer = client.submit(output="first", name="my-job", priority=3)
    assert answer.status_code == 201
    job = client.wait(answer.json()["id"])
    shown = {name: job[name] for name in ("name", "state", "owner", "exit_code", "priority")}
    assert shown == {
        "name": "my-job",
        "state": "succeeded",
        "owner": "submitter",
        "exit_code": 0,
        "priority": 3,
    }
    home = client.service.home.path
    assert job["command"] == (
        f"mixdim prepare synthetic --output {home}/datasets/first --rows 100".split()
    )
    moves = [event["event"] for event in client.get(f"/jobs/{job['id']}/events")]
    assert moves == ["submit", "start", "run", "succeed"]


def test_the_same_key_is_the_same_job(client: Client) -> None:
    first, again = (client.submit(key="once", output="keyed") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = client.submit(key="once", output="other")
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "conflict"
    client.wait(first.json()["id"])
    assert client.submit(key="once", output="keyed").json()["state"] == "succeeded"


def test_an_output_that_is_there_is_not_written_over(client: Client) -> None:
    taken = client.service.home.path / "datasets" / "taken"
    taken.mkdir()
    (taken / "dataset.json").write_text("{}")
    answer = client.submit(output="taken")
    assert answer.status_code == 409
    assert "'taken' is among the datasets already" in answer.json()["error"]["message"]
    mine = client.submit(output="taken", options={"overwrite": True})
    assert mine.status_code == 403  # it is not this user's
    assert client.submit("admin", output="taken", options={"overwrite": True}).status_code == 201


def test_lists_are_paged_and_filtered(client: Client) -> None:
    made = [client.submit(output=f"p{n}", name="paged").json()["id"] for n in range(5)]
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = client.get(f"/jobs?name=paged&limit=2{cursor and f'&cursor={cursor}'}")
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(made)
    assert client.get("/jobs?name=paged&owner=nobody")["items"] == []
    assert len(client.get("/jobs?name=age")["items"]) == 5  # a part of the name is enough
    assert client.get("/jobs?name=p%25d")["items"] == []  # and no pattern
    for job in made:
        client.wait(job)
    assert len(client.get("/jobs?name=paged&state=succeeded&state=failed")["items"]) == 5


def test_a_job_is_cancelled_by_its_owner_and_tried_again(tmp_path: Path) -> None:
    with serving(tmp_path / "home", "echo begun; exec sleep 100") as client:
        job = client.submit(output="x").json()["id"]
        client.wait(job, "running")
        other = client.service.accounts.create(
            "other", client.service.accounts.find(client.secrets["submitter"]).role
        )[1]  # type: ignore[union-attr]
        strange = {**client.secrets, "other": other}
        stranger = Client(http=client.http, service=client.service, secrets=strange)
        assert stranger.call("POST", f"/api/v1/jobs/{job}/cancel", "other").status_code == 403
        assert client.call("POST", f"/api/v1/jobs/{job}/cancel").json()["state"] == "cancelling"
        assert client.wait(job)["state"] == "cancelled"
        refused = client.call("POST", f"/api/v1/jobs/{job}/cancel")
        assert (refused.status_code, refused.json()["error"]["message"]) == (
            409,
            "the job is cancelled, and cannot cancel",
        )
        again = client.call("POST", f"/api/v1/jobs/{job}/retry").json()
        assert again["attempts"] == 2
        client.wait(job, "running")
        assert client.call("POST", f"/api/v1/jobs/{job}/cancel", "admin").status_code == 200
        client.wait(job)


def test_a_log_is_read_whole_from_an_offset_and_as_it_grows(tmp_path: Path) -> None:
    script = r"printf 'one\ntwo 50%%\rtwo 100%%\n'; sleep 0.3; echo dreißig"
    with serving(tmp_path / "home", script) as client:
        job = client.submit(output="x").json()["id"]
        client.wait(job, "running", "succeeded")
        path = f"/api/v1/jobs/{job}/logs"
        events = events_of(client.call("GET", f"{path}?follow=true"))
        *lines, end = events
        assert [line["data"] for line in lines] == ["one", "two 50%\ntwo 100%", "dreißig"]
        assert (end["event"], json.loads(end["data"])) == ("end", {"state": "succeeded"})
        text = client.call("GET", path).content
        assert text == "one\ntwo 50%\rtwo 100%\ndreißig\n".encode()
        for line in lines:
            rest = client.call("GET", f"{path}?offset={line['id']}").content
            assert rest == text[int(line["id"]) :]


def test_a_user_follows_so_many_logs_at_a_time_and_another_when_one_is_closed(
    tmp_path: Path,
) -> None:
    limits = replace(MANY, followers_per_user=2)
    with serving(tmp_path / "home", "sleep 100", limits=limits) as client:
        job = client.submit(output="x").json()["id"]
        path = f"/api/v1/jobs/{job}/logs?follow=true"

        def follow(role: str) -> contextlib.AbstractContextManager[httpx.Response]:
            headers = {"Authorization": f"Bearer {client.secrets[role]}"}
            return client.http.stream("GET", path, headers=headers)

        with follow("viewer") as first, follow("viewer") as second:
            assert (first.status_code, second.status_code) == (200, 200)
            refused = client.call("GET", path, "viewer")
            assert refused.status_code == 429
            assert "follows 2 logs" in refused.json()["error"]["message"]
            with follow("submitter") as others:
                assert others.status_code == 200
            second.close()
            wait_for(lambda: len(client.service.streams["viewer"]) == 1)
            with follow("viewer") as another:
                assert another.status_code == 200
        client.call("POST", f"/api/v1/jobs/{job}/cancel")


def test_a_job_that_failed_says_why(tmp_path: Path) -> None:
    home = tmp_path / "home"
    error = f"mixdim prepare: error: {home}/uploads/a.csv: no such column"
    with serving(home, rf"printf 'begun\n{error}\nbye\377\n'; exit 2") as client:
        job = client.wait(client.submit(output="x").json()["id"])
        said = "exit code 2: mixdim prepare: error: uploads/a.csv: no such column"
        assert (job["state"], job["message"]) == ("failed", said)
        assert client.get(f"/jobs/{job['id']}/events")[-1]["message"] == said


def test_a_revoked_token_reads_a_log_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.logs.ALIVE_SECONDS", 0.1)
    with serving(tmp_path / "home", "sleep 100") as client:
        job = client.submit(output="x").json()["id"]
        client.wait(job, "running")
        accounts = client.service.accounts
        token = accounts.find(client.secrets["viewer"])
        assert token is not None
        headers = {"Authorization": f"Bearer {client.secrets['viewer']}"}
        path = f"/api/v1/jobs/{job}/logs?follow=true"
        with client.http.stream("GET", path, headers=headers) as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": alive"
            accounts.revoke(token.token)
            assert [line for line in lines if line.startswith(("data", "event"))] == []
        client.call("POST", f"/api/v1/jobs/{job}/cancel")
        client.wait(job)


def test_jobs_outlive_the_service_and_are_found_again(tmp_path: Path) -> None:
    home, go = tmp_path / "home", tmp_path / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.05; done"
    with serving(home, script) as client:
        job = client.submit(output="x").json()["id"]
        client.wait(job, "running")
    assert not (home / "jobs" / job / keeper.EXIT_FILE).exists()
    go.touch()
    wait_for((home / "jobs" / job / keeper.EXIT_FILE).exists)
    with serving(home, script) as client:
        assert client.wait(job)["state"] == "succeeded"


def test_tokens_are_made_and_revoked_over_http_and_all_is_noted(client: Client) -> None:
    body = {"name": "ci", "role": "viewer", "expires_at": time.time() + 60}
    made = client.call("POST", "/api/v1/tokens", "admin", json=body).json()
    mine = {"Authorization": f"Bearer {made['secret']}"}
    assert client.http.get("/api/v1/me", headers=mine).json() == {"name": "ci", "role": "viewer"}
    path = f"/api/v1/tokens/{made['token']['id']}"
    assert client.call("DELETE", path, "admin").status_code == 204
    assert client.http.get("/api/v1/me", headers=mine).status_code == 401
    noted: list[dict[str, Any]] = client.get("/audit", "admin")["items"]
    target = made["token"]["id"]
    assert [line["action"] for line in noted if line["target"] == target] == [
        "tokens.revoke",
        "tokens.create",
    ]
    assert made["secret"] not in json.dumps([noted, client.get("/tokens", "admin")])


def test_the_service_says_how_it_is(client: Client) -> None:
    assert client.http.get("/healthz").json() == {"status": "ok"}
    assert client.http.get("/readyz").json() == {"status": "ready"}
    page = client.call("GET", "/metrics", "viewer").text
    assert 'mixdim_service_jobs{state="running"}' in page
    assert "mixdim_service_requests_total{" in page
