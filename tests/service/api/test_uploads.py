"""Raw logs sent over HTTP: whole or not at all, never elsewhere, removed by whoever sent them."""

import errno
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.api.app import API
from service.api.config import Limits
from service.api.uploads import ARRIVING
from tests.service.api.served import PREPARE, Client, serving, wait_for
from tests.service.api.test_confinement import HOSTILE

MOST = 5000
UPLOADS = f"{API}/uploads"
LIMITS = Limits(requests_per_second=1e6, burst=10**6, upload_bytes=MOST, body_bytes=2000)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service that was killed while something arrived; its operator has put a file there."""
    home = tmp_path_factory.mktemp("uploads") / "home"
    draft = home / "uploads" / ARRIVING / "draft"
    draft.parent.mkdir(parents=True)
    draft.write_text("half")
    (home / "uploads" / "operators.csv").write_text("1,2")
    (home / "uploads" / "out").symlink_to(home.parent)
    with serving(home, "sleep 100", limits=LIMITS) as served:
        assert not draft.exists()
        yield served


def put(
    client: Client, name: str, content: bytes | Iterator[bytes], role: str = "submitter"
) -> int:
    return client.call("PUT", f"{UPLOADS}/{name}", role, content=content).status_code


def folder(client: Client) -> Path:
    return client.service.home.path / "uploads"


def begin(client: Client, path: str, length: int, part: bytes) -> socket.socket:
    """A request as it is typed, with a part of its body."""
    found = socket.create_connection((client.http.base_url.host, client.http.base_url.port or 0))
    token = f"Authorization: Bearer {client.secrets['submitter']}"
    lines = (f"PUT {path} HTTP/1.1", "Host: x", token, f"Content-Length: {length}", "", "")
    found.sendall("\r\n".join(lines).encode() + part)
    return found


def test_what_is_sent_is_there_whole_and_has_its_owner(client: Client) -> None:
    content = bytes(range(256)) * 10
    answer = client.call("PUT", f"{UPLOADS}/days/Day_0.gz", content=content)
    assert (answer.status_code, answer.json()) == (
        201,
        {"name": "days/Day_0.gz", "bytes": len(content), "owner": "submitter"},
    )
    assert (folder(client) / "days" / "Day_0.gz").read_bytes() == content
    listed = client.get("/uploads?name=a", "viewer")["items"]
    assert listed == [
        {"name": "days/Day_0.gz", "bytes": len(content), "owner": "submitter"},
        {"name": "operators.csv", "bytes": 3, "owner": None},
    ]
    page = client.get("/uploads?limit=1")
    assert [item["name"] for item in page["items"]] == [page["next_cursor"]] == ["days/Day_0.gz"]


def test_a_name_is_given_once(client: Client) -> None:
    assert [put(client, "once", content) for content in (b"first", b"second")] == [201, 409]
    assert (folder(client) / "once").read_bytes() == b"first"
    for taken in ("once/below", "operators.csv"):
        assert put(client, taken, b"x") == 409


def test_of_many_who_send_a_name_at_once_one_is_kept_whole(client: Client) -> None:
    statuses: list[int] = []
    together = threading.Barrier(8)

    def send(sign: bytes) -> None:
        def parts() -> Iterator[bytes]:
            yield sign * 1000
            together.wait(20)
            yield sign * 1000

        with httpx.Client(base_url=client.http.base_url, timeout=30) as http:
            one = Client(http=http, service=client.service, secrets=client.secrets)
            statuses.append(put(one, "race", parts()))

    threads = [threading.Thread(target=send, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, *[409] * 7]
    kept = (folder(client) / "race").read_bytes()
    assert len(kept) == 2000
    assert len(set(kept)) == 1


def test_a_file_is_as_large_as_may_be_and_other_bodies_stay_small(client: Client) -> None:
    assert put(client, "largest", b"x" * MOST) == 201
    for content in (b"x" * (MOST + 1), (b"x" * 500 for _ in range(11))):
        answer = client.call("PUT", f"{UPLOADS}/too-large", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    padded = {**PREPARE, "name": "x" * 2000}
    assert client.call("POST", f"{API}/jobs", json=padded).status_code == 413
    assert nothing_else(client, "too-large")


def test_a_broken_connection_leaves_nothing_behind(client: Client) -> None:
    arriving = folder(client) / ARRIVING
    with begin(client, f"{UPLOADS}/broken", MOST, b"half of it"):
        wait_for(lambda: [*arriving.iterdir()])
    wait_for(lambda: not [*arriving.iterdir()])
    assert nothing_else(client, "broken")
    assert put(client, "broken", b"whole") == 201


def test_a_full_disk_is_said_to_be_full(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("service.api.uploads.os.fsync", full)
    assert put(client, "no-room", b"x") == 507
    assert nothing_else(client, "no-room")


def nothing_else(client: Client, name: str) -> bool:
    return not (folder(client) / name).exists() and not [*(folder(client) / ARRIVING).iterdir()]


def test_no_name_leads_out(client: Client) -> None:
    home = client.service.home.path
    before = {path for path in home.parent.rglob("*") if folder(client) not in path.parents}
    above = ("../../x", "../datasets/x", "days/../../x", "/etc/x", "out/x")
    above += (f"{ARRIVING}/x", "a/b/c/d/e", "a//b")
    for name in (*HOSTILE, *above):
        with begin(client, f"{UPLOADS}/{name}", 1, b"x") as asked:
            status = int(asked.recv(100).split()[1])
        assert status in (201, 400, 404, 405, 409, 422), name
    after = {path for path in home.parent.rglob("*") if folder(client) not in path.parents}
    assert {path for path in after - before if not path.is_relative_to(home / "jobs")} == set()
    assert {item["name"] for item in client.get("/uploads")["items"]} >= {"CON", "LINK"}


def test_a_file_is_removed_by_its_owner_or_an_admin(client: Client) -> None:
    put(client, "mine/a", b"1")
    put(client, "mine/b", b"2", "admin")

    def remove(name: str, role: str = "submitter") -> int:
        return client.call("DELETE", f"{UPLOADS}/{name}", role).status_code

    assert [remove(name) for name in ("mine/a", "mine/a", "mine/b")] == [204, 404, 403]
    assert remove("operators.csv") == 403
    assert [remove("mine/b", "admin"), remove("operators.csv", "admin")] == [204, 204]
    assert not (folder(client) / "mine").exists()
    (folder(client) / "mine").mkdir()
    (folder(client) / "mine" / "a").write_text("the operator's")
    assert [remove("mine/a"), remove("mine")] == [403, 404]


def test_a_file_that_a_job_reads_stays(client: Client) -> None:
    put(client, "read.csv", b"a,b")
    body = {"verb": "prepare", "method": "criteo", "inputs": ["read.csv"]}
    job = client.call("POST", f"{API}/jobs", json=body).json()["id"]
    refused = client.call("DELETE", f"{UPLOADS}/read.csv")
    assert (refused.status_code, job in refused.text) == (409, True)
    client.call("POST", f"{API}/jobs/{job}/cancel")
    client.wait(job)
    assert client.call("DELETE", f"{UPLOADS}/read.csv").status_code == 204
    noted = client.get("/audit", "admin")["items"]
    about = [(line["action"], line["outcome"]) for line in noted if line["target"] == "read.csv"]
    assert about == [
        ("uploads.remove", "done"),
        ("uploads.remove", f"refused: job {job} is to read 'read.csv'"),
        ("uploads.send", "done"),
    ]
