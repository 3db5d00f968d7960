"""What jobs make, as it is read over HTTP, against the files and functions that made it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Message

from service.api.home import Home
from service.api.records import NewJob
from service.api.routes import things as routes
from service.api.routes.files import Snapshot
from service.api.states import Event
from service.sizing import SizingFile, sizing_bytes
from tests.service.api.served import Client, serving, wait_for
from tests.service.api.things import METRICS, RANKS, STEPS, fill

LISTS = {
    **{"datasets": "dataset.json", "sizings": "sizing.json", "runs": "run.json"},
    **{"frontiers": "frontier.json", "artifacts": "artifact.json"},
}
"""What is listed, and the file that makes a folder one of them."""


@pytest.fixture(scope="module")
def sizing_and_client(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[SizingFile, Client]]:
    """A service that has worked."""
    home = tmp_path_factory.mktemp("things") / "home"
    sizing = fill(Home(home))
    with serving(home, "sleep 100") as client:
        yield sizing, client


@pytest.fixture(scope="module")
def sizing(sizing_and_client: tuple[SizingFile, Client]) -> SizingFile:
    return sizing_and_client[0]


@pytest.fixture(scope="module")
def things(sizing_and_client: tuple[SizingFile, Client]) -> Client:
    return sizing_and_client[1]


def test_everything_is_listed_by_name(things: Client) -> None:
    for kind, name in (("datasets", "d"), ("sizings", "s"), ("runs", "r"), ("frontiers", "f")):
        assert [item["name"] for item in things.get(f"/{kind}")["items"]] == [name]


@pytest.mark.parametrize("kind", LISTS)
def test_every_list_is_paged_by_name_and_filtered_by_a_part_of_it(
    kind: str, client: Client
) -> None:
    names = [f"{letter}-paged" for letter in "edcba"]
    for name in (*names, "other", "b.paged"):
        write_marker(client.service.home.path / kind / name / LISTS[kind])
    (client.service.home.path / kind / "f-paged").mkdir()  # not yet, or no more
    seen, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/{kind}?name=-page&limit=2&{cursor and f'cursor={cursor}'}")
        assert len(page["items"]) <= 2
        seen += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == sorted(names)
    assert client.get(f"/{kind}?limit=7")["next_cursor"] is None
    assert client.get(f"/{kind}?name=%25")["items"] == []
    assert client.call("GET", f"/api/v1/{kind}?limit=201").status_code == 422


def write_marker(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("{}")


def test_runs_are_filtered_by_the_state_of_their_jobs(tmp_path: Path) -> None:
    with serving(tmp_path / "home", "exit 3") as client:
        runs = client.service.home.path / "runs"
        for name in ("by-hand", "by-hand-ended", "retried", "tried"):
            write_marker(runs / name / "run.json")
        (runs / "by-hand-ended" / "result.json").write_text('{"scores": {"auc": 0.7}}')
        for name in ("tried", "retried", "retried"):
            client.wait(client.service.jobs.create(training(folder=f"runs/{name}"))[0].id)
        newest = client.service.jobs.makers(["runs/retried", "runs/by-hand"])
        assert [*newest] == ["runs/retried"]
        assert newest["runs/retried"].id == client.get("/jobs?limit=1")["items"][0]["id"]

        def listed(query: str) -> list[str]:
            return [run["name"] for run in client.get(f"/runs?{query}")["items"]]

        assert listed("state=failed") == ["retried", "tried"]
        assert listed("state=failed&limit=1&cursor=retried") == ["tried"]
        assert listed("state=succeeded&state=unknown") == ["by-hand", "by-hand-ended"]
        assert listed("state=unknown&name=ended") == []


def test_a_dataset_tells_its_fields(things: Client) -> None:
    found = things.get("/datasets/d")
    assert [(field["name"], field["ids"]) for field in found["fields"]] == [("C1", 50), ("C2", 20)]
    assert found["splits"] == {"train": 90, "validation": 8, "test": 8}


def test_a_sizing_tells_widths_and_bytes(things: Client, sizing: SizingFile) -> None:
    found = things.get("/sizings/s")
    cost = sizing_bytes(sizing)
    assert found["bytes"] == {"training": cost.training_bytes, "serving": cost.serving_bytes}
    assert sum(row["bytes"] for row in found["fields"]) == cost.training_bytes


def test_a_run_explains_its_tables(things: Client, sizing: SizingFile) -> None:
    rows = things.get("/runs/r/explain")
    assert {row["field"]: (row["asked"], row["used"]) for row in rows} == {
        name: (block.asked_dim, block.embedding_dim) for name, (block,) in sizing.fields.items()
    }
    assert all(row["placement"] and row["coverage"] is not None for row in rows)


def test_the_bytes_of_all_ranks_are_those_of_the_tables(things: Client, sizing: SizingFile) -> None:
    ranks = things.get("/runs/r/placement")["ranks"]
    costs = sizing_bytes(sizing).tables.values()
    assert len(ranks) == RANKS
    assert sum(rank["bytes"] for rank in ranks) == pytest.approx(
        sum(cost.weights + cost.optimizer_state for cost in costs), abs=4
    )
    placed = [table for rank in ranks for table in rank["tables"]]
    cells = sum(table["rows"] * table["columns"] for table in placed)
    assert cells == sum(b.num_embeddings * b.embedding_dim for (b,) in sizing.fields.values())


def test_metrics_are_the_lines_behind_a_step(things: Client) -> None:
    assert things.get("/runs/r/metrics")["items"] == [*METRICS[:2]]
    assert things.get("/runs/r/metrics?since=10")["items"] == [METRICS[1]]
    assert things.get("/runs/r/metrics?kind=validation")["items"] == [METRICS[2]]


def test_a_frontier_tells_its_points(things: Client) -> None:
    (point,) = things.get("/frontiers/f")
    assert (point["method"], point["bytes"], point["value"]) == ("popularity", 100, 0.75)


def test_files_are_listed_and_come_whole(things: Client) -> None:
    run = things.service.home.path / "runs" / "r"
    for file in things.get("/runs/r/files"):
        content = things.call("GET", f"/api/v1/runs/r/files/{file['path']}").content
        assert content == (run / file["path"]).read_bytes()
        assert len(content) == file["bytes"]


def test_artifacts_are_known_by_the_file_that_exports_write() -> None:
    source = Path(routes.__file__).parents[2] / "serving" / "manifest.py"
    assert f'MANIFEST_FILE: Final = "{routes.ARTIFACT_FILE}"' in source.read_text()


def test_an_artifact_is_downloaded(things: Client) -> None:
    folder = things.service.home.path / "artifacts" / "a"
    folder.mkdir()
    (folder / "artifact.json").write_text("{}")
    assert [item["name"] for item in things.get("/artifacts")["items"]] == ["a"]
    (file,) = things.get("/artifacts/a/files")
    assert things.call("GET", f"/api/v1/artifacts/a/files/{file['path']}").content == b"{}"
    (noted, *_) = things.get("/audit", "admin")["items"]
    assert (noted["action"], noted["target"]) == ("artifacts.download", "a/artifact.json")


def test_a_part_of_a_file_is_a_part(things: Client) -> None:
    whole = (things.service.home.path / "runs" / "r" / "run.json").read_bytes()
    answer = things.call("GET", "/api/v1/runs/r/files/run.json", headers={"Range": "bytes=5-9"})
    assert (answer.status_code, answer.content) == (206, whole[5:10])


def training(*, folder: str, num_ports: int = 0) -> NewJob:
    return NewJob(
        owner="submitter",
        name="live",
        verb="train",
        arguments=("smoke",),
        request={
            **{"nodes": 1, "ranks_per_node": 2, "host": "cpu-small", "image": None},
            **{"max_retries": 0, "run": None, "preset": "smoke"},
        },
        request_sha256="x",
        folder=folder,
        num_ports=num_ports,
    )


def test_a_live_training_tells_its_progress_and_its_ranks(things: Client) -> None:
    job = things.service.jobs.create(training(folder="runs/r", num_ports=2))[0].id
    things.wait(job, "running")
    shown = things.get(f"/jobs/{job}")
    assert shown["progress"] == {
        **{"step": 20, "steps": STEPS, "epoch": 0, "fraction": 20 / STEPS},
        "examples_per_second": 5.0,
    }
    port = things.service.jobs.get(job).metrics_port or 0
    wait_for(lambda: things.get("/discovery"))  # known at the next look at the job
    groups = things.get("/discovery")
    assert [group["targets"] for group in groups] == [[f"127.0.0.1:{port + r}"] for r in (0, 1)]
    assert [group["labels"]["rank"] for group in groups] == ["0", "1"]
    assert {group["labels"]["run"] for group in groups} == {"r"}
    run = things.get("/runs/r")
    assert (run["state"], run["job"], run["preset"]) == ("running", job, "smoke")
    things.service.jobs.move(job, Event.CANCEL)
    things.wait(job)
    assert things.get("/discovery") == []


def test_what_is_damaged_is_said_to_be(things: Client) -> None:
    broken = things.service.home.path / "runs" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    (broken / "sizing.json").write_text(json.dumps({"fields": 3}))
    assert things.get("/runs/broken")["scores"] is None
    for view in ("explain", "placement"):
        answer = things.call("GET", f"/api/v1/runs/broken/{view}")
        assert answer.status_code in (404, 409), answer.text
        assert str(broken) not in answer.text


@pytest.mark.parametrize("size", [0, 10, 1 << 16, 100_000, 2 << 16])
def test_a_file_that_grows_is_sent_as_long_as_was_told(size: int, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"a" * size)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == 1:
            path.write_bytes(b"a" * size + b"b" * 200_000)

    async def receive() -> Message:
        await asyncio.sleep(10)
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "headers": []}
    asyncio.run(Snapshot(path)(scope, receive, send))
    start, *parts = sent
    assert dict(start["headers"])[b"content-length"] == str(size).encode()
    assert b"".join(part["body"] for part in parts) == b"a" * size
    assert [part["more_body"] for part in parts] == [*[True] * (len(parts) - 1), False]
