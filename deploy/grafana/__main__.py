"""``python -m deploy.grafana``: write the dashboards that Grafana reads, one JSON file each."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import embeddings, jobs, serving, sharding, training
from deploy.grafana.panels import Board, dashboard

FOLDER: Final = Path(__file__).parent / "dashboards"

BOARDS: Final[Mapping[str, Board]] = MappingProxyType(
    {
        "training": training.BOARD,
        "embeddings": embeddings.BOARD,
        "sharding": sharding.BOARD,
        "jobs": jobs.BOARD,
        "serving": serving.BOARD,
    }
)
"""Dashboards by the name of their file."""


def as_json(board: Board) -> str:
    """What is in a dashboard's file."""
    return json.dumps(dashboard(board), cls=JSONEncoder, sort_keys=True, indent=1) + "\n"


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, board in BOARDS.items():
        (FOLDER / f"{name}.json").write_text(as_json(board))


if __name__ == "__main__":
    main()
