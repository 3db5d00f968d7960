"""A model over HTTP: batches, refusals, metrics, and new versions under load."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.serving import load
from service.serving.app import ServingOptions, make_app
from service.serving.batching import BatchLimits
from service.serving.current import CurrentModel
from service.serving.manifest import describe_files, read_manifest, write_manifest

LIMITS = BatchLimits(max_rows=64, max_wait_seconds=0.02, max_waiting_rows=256)
OPTIONS = ServingOptions(batches=LIMITS, max_body_bytes=20_000, poll_seconds=0.05)


@asynccontextmanager
async def serving(model, options=OPTIONS) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(model, options)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://model") as client,
    ):
        yield client


@pytest.fixture(scope="module")
def model(fp32):
    return CurrentModel(fp32)


@pytest.fixture(scope="module")
def expected(model, served_run):
    return model.artifact.predict(served_run.json_rows).tolist()


async def samples(client) -> dict[str, float]:
    page = (await client.get("/metrics")).text
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_requests_at_once_share_batches_and_get_their_own_answers(model, served_run, expected):
    async def ask() -> tuple[list[httpx.Response], dict[str, float]]:
        async with serving(model) as client:
            posts = [client.post("/predict", json={"rows": [r]}) for r in served_run.json_rows]
            return await asyncio.gather(*posts), await samples(client)

    answers, counted = asyncio.run(ask())
    found = [answer.json()["predictions"][0] for answer in answers]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert {answer.json()["version"] for answer in answers} == {model.artifact.manifest.version}
    assert counted["mixdim_serving_rows_total[]"] == len(expected)
    assert counted["mixdim_serving_batch_rows_count[]"] <= len(expected) / 10
    assert counted["mixdim_serving_request_seconds_count[('status', '200')]"] == len(expected)
    assert counted["mixdim_serving_predictions_sum_total[]"] == pytest.approx(sum(expected), 1e-4)


def test_a_bad_request_spoils_no_other_of_its_batch(model, served_run, expected):
    good = {"rows": served_run.json_rows[:2]}
    bad = {"rows": [served_run.json_rows[0], served_run.json_rows[1] | {"price": "dear"}]}

    async def ask() -> list[httpx.Response]:
        async with serving(model) as client:
            posts = [client.post("/predict", json=body) for body in (good, bad, good)]
            return await asyncio.gather(*posts)

    first, wrong, last = asyncio.run(ask())
    for answer in (first, last):
        np.testing.assert_allclose(answer.json()["predictions"], expected[:2], atol=1e-6)
    assert wrong.status_code == 422
    assert wrong.json()["error"]["rows"] == [
        {"row": 1, "reason": "column price: 'dear' is not a number"}
    ]


JSON = {"Content-Type": "application/json"}
MALFORMED = {
    b"": 422,
    b"{": 422,
    b"[1, 2]": 422,
    b'{"rows": []}': 422,
    b'{"rows": [1]}': 422,
    b'{"rows": {"a": 1}}': 422,
    b'{"rows": [{}]}': 422,
    b'{"rows": [{"rank": NaN}]}': 422,
    b"[" * 15_000: 400,
    b"\xff\xfe": 422,
    b" " * 30_000: 413,
}


def test_malformed_bodies_are_told_what_is_expected_and_never_a_fault_of_ours(model, served_run):
    async def ask() -> tuple[dict[bytes, int], list[httpx.Response]]:
        async with serving(model) as client:
            got = {
                body: await client.post("/predict", content=body, headers=JSON)
                for body in MALFORMED
            }
            many = {"rows": [{"a": 1}] * 65}
            others = [
                await client.post("/predict", json=many),
                await client.get("/predict"),
                await client.get("/nowhere"),
                await client.post("/predict", json={"rows": served_run.json_rows[:1]}),
            ]
            return {body: answer.status_code for body, answer in got.items()}, others

    statuses, others = asyncio.run(ask())
    assert {body[:20]: status for body, status in statuses.items()} == {
        body[:20]: status for body, status in MALFORMED.items()
    }
    assert [answer.status_code for answer in others] == [413, 405, 404, 200]
    codes = [answer.json()["error"]["code"] for answer in others[:3]]
    assert codes == ["too_many_rows", "method_not_allowed", "not_found"]


def test_more_rows_than_may_wait_are_told_to_come_again(model, served_run):
    rows = {"rows": served_run.json_rows[:60]}

    async def ask() -> list[int]:
        async with serving(model) as client:
            answers = await asyncio.gather(*(client.post("/predict", json=rows) for _ in range(9)))
            assert all(
                answer.headers["Retry-After"] for answer in answers if answer.status_code == 503
            )
            return [answer.status_code for answer in answers]

    statuses = asyncio.run(ask())
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 4


def another_version(artifact, folder):
    """The same model under another name and version."""
    shutil.copytree(artifact, folder)
    (folder / "MODEL_CARD.md").write_text("other words")
    manifest = read_manifest(folder)
    write_manifest(replace(manifest, files=describe_files(folder)), folder)
    return folder


def test_a_new_version_is_taken_under_load_and_no_request_is_dropped(fp32, served_run, tmp_path):
    link, other = tmp_path / "current", another_version(fp32, tmp_path / "v2")
    link.symlink_to(fp32)
    model = CurrentModel(link)
    versions = [load(folder).manifest.version for folder in (fp32, other)]
    body = {"rows": served_run.json_rows[:3]}

    async def ask() -> tuple[list[str], dict[str, float]]:
        seen = []
        async with serving(model) as client:
            until = time.monotonic() + 20
            after = 5
            while time.monotonic() < until and after:
                answers = await asyncio.gather(
                    *(client.post("/predict", json=body) for _ in range(8))
                )
                assert [answer.status_code for answer in answers] == [200] * 8
                seen += [answer.json()["version"] for answer in answers]
                if len(seen) == 8:
                    (tmp_path / "next").symlink_to(other)
                    (tmp_path / "next").replace(link)
                after -= seen[-1] == versions[1]
            return seen, await samples(client)

    seen, counted = asyncio.run(ask())
    assert sorted(set(seen), key=seen.index) == versions  # the old one, then the new one for good
    assert seen == sorted(seen, key=versions.index)
    assert counted["mixdim_serving_reloads_total[('outcome', 'taken')]"] == 1


def break_table(folder: Path, *, has_its_hash: bool) -> None:
    """Cut a table short; with its hash it is as it was exported, and still cannot be read."""
    manifest = read_manifest(folder)
    name = next(name for name in manifest.files if name.startswith("tables/"))
    (folder / name).unlink()  # what is served now is mapped into memory
    (folder / name).write_bytes(b"half")
    facts = describe_files(folder) if has_its_hash else manifest.files
    write_manifest(replace(manifest, files=facts), folder)


@pytest.mark.parametrize("has_its_hash", [False, True])
def test_a_broken_version_is_refused_and_the_old_one_stays(
    has_its_hash, fp32, served_run, expected, tmp_path
):
    copied = tmp_path / "model"
    shutil.copytree(fp32, copied)
    model = CurrentModel(copied)

    async def ask() -> tuple[httpx.Response, httpx.Response, dict[str, float]]:
        async with serving(model) as client:
            break_table(copied, has_its_hash=has_its_hash)
            for _ in range(100):
                await asyncio.sleep(0.05)
                counted = await samples(client)
                if counted["mixdim_serving_reloads_total[('outcome', 'refused')]"]:
                    break
            answer = await client.post("/predict", json={"rows": served_run.json_rows[:2]})
            return answer, await client.get("/readyz"), counted

    answer, ready, counted = asyncio.run(ask())
    np.testing.assert_allclose(answer.json()["predictions"], expected[:2], atol=1e-6)
    assert ready.status_code == 200
    assert counted["mixdim_serving_reloads_total[('outcome', 'refused')]"] == 1


def test_it_says_what_it_serves(model):
    async def ask() -> tuple[dict, dict, dict[str, float]]:
        async with serving(model) as client:
            what, health = await client.get("/model"), await client.get("/healthz")
            return what.json(), health.json(), await samples(client)

    what, health, counted = asyncio.run(ask())
    assert what["columns"] == ["price", "rank", "site", "device", "word", "tags"]
    assert what["lists"] == ["tags"]
    assert what["scores"]["auc"] == model.artifact.manifest.gate.artifact["auc"]
    assert health == {"status": "ok"}
    version = model.artifact.manifest.version
    labels = [("dtype", "fp32"), ("name", "fp32"), ("version", version)]
    assert counted[f"mixdim_serving_model_info{labels}"] == 1
    assert counted["mixdim_serving_unknown_values_total[('field', 'word')]"] == 0
