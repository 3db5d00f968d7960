"""Runs whose sharding plans are edited by hand, on ranks that stay joined."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.config import TrainConfig
from service.distributed import joined_ranks
from service.run_folder import SHARDING_FILE
from service.train.loop import TrainResult, train


def edited(source: Path, target: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Copy ``sharding.json`` as a person with an editor would, table by table."""
    content = json.loads(source.read_text())
    content.pop("report")
    for table in content["placement"]["tables"]:
        edit(table)
    target.write_text(json.dumps(content, indent=1))


def by_hand(table: dict[str, Any]) -> None:
    """C1 by rows, C2 by columns, C4 on the other rank."""
    match table["name"]:
        case "C1":
            table["sharding_type"] = "row_wise"
            del table["shards"]
        case "C2":
            table["sharding_type"] = "column_wise"
            del table["shards"]
        case "C4":
            table["shards"][0]["rank"] = 1 - table["shards"][0]["rank"]


def train_with_plans(config: TrainConfig) -> list[TrainResult]:
    """As planned; with the plan edited; and that one stopped half-way and resumed."""
    runs = config.output
    plan = runs / "edited.json"
    with joined_ranks("cpu") as ranks:
        whole = train(replace(config, output=runs / "whole"))
        ranks.from_first(lambda: edited(runs / "whole" / SHARDING_FILE, plan, by_hand))
        changed = train(replace(config, output=runs / "changed", plan=plan))
        half = replace(config, output=runs / "half", plan=plan, max_steps=config.max_steps // 2)
        train(half)
        resumed = replace(half, plan=None, resume=True, max_steps=config.max_steps)
        return [whole, changed, train(resumed)]
