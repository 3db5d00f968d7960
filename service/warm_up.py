"""A finished run as others start from it: the vectors of its ids, read a stored piece at a time.

No model is built and no process group is joined. At most one stored shard of one table is held,
so that tables that were trained on many ranks can be read by one.
"""

# Shapes:  n ids, d width of a table, D_f width of the field's vector

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.embeddings.unifier import WidthUnifier
from models.tables import FieldStats, SizingPlan, Table
from service.checkpoint import StoredTensors, best_checkpoint
from service.run_folder import SIZING_FILE, RunFolder
from service.sizing import read_sizing

NETWORK: Final = "model.network."
EMBEDDINGS: Final = NETWORK + "embeddings."
TABLES: Final = EMBEDDINGS + "tables.embedding_bags."
PROJECTIONS: Final = EMBEDDINGS + "unify.projections."

Vectors = NDArray[np.float32]


class WarmUp:
    """The vectors and layers of a run's best checkpoint.

    Args:
        folder: The run.
        checkpoint: Another one of its checkpoints.

    Raises:
        FileNotFoundError: If the folder holds no run, or the run left no checkpoint.
    """

    def __init__(self, folder: Path, checkpoint: Path | None = None) -> None:
        run = RunFolder(folder)
        self.folder = folder
        self.config = run.read_config()
        self._check_kind()
        plan = read_sizing(folder / SIZING_FILE).plan
        self.plan: SizingPlan = replace(plan, join=self.config.network.join)
        checkpoint = checkpoint or best_checkpoint(run.checkpoints)
        if checkpoint is None:
            raise FileNotFoundError(
                f"{run.checkpoints} holds no finished checkpoint; train with `mixdim train`"
            )
        self.checkpoint = checkpoint
        self.stored = StoredTensors(checkpoint)
        self._tables = list(self.plan.tables())
        self._slots = projection_slots(self.plan)

    def _check_kind(self) -> None:
        """Refuse a run whose tables do not have the vectors that its network sees."""
        if not self.config.embeddings.keeps_vectors:
            raise ValueError(
                f"run {self.folder} has embeddings of kind {self.config.embeddings.kind!r}, "
                f"expected the tables of a sizing plan (kind 'mixed'); name a run that has them"
            )

    @property
    def field_dims(self) -> dict[str, int]:
        """``D_f``: width of every field's vectors."""
        return {table.field: self.plan.target_dim(table) for table in self._tables}

    @property
    def has_bias_column(self) -> bool:
        """Whether the first element of every vector is a bias, and no factor."""
        network = self.config.network
        return network.kind == "dotbias" or (network.kind == "mf" and network.biases == "column")

    def check_field(self, stats: FieldStats) -> None:
        """Refuse a field that the run did not train, or trained with other ids.

        Raises:
            ValueError: If the field is missing or has another number of ids.
        """
        ids = {name: sum(b.num_ids for b in blocks) for name, blocks in self.plan.fields.items()}
        if stats.name not in ids:
            raise ValueError(
                f"warm-up {self.folder} has no field {stats.name!r}, it has {list(ids)}; train it "
                f"with all fields, or name fewer: --fields"
            )
        if ids[stats.name] != stats.num_embeddings:
            raise ValueError(
                f"field {stats.name!r}: the warm-up {self.folder} knows {ids[stats.name]} ids, "
                f"the dataset has {stats.num_embeddings}; train the warm-up on this dataset"
            )

    def pieces(self, field: str, first_id: int, end_id: int) -> Iterator[tuple[int, Vectors]]:
        """Vectors of a run of ids in pieces, with the id that each piece starts at.

        Shape:
            - Output: ``(n, D_f)``, behind the projection or padding.
        """
        for table in self._tables:
            start, end = max(first_id, table.first_id), min(end_id, table.first_id + table.num_ids)
            if table.field == field and start < end:
                projection = self.projection(table)
                for first, rows in self._rows(table, start, end):
                    yield first, rows if projection is None else rows @ projection

    def dense(self) -> dict[str, Tensor]:
        """Every weight that is no table and no projection, by its name in the model."""
        names = [
            name
            for name in self.stored.shapes
            if name.startswith(NETWORK) and not name.startswith(EMBEDDINGS)
        ]
        return {
            name.removeprefix("model."): torch.from_numpy(self.stored.read(name)) for name in names
        }

    def _rows(self, table: Table, start: int, end: int) -> Iterator[tuple[int, Vectors]]:
        """Rows of ids ``start`` to ``end`` of a table, one stored shard at a time."""
        name = f"{TABLES}{table.name}.weight"
        if table.hashed_ids:
            yield start, self._whole(name, table)[self._hashed_rows(table, start, end)]
            return
        cuts = [row * table.packing + table.first_id for row in self.stored.row_cuts(name)]
        inside = sorted({start, end, *(cut for cut in cuts if start < cut < end)})
        for first, last in pairwise(inside):
            low, high = first - table.first_id, last - table.first_id
            stored = slice(low // table.packing, -(-high // table.packing))
            rows = self.stored.read(name, stored).reshape(-1, table.embedding_dim)
            skipped = low - stored.start * table.packing
            yield first, rows[skipped : skipped + last - first]

    def _whole(self, name: str, table: Table) -> Vectors:
        return self.stored.read(name).reshape(-1, table.embedding_dim)[: table.num_embeddings]

    @staticmethod
    def _hashed_rows(table: Table, start: int, end: int) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = np.arange(start - table.first_id, end - table.first_id)
        return rows % table.num_embeddings

    def projection(self, table: Table) -> Vectors | None:
        """What rows of a table are multiplied with ``(d, D_f)``; None where by nothing.

        Of padded tables it is the identity.
        """
        if table.name not in self._slots:
            d, width = table.embedding_dim, self.plan.target_dim(table)
            return None if d == width else np.eye(d, width, dtype=np.float32)
        index, slot = self._slots[table.name]
        projection: Vectors = self.stored.read(f"{PROJECTIONS}{index}")[slot]
        return projection


def projection_slots(plan: SizingPlan) -> Mapping[str, tuple[int, int]]:
    """By name of a narrow table, which of the model's projections is its own, and which slot."""
    if plan.join == "pad":
        return {}
    tables = list(plan.tables())
    targets = {table.field: plan.target_dim(table) for table in tables}
    with torch.device("meta"):
        unify = WidthUnifier(tables, list(targets.values()))
    return {
        name: (index, slot)
        for index, (_, names) in enumerate(unify.narrow_tables)
        for slot, name in enumerate(names)
    }
