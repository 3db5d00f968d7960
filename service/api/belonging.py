"""Records belong to one home: the jobs that they tell of are kept there, and nowhere else.

A service of another home would find none of them, say that all are lost, and begin some again.
"""

import secrets
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, insert, select

from service.api.database import homes, one_at_a_time, writing
from service.run_folder import DRAFT

ID_FILE: Final = "home-id"


def claim(engine: Engine, home: Path) -> None:
    """Have records belong to a home, unless they belong to another one.

    Args:
        engine: Of the records, at the newest revision.
        home: Folder of the service; gets a file that tells it from others, wherever it is moved.

    Raises:
        ValueError: If the records are another home's.
    """
    own = _id_of(home)
    with writing(engine) as connection:
        one_at_a_time(connection)
        found = connection.execute(select(homes.c.id)).scalar_one_or_none()
        if found is None:
            connection.execute(insert(homes).values(id=own))
    if found not in (None, own):
        raise ValueError(
            f"records {engine.url!r} are not of {home}, but of another home, where their jobs are; "
            f"give that one as --home, or other records. If it is gone for good, write {found} "
            f"into {home / ID_FILE}"
        )


def _id_of(home: Path) -> str:
    path = home / ID_FILE
    if not path.is_file():
        draft = path.with_name(f".{ID_FILE}{DRAFT}")
        draft.write_text(f"{secrets.token_hex(16)}\n")
        draft.rename(path)
    return path.read_text().strip()
