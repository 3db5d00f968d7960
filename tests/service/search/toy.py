"""Six fields of which two need eight dimensions, two need one, and two none at all."""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from models.tables import FieldStats
from service.data.dataset import (
    DatasetInfo,
    FieldInfo,
    Provenance,
    Split,
    SplitInfo,
    write_dataset_info,
)
from service.data.part_file import parts_schema
from tests.datasets import write_part

NUM_IDS: Final = 60
STRONG: Final = ("a", "b")
WEAK: Final = ("c", "d")
NOISE: Final = ("e", "f")
FIELDS: Final = (*STRONG, *WEAK, *NOISE)


def write_toy(folder: Path, *, seed: int, num_train: int = 60_000) -> None:
    """Clicks by ``<u_a, v_b>``, of eight dimensions, and ``x_c y_d``; all ids equally likely."""
    rng = np.random.default_rng([seed, 815])
    sizes: dict[Split, int] = {"train": num_train}
    sizes |= {"validation": num_train // 6, "test": num_train // 6}
    num_rows = sum(sizes.values())
    ids = {name: rng.integers(NUM_IDS, size=num_rows, dtype=np.int32) for name in FIELDS}
    strong, weak = (rng.normal(size=(2, NUM_IDS, rank)) for rank in (8, 1))
    logits = (strong[0][ids["a"]] * strong[1][ids["b"]]).sum(axis=1) / np.sqrt(8)
    logits = 1.5 * (logits + weak[0][ids["c"], 0] * weak[1][ids["d"], 0])
    labels = (rng.random(num_rows) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    splits, start = {}, 0
    for split, size in sizes.items():
        rows = slice(start, start + size)
        table = pa.table(
            {"label": labels[rows]} | {name: of[rows] for name, of in ids.items()},
            schema=parts_schema([], dict.fromkeys(FIELDS, False)),
        )
        part = write_part(folder, f"{split}/part-00000.parquet", table, 8192)
        splits[split] = SplitInfo(
            num_rows=size, label_mean=float(labels[rows].mean()), parts=(part,)
        )
        start += size
    stats = [FieldStats(name=n, num_embeddings=NUM_IDS, num_lookups=num_train) for n in FIELDS]
    info = DatasetInfo(
        source="synthetic",
        task="click",
        dense=(),
        fields=tuple(
            FieldInfo(stats=s, num_distinct=NUM_IDS, missing_id=0, unknown_id=0) for s in stats
        ),
        splits=splits,
        num_rows=num_rows,
        num_rejects=0,
        provenance=Provenance(mixdim_version="test", created="", files=(), options={}),
    )
    write_dataset_info(info, folder)
