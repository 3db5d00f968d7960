"""``mixdim token create --home HOME --name NAME --role submitter``: let somebody in."""

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from service.api.accounts import Accounts

SECONDS_A_DAY = 86_400
MOST_DAYS = 36_500


@dataclass(frozen=True, kw_only=True, slots=True)
class Create:
    """Make a token; its secret is printed this once."""

    name: str
    """User that it speaks for."""

    role: Literal["viewer", "submitter", "admin"] = "viewer"
    """What it may do."""

    days: float | None = None
    """Days until it expires; never by default."""

    home: Path = Path("mixdim-home")
    """Folder of the service."""

    json: bool = False
    """Print id and secret as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Revoke:
    """End a token at once."""

    id: tyro.conf.Positional[str]
    """Its id, as `mixdim token list` shows it."""

    home: Path = Path("mixdim-home")
    """Folder of the service."""

    json: bool = False
    """Print its id as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Every token, without its secret."""

    home: Path = Path("mixdim-home")
    """Folder of the service."""

    json: bool = False
    """Print JSON instead of a table."""


Command = (
    Annotated[Create, tyro.conf.subcommand("create")]
    | Annotated[Revoke, tyro.conf.subcommand("revoke")]
    | Annotated[List, tyro.conf.subcommand("list")]
)


def main(argv: Sequence[str]) -> int:
    """Make, list or revoke tokens of a service, whether it runs or not."""
    command: Create | Revoke | List = tyro.cli(
        Command,
        args=list(argv),
        prog="mixdim token",
        description="Make, list or revoke tokens of a service.",
    )

    from service.api.accounts import Accounts
    from service.api.database import connect, upgrade
    from service.commands.serve import database_url

    home = command.home.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = connect(database_url(home))
    upgrade(engine)
    accounts = Accounts(engine)
    if isinstance(command, Create):
        _create(accounts, command)
    elif isinstance(command, Revoke):
        _revoke(accounts, command)
    else:
        _list(accounts, command)
    engine.dispose()
    return 0


def _create(accounts: "Accounts", command: Create) -> None:
    from service.api.accounts import Role
    from service.api.routes.accounts import USER

    if not re.fullmatch(USER, command.name):
        raise ValueError(f"name={command.name!r}, expected lower-case letters, digits, . _ @ -")
    if command.days is not None and not 0 < command.days <= MOST_DAYS:
        raise ValueError(f"days={command.days}, expected more than 0, at most {MOST_DAYS:,}")
    expires = time.time() + command.days * SECONDS_A_DAY if command.days is not None else None
    token, secret = accounts.create(command.name, Role(command.role), expires)
    print(json.dumps({"id": token.id, "secret": secret}) if command.json else secret)


def _revoke(accounts: "Accounts", command: Revoke) -> None:
    if not accounts.revoke(command.id):
        raise ValueError(f"there is no token {command.id!r} to revoke; see mixdim token list")
    if command.json:
        print(json.dumps({"id": command.id, "revoked": True}))
    else:
        sys.stderr.write(f"{command.id} is revoked\n")


def _list(accounts: "Accounts", command: List) -> None:
    found = [{name: getattr(token, name) for name in token.__slots__} for token in accounts.all()]
    if command.json:
        print(json.dumps(found))
        return
    for token in found:
        state = "revoked" if token["revoked_at"] else "good"
        if not token["revoked_at"] and token["expires_at"]:
            state = "expired" if token["expires_at"] <= time.time() else "expires"
        print(f"{token['id']}  {token['role']:9}  {state:7}  {token['name']}")
