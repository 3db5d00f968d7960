"""A run on raw rows of every kind, what its model says of them, and artifacts of it."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.networks import DLRMNetwork
from models.tables import Block
from service.checkpoint import Checkpoints
from service.config import OptimizerConfig, TrainConfig
from service.data.dataset import read_dataset_info
from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.loader import Loader
from service.data.readers.table import OwnTable
from service.distributed import joined_ranks, launch
from service.run_folder import RunFolder
from service.sizing import SizingFile, read_sizing, write_sizing
from service.train.engine import build_engine
from service.train.evaluation import predict
from service.train.loop import train
from service.train.served import round_tables

SCHEMA = """
label = "click"
categorical = ["site", "device", "word"]
[dense]
price = "log1p"
rank = "none"
[lists]
tags = "|"
"""
PLAN = {
    "site": [(20, 8), (10, 4, 30)],
    "device": [(7, 2)],
    "word": [(25, 1)],
    "tags": [(6, 8), (10, 2)],
}
"""Rows, width and hashed ids of every block: narrow, packed, shared, and lists over two blocks."""
NUM_ROWS, NUM_TEST = 1500, 150


def write_rows(folder: Path) -> list[dict[str, str]]:
    """Raw rows as CSV, with commas and quotes, blanks, rare values and text beyond ASCII."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(NUM_ROWS):
        site, device = int(58 * rng.random() ** 2), int(rng.integers(0, 5))
        tags = sorted({f"t{int(14 * rng.random() ** 2)}" for _ in range(int(rng.integers(0, 4)))})
        price = rng.integers(-3, 500)
        chance = 1 / (1 + np.exp(-(site % 3 - 1 + 0.5 * (device == 2) + 0.3 * len(tags))))
        rows.append(
            {
                "click": str(int(rng.random() < chance)),
                "price": "" if number % 7 == 0 else str(price),
                "rank": f"{rng.random():.6f}",
                "site": f'site "{site}", é',
                "device": "" if device == 4 else str(device),
                "word": f"w{int(23 * rng.random())}" if number % 50 else f"rare{number}",
                "tags": "|".join(tags),
            }
        )
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "schema.toml").write_text(SCHEMA)
    return rows


@dataclass(frozen=True, kw_only=True)
class ServedRun:
    """A finished run, and the raw rows that became its test split."""

    config: TrainConfig
    rows: list[dict[str, str]]

    @property
    def json_rows(self) -> list[dict[str, object]]:
        """The test rows as a client would send them."""
        return [
            {
                "price": int(row["price"]) if row["price"] else None,
                "rank": float(row["rank"]),
                "site": row["site"],
                "device": int(row["device"]) if row["device"] else None,
                "word": row["word"],
                "tags": row["tags"].split("|") if row["tags"] else [],
            }
            for row in self.rows
        ]


def make_run(folder: Path) -> ServedRun:
    """Prepare raw rows, size by hand, train a few steps."""
    rows = write_rows(folder)
    source = OwnTable(inputs=(folder / "rows.csv",), schema=folder / "schema.toml")
    fractions = (0.8, 0.1, 0.1)
    info = prepare(
        PrepareConfig(source=source, output=folder / "data", split="order", fractions=fractions)
    )
    assert info.splits["test"].num_rows == NUM_TEST
    ids = {field.stats.name: field.stats.num_embeddings for field in info.fields}
    plan = {name: tuple(_blocks(PLAN[name], ids[name])) for name in ids}
    write_sizing(SizingFile(format_version=1, fields=plan, out_dim=8), folder / "sizing.json")
    config = TrainConfig(
        data=folder / "data",
        sizing=folder / "sizing.json",
        output=folder / "run",
        network=DLRMNetwork(bottom=(8,), top=(8,)),
        pooling="mean",
        optimizer=OptimizerConfig(sparse_lr=0.3, dense_lr=0.01),
        batch_size=64,
        epochs=2,
        matmul="mkl",
        device="cpu",
    )
    launch(train, config, nproc=1, name="train")
    return ServedRun(config=config, rows=rows[-NUM_TEST:])


def _blocks(shapes: list[tuple[int, ...]], num_ids: int) -> list[Block]:
    """The blocks, the last of which takes the ids that are left."""
    blocks, left = [], num_ids
    for place, (rows, dim, *hashed) in enumerate(shapes):
        is_last = place == len(shapes) - 1
        own = left - sum(hashed) if is_last else rows
        left -= own + sum(hashed)
        block = Block(num_embeddings=own, embedding_dim=dim, asked_dim=dim)
        blocks.append(replace(block, hashed_ids=sum(hashed)))
    return blocks


def trained_predictions(run: Path, dtype: str = "fp32") -> np.ndarray:
    """What the training model says of the test split, its tables rounded where asked for."""
    return launch(_predictions, run, dtype, nproc=1, name="predict")


def _predictions(run: Path, dtype: str) -> np.ndarray:
    config = replace(RunFolder(run).read_config(), batch_size=64)
    info = read_dataset_info(config.data)
    plan = replace(read_sizing(run / "sizing.json").plan, join=config.network.join)
    with joined_ranks("cpu") as ranks:
        engine = build_engine(config, info, plan, ranks)
        checkpoints = Checkpoints(run / "checkpoints", ranks)
        checkpoints.load(engine.model, None, checkpoints.best())
        if dtype != "fp32":
            round_tables(engine.model, plan, dtype)
        layout = config.embeddings.layout(plan)
        loader = Loader(config.data, info, "test", layout, batch_size=64)
        return predict(engine.model, loader, ranks).predictions


def text(rows: list[Mapping[str, object]]) -> bytes:
    """Rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
