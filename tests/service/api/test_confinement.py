"""What requests name stays within the service's folder; what they send stays small."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.api.config import Limits
from service.api.errors import ApiError
from service.api.guards import Rate
from service.api.home import Home
from tests.service.api.served import PREPARE, Client, serving

SECRET = "what nobody may read"
HOSTILE = (
    *("..", ".", "../secret", "..%2fsecret", "%2e%2e%2fsecret", "..%252fsecret", "....//secret"),
    *("/etc/passwd", "//etc/passwd", "a/../../secret", "a\\..\\secret", "%00", "a%00.json"),
    *("~root", "$(id)", "`id`", "a;id", "a|id", "-rf", "--help", "%0d%0aX-Bad:1", "a%20b"),
    *("%ff", "\u202e", "%ed%a0%80", "a" * 300, "LINK", "link", "loop", "CON", ".hidden"),
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service with a secret beside its folder, and links that lead to it."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret").write_text(SECRET)
    home = Home(folder / "home")
    run = home.path / "runs" / "a"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "link").symlink_to(folder / "secret")
    (run / "loop").symlink_to(run / "loop")
    for kind in ("runs", "datasets", "sizings", "frontiers"):
        (home.path / kind / "link").symlink_to(folder)
    with serving(folder / "home") as client:
        yield client


def test_no_address_leads_out(hostile: Client) -> None:
    whats = ("datasets/{}", "sizings/{}", "frontiers/{}", "runs/{}", "runs/{}/metrics")
    whats += ("runs/{}/explain", "runs/{}/placement", "runs/{}/files", "runs/{}/files/run.json")
    whats += ("runs/a/files/{}", "jobs/{}", "jobs/{}/logs", "jobs/{}/events")
    for what, name in itertools.product(whats, HOSTILE):
        path = f"/api/v1/{what.format(name)}"
        answer = hostile.call("GET", path, "viewer")
        assert answer.status_code in (200, 404, 405, 422), (path, answer.status_code, answer.text)
        if answer.status_code == 200:  # the client has taken the dots out itself
            assert ".." in name or name == ".", path
        assert SECRET not in answer.text


@pytest.mark.parametrize("name", [name for name in HOSTILE if "%" not in name])
def test_no_request_names_what_is_elsewhere(name: str, hostile: Client) -> None:
    for field in ("output", "data", "sizing", "run", "preset", "method", "host", "scheduler"):
        body = {"verb": "train", "preset": "smoke", "data": "link", field: name}
        answer = hostile.call("POST", "/api/v1/jobs", json=body)
        assert answer.status_code in (404, 422), (field, answer.text)
    for body in ({**PREPARE, "inputs": [name]}, {**PREPARE, "options": {name: 1}}):
        assert hostile.call("POST", "/api/v1/jobs", json=body).status_code in (404, 422)
    upload = {"name": name, "sizing": {}}
    assert hostile.call("POST", "/api/v1/sizings", json=upload).status_code in (404, 422)
    assert not list(hostile.service.home.path.parent.glob("*.json"))


def test_a_file_of_a_run_is_downloaded_and_a_link_is_not(hostile: Client) -> None:
    answer = hostile.call("GET", "/api/v1/runs/a/files/run.json", "viewer")
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert answer.headers["content-disposition"] == 'attachment; filename="run.json"'
    listed = [file["path"] for file in hostile.get("/runs/a/files", "viewer")]
    assert listed == ["run.json"]


def test_an_image_is_one_of_the_operators(client: Client) -> None:
    answer = client.submit(image="evil.example/image:latest")
    assert answer.status_code == 422
    assert "expected one of mixdim:latest" in answer.json()["error"]["message"]


def test_what_a_job_is_told_is_never_read_by_a_shell(tmp_path: Path) -> None:
    words = ["$(touch /tmp/mixdim-was-here)", "; id", "`id`", "a b", "*", "'\""]
    with serving(tmp_path / "home", lambda job: ["/usr/bin/printf", "%s\n", *job.arguments]) as (
        client
    ):
        (client.service.home.path / "runs" / "r").mkdir()
        body = {"verb": "evaluate", "run": "r", "options": {"slices": words}}
        job = client.call("POST", "/api/v1/jobs", json=body).json()["id"]
        client.wait(job)
        said = client.call("GET", f"/api/v1/jobs/{job}/logs").text.splitlines()
    assert said[1:] == ["--slices", *words]


def test_a_body_is_only_so_large_however_it_comes(client: Client) -> None:
    most = client.service.config.limits.body_bytes
    parts = (b" " * 1000 for _ in range(most // 1000 + 2))
    for content in (b" " * (most + 1), parts):
        answer = client.call("POST", "/api/v1/jobs", content=content)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "too_large"


def test_a_sizing_is_kept_only_if_it_is_one(client: Client) -> None:
    block = {"num_embeddings": 10, "embedding_dim": 4, "asked_dim": 4.0}
    good = {"format_version": 1, "fields": {"user": [block]}, "out_dim": 4}
    bad = client.call("POST", "/api/v1/sizings", json={"name": "bad", "sizing": {"fields": 1}})
    assert bad.status_code == 422
    assert client.service.home.path.as_posix() not in bad.text
    kept = client.call("POST", "/api/v1/sizings", json={"name": "good", "sizing": good})
    assert kept.status_code == 201, kept.text
    again = client.call("POST", "/api/v1/sizings", json={"name": "good", "sizing": good})
    assert again.status_code == 409
    assert [item["name"] for item in client.get("/sizings")["items"]] == ["good"]
    assert client.get("/sizings/good")["fields"][0]["used"] == 4


@pytest.mark.parametrize("inner", ["[" * 300 + "]" * 300, r'"\ud800"', r'{"\ud800": 1}', "NaN"])
def test_what_cannot_be_written_down_is_refused(inner: str, client: Client) -> None:
    for path, body in (
        ("sizings", f'{{"name": "a", "sizing": {{"a": {inner}}}}}'),
        ("jobs", f'{{"verb": "compare", "data": "d", "spec": {{"a": {inner}}}}}'),
    ):
        headers = {"Content-Type": "application/json"}
        answer = client.call("POST", f"/api/v1/{path}", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


def test_one_of_many_who_send_a_sizing_at_once_keeps_it(client: Client) -> None:
    block = {"num_embeddings": 10, "embedding_dim": 4, "asked_dim": 4.0}
    sizing = {"format_version": 1, "fields": {"user": [block]}, "out_dim": 4}
    body = {"name": "many", "sizing": sizing}
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: client.call("POST", "/api/v1/sizings", json=body), range(16))
        assert sorted(answer.status_code for answer in answers) == [201, *[409] * 15]
    assert [p.name for p in (client.service.home.path / "sizings" / "many").iterdir()] == [
        "sizing.json"
    ]
    assert not [*(client.service.home.path / "sizings").glob(".*")]


def test_too_many_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    limits = Limits(requests_per_second=0.1, burst=5)
    with serving(tmp_path / "home", limits=limits) as client:
        statuses = [client.call("GET", "/api/v1/me").status_code for _ in range(8)]
        assert sorted(set(statuses)) == [200, 429]
        refused = client.call("GET", "/api/v1/me")
        assert 0 < int(refused.headers["retry-after"]) <= 11
        assert client.call("GET", "/api/v1/me", "viewer").status_code == 200  # another's
        guesses = [
            client.http.get("/api/v1/me", headers={"Authorization": f"Bearer {n}"}).status_code
            for n in range(8)
        ]
        assert guesses[-1] == 429  # whoever guesses is counted by address
        assert client.http.get("/healthz").status_code == 200


def test_nobody_gets_a_rate_of_their_own_by_what_anybody_may_ask(tmp_path: Path) -> None:
    with serving(tmp_path / "home", limits=Limits(requests_per_second=0.1, burst=5)) as client:
        for number in range(8):
            spelt = f"{'bearer' if number % 2 else 'Bearer'} {client.secrets['viewer']}"
            last = client.http.get("/api/v1/me", headers={"Authorization": spelt})
        assert last.status_code == 429  # however it is spelt, it is one token
        for path in ("/healthz", "/"):  # the first is not counted, so that probes are answered
            for guess in range(8):
                made_up = {"Authorization": f"Bearer {guess}"}
                client.http.get(path, headers=made_up)
                last = client.http.get("/api/v1/me", headers=made_up)
            assert last.status_code == 429


def test_a_bucket_fills_steadily_and_holds_no_more_than_it_may() -> None:
    now = [0.0]
    rate = Rate(per_second=2, burst=3, clock=lambda: now[0])
    assert [rate.wait_seconds("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rate.wait_seconds("b") == 0
    now[0] = 0.5
    assert [rate.wait_seconds("a") for _ in range(2)] == [0, 0.5]
    now[0] = 100.0
    assert [rate.wait_seconds("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_every_answer_tells_browsers_to_be_careful(client: Client) -> None:
    for path in ("/", "/healthz", "/nothing", "/api/v1/me"):
        headers = client.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == (
            "nosniff",
            "DENY",
        )
        assert "server" not in headers


def test_names_are_confined_by_themselves(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for name in ("..", "a/b", "", "A", "a" * 65, ".a", "a\n"):
        with pytest.raises(ApiError, match="cannot name one of the runs"):
            home.place("runs", name)
    for name in ("../x", "a/../../x", "/etc/passwd", "a//b"):
        with pytest.raises(ApiError, match="cannot name one of the uploads"):
            home.place("uploads", name)
