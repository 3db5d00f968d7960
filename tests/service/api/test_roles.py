"""Every route of the OpenAPI document, asked by those who may not: an outsider reads nothing."""

import re
import time
from typing import Any, Final

import pytest

from service.api.accounts import Role
from tests.service.api.served import Client

OPEN: Final = {("GET", "/healthz"), ("GET", "/readyz")}
"""What anybody may ask: whether the service is there."""
CHANGES: Final = {"POST", "DELETE", "PUT", "PATCH"}
ADMINS: Final = re.compile(r"/api/v1/(tokens|audit)")
EXAMPLES: Final = {
    "job": "j0000000000000000000",
    "token": "0" * 16,
    "name": "nothing",
    "path": "run.json",
    "verb": "train",
}


def routes(client: Client) -> list[tuple[str, str]]:
    """Method and path of all that the document lists, with something for every placeholder."""
    document: dict[str, Any] = client.http.get("/openapi.json").json()
    return [
        (method.upper(), path.format(**EXAMPLES))
        for path, operations in document["paths"].items()
        for method in operations
    ]


def closed(client: Client) -> list[tuple[str, str]]:
    return [route for route in routes(client) if route not in OPEN]


def test_the_document_lists_every_route(client: Client) -> None:
    found = routes(client)
    assert len(found) == len(set(found)) > 25
    assert set(found) >= OPEN


def credentials(client: Client) -> dict[str, dict[str, str]]:
    """Every way of having no good token."""
    accounts = client.service.accounts
    expired = accounts.create("old", Role.ADMIN, expires_at=time.time() - 1)[1]
    token, revoked = accounts.create("gone", Role.ADMIN)
    accounts.revoke(token.id)
    good = client.secrets["admin"]
    shown = {
        "empty": "Bearer",
        "wrong": "Bearer mixdim_wrong",
        "expired": f"Bearer {expired}",
        "revoked": f"Bearer {revoked}",
        "cut short": f"Bearer {good[:-1]}",
        "basic": f"Basic {good}",
        "bare": good,
    }
    return {"none": {}} | {name: {"Authorization": value} for name, value in shown.items()}


def test_without_a_good_token_every_route_says_the_same_nothing(client: Client) -> None:
    for kind, headers in credentials(client).items():
        for method, path in closed(client):
            answer = client.http.request(method, path, headers=headers, json={})
            assert answer.status_code == 401, (kind, method, path, answer.text)
            assert answer.json()["error"]["code"] == "unauthorized"
            assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_in_the_address_or_in_a_cookie_is_none(client: Client) -> None:
    secret = client.secrets["admin"]
    for extra in ({"params": {"token": secret}}, {"headers": {"Cookie": f"token={secret}"}}):
        assert client.http.get("/api/v1/me", **extra).status_code == 401  # type: ignore[arg-type]


def test_a_viewer_changes_nothing(client: Client) -> None:
    for method, path in closed(client):
        answer = client.call(method, path, "viewer", json={})
        if method in CHANGES or ADMINS.match(path):
            assert answer.status_code == 403, (method, path, answer.text)
        else:
            assert answer.status_code in (200, 404), (method, path, answer.text)


def test_a_submitter_is_no_admin(client: Client) -> None:
    for method, path in closed(client):
        status = client.call(method, path, "submitter", json={}).status_code
        assert (status == 403) == bool(ADMINS.match(path)), (method, path, status)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.yaml", "/.env", "/api/v1", "/api"])
def test_there_is_nothing_beside_the_documented_routes(path: str, client: Client) -> None:
    assert client.http.get(path).status_code == 404
