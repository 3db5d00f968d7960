"""The OpenAPI document: recorded, kept, and held against requests that are made from it."""

import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.api.home import Home
from tests.service.api.served import Client, serving
from tests.service.api.things import fill

GOLDEN: Final = Path(__file__).parents[2] / "golden" / "openapi.json"
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
THERE: Final = {"name": ("d", "s", "r", "f"), "path": ("run.json", "metrics.jsonl")}
"""What placeholders are replaced by in half of the requests, so that they get further."""

TRUE: Final = frozenset({"true", "1", "on", "yes", "t", "y"})


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service that has something to show."""
    folder = tmp_path_factory.mktemp("document")
    fill(Home(folder / "home"))
    with serving(folder / "home") as client:
        for number in range(3):
            client.wait(client.submit(output=f"x{number}").json()["id"])
        yield client


def test_the_document_is_the_recorded_one(worked: Client) -> None:
    document = worked.http.get("/openapi.json").json()
    document["info"]["version"] = "*"
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def hold(client: Client, num_requests: int, seed: int, *, repeatable: bool) -> Counter[int]:
    """Send requests that the document makes, good ones and bad ones; statuses by number."""
    schema = schemathesis.openapi.from_url(f"{client.http.base_url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    statuses: Counter[int] = Counter()
    secrets = [*client.secrets.values()]
    chance = random.Random(seed)
    each = max(1, num_requests // len(operations) // 2)
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _send(client, operation, mode, (each, repeatable), (secrets, chance, statuses))
    return statuses


def _send(
    client: Client, operation: Any, mode: GenerationMode, how: tuple[int, bool], state: Any
) -> None:
    number, repeatable = how
    secrets, chance, statuses = state
    jobs = [job["id"] for job in client.get("/jobs")["items"]]

    @settings(
        max_examples=number,
        derandomize=repeatable,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        there = {**THERE, "job": jobs}
        if chance.random() < 0.5 and isinstance(case.path_parameters, dict):
            known = case.path_parameters.keys() & there.keys()
            case.path_parameters |= {name: chance.choice(there[name]) for name in known}
        if str((case.query or {}).get("follow")).lower() in TRUE:
            case.query["follow"] = False  # requests on this urllib3 cannot read a stream
        answer = case.call(headers={"Authorization": f"Bearer {chance.choice(secrets)}"})
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        home = str(client.service.home.path.parent)
        if answer.status_code >= 400:
            assert home not in answer.text
            assert "Traceback" not in answer.text
            assert not any(secret in answer.text for secret in secrets)

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about some requests
        send()


def test_what_the_document_allows_and_forbids_is_answered_by_it(worked: Client) -> None:
    statuses = hold(worked, 240, 0, repeatable=True)
    assert statuses[200] > 10
    assert statuses[422] > 5, statuses


@pytest.mark.slow
def test_5000_requests_find_no_fault(worked: Client) -> None:
    statuses = hold(worked, 5600, 1, repeatable=False)
    assert sum(statuses.values()) >= 5000
    assert not any(status >= 500 for status in statuses)
