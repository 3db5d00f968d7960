"""What a service's folder holds after some work, written by the product's own functions."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from service.api.home import Home
from service.data.dataset import read_dataset_info
from service.on_cluster import workload_of
from service.presets import PRESETS
from service.sharding_file import find_cluster, write_sharding
from service.sizing import SizingFile, write_sizing
from service.sizing_request import SizingRequest, size_dataset
from sharding.constraints import ShardingConfig
from sharding.placing import place
from tests.datasets import write_dataset

RANKS = 2
STEPS = 30
METRICS: tuple[dict[str, Any], ...] = (
    *(
        {"step": step, "kind": "train", "epoch": 0, "loss": 1 / step, "examples_per_second": 5.0}
        for step in (10, 20)
    ),
    {"step": 20, "kind": "validation", "epoch": 0, "auc": 0.7, "log_loss": None},
)
POINT = {
    "recipe": "dlrm",
    "sizing": "popularity",
    "budget": "4x",
    "dtype": "",
    "widths": {"C1": [8], "C2": [4]},
    "figures": {"training_bytes": 100.0, "serving_bytes": 50.0},
    "metric": "auc",
    "scores": {"auc": {"mean": 0.75, "sd": 0.01, "half_width": 0.02, "n": 3}},
}


def fill(home: Home) -> SizingFile:
    """A dataset ``d``, a sizing ``s``, a run ``r`` of two ranks in the middle, a frontier ``f``."""
    data, run = home.path / "datasets" / "d", home.path / "runs" / "r"
    data.mkdir()
    write_dataset(data, num_embeddings=(50, 20), rows={"train": 90, "validation": 8, "test": 8})
    sizing = size_dataset(data, SizingRequest())
    write_sizing(sizing, home.path / "sizings" / "s" / "sizing.json")
    write_run(run, data, sizing)
    frontier = home.path / "frontiers" / "f"
    frontier.mkdir()
    (frontier / "frontier.json").write_text(json.dumps([POINT]))
    return sizing


def write_run(run: Path, data: Path, sizing: SizingFile) -> None:
    write_sizing(sizing, run / "sizing.json")
    stats = read_dataset_info(data).field_stats
    tables = [table.stored for table in sizing.plan.tables()]
    cluster = find_cluster("local", RANKS)
    workload = workload_of(sizing, 4, stats)
    write_sharding(place(tables, cluster, ShardingConfig(), workload), run / "sharding.json")
    config = {"data": str(data), "batch_size": 2, "epochs": 2, "max_steps": STEPS}
    settings = TypeAdapter(type(PRESETS["dlrm"]())).dump_python(PRESETS["dlrm"](), mode="json")
    record = {
        **{"config": settings | config, "world_size": RANKS, "planned_steps": STEPS},
        "training_bytes": {"planned": 7},
    }
    (run / "run.json").write_text(json.dumps(record))
    lines = [json.dumps(line) for line in METRICS]
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 30, "ki']))
