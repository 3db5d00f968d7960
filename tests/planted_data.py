"""Clicks whose fields need a known number of dimensions, by two teachers of different kinds.

Neither shares anything with the generator of ``mixdim prepare synthetic``.
"""

# Shapes:  B examples, K latent dimensions, H hidden units, n ids of a field

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.tables import FieldStats
from service.data.dataset import (
    DatasetInfo,
    FieldInfo,
    Provenance,
    Split,
    SplitInfo,
    write_dataset_info,
)
from service.data.ingest.vocabulary import frequency_curve
from service.data.part_file import parts_schema
from tests.datasets import write_part

LATENT_DIM: Final = 16
Ids = dict[str, npt.NDArray[np.int64]]


def _fields(*ranks: int) -> dict[str, int]:
    return {f"C{place}": rank for place, rank in enumerate(ranks, 1)}


THREE_CLASSES: Final = _fields(8, 8, 8, 8, 1, 1, 1, 1, 0, 0, 0, 0)
"""Wide, narrow and noise, each twice large and twice small."""
SIX: Final = _fields(6, 6, 1, 1, 0, 0)
"""The same, each once large and once small."""


class Planted(Protocol):
    """A teacher of clicks who knows how many dimensions the vectors of every field span."""

    @property
    def ranks(self) -> Mapping[str, int]:
        """Dimensions that a field's vectors span; 0 for noise."""
        ...

    @property
    def sizes(self) -> tuple[int, int]:
        """Ids of large and of small fields."""
        ...

    def draw(self, rng: np.random.Generator, num_rows: int) -> tuple[Ids, npt.NDArray[np.float64]]:
        """Ids by field, and the chance of a click ``(B,)``."""
        ...


def rows_of(planted: Planted) -> dict[str, int]:
    """Ids of every field: large and small ones in turns, so that size says nothing of rank."""
    return {name: planted.sizes[place % 2] for place, name in enumerate(planted.ranks)}


@dataclass(frozen=True, kw_only=True)
class FactorisationTeacher:
    """A factorisation machine; ids by ``1 / rank``, normal vectors in a subspace of each field."""

    ranks: Mapping[str, int] = field(default_factory=lambda: _fields(8, 8, 4, 4, 2, 2, 1, 1, 0, 0))
    sizes: tuple[int, int] = (800, 32)

    def draw(self, rng: np.random.Generator, num_rows: int) -> tuple[Ids, npt.NDArray[np.float64]]:
        """Draw ids and what they say."""
        total, squares = np.zeros((num_rows, LATENT_DIM)), np.zeros(num_rows)  # (B, K), (B,)
        drawn: Ids = {}
        for (name, rank), num_ids in zip(self.ranks.items(), rows_of(self).values(), strict=True):
            popularity = 1 / np.arange(1, num_ids + 1)
            ids = rng.choice(num_ids, size=num_rows, p=popularity / popularity.sum())
            basis = np.linalg.qr(rng.normal(size=(LATENT_DIM, max(rank, 1))))[0]
            vectors = rng.normal(size=(num_ids, max(rank, 1))) @ basis.T / np.sqrt(max(rank, 1))
            drawn[name] = ids
            if rank:
                total += vectors[ids]
                squares += np.square(vectors[ids]).sum(axis=1)
        logits = np.square(total).sum(axis=1) - squares
        logits = 2.5 * (logits - logits.mean()) / logits.std() - 1
        return drawn, 1 / (1 + np.exp(-logits))


@dataclass(frozen=True, kw_only=True)
class NetworkTeacher:
    """A random network of absolute values, on signs and uniforms; clicks by a noisy threshold.

    No product of two fields occurs in it, and popularity falls exponentially. A field of rank r
    has r coordinates of its own, which the hidden units mix with those of the others.
    """

    ranks: Mapping[str, int] = field(
        default_factory=lambda: _fields(8, 8, 8, 8, 1, 1, 1, 1, 0, 0, 0, 0)
    )
    sizes: tuple[int, int] = (800, 32)
    hidden: int = 48

    def draw(self, rng: np.random.Generator, num_rows: int) -> tuple[Ids, npt.NDArray[np.float64]]:
        """Draw ids and what they say."""
        units = rng.uniform(-1, 1, self.hidden) * np.ones((num_rows, 1))  # (B, H)
        drawn: Ids = {}
        for (name, rank), num_ids in zip(self.ranks.items(), rows_of(self).values(), strict=True):
            popularity = np.exp(-4 * np.arange(num_ids) / num_ids)
            ids = rng.choice(num_ids, size=num_rows, p=popularity / popularity.sum())
            drawn[name] = rng.permutation(num_ids)[ids]
            coordinates = rng.choice([-1.0, 1.0], (num_ids, rank)) + rng.uniform(
                -0.5, 0.5, (num_ids, rank)
            )
            mixing = rng.choice([-1.0, 1.0], (rank, self.hidden)) / np.sqrt(max(rank, 1))
            units += (coordinates @ mixing)[drawn[name]]
        score = np.abs(units) @ rng.choice([-1.0, 1.0], self.hidden)
        margin = 2 * (score - score.mean()) / score.std() - 0.8
        tail = 0.5 * np.exp(-np.abs(margin))  # of a Laplace distribution
        return drawn, np.where(margin > 0, 1 - tail, tail)


SPECTRAL: Final = FactorisationTeacher()
"""What docs/spectral.md is about."""
TEACHERS: Final[Mapping[str, Planted]] = MappingProxyType(
    {
        "factorisation": FactorisationTeacher(ranks=THREE_CLASSES),
        "network": NetworkTeacher(),
        "factorisation, six": FactorisationTeacher(ranks=SIX, sizes=(300, 50)),
        "network, six": NetworkTeacher(ranks=SIX, sizes=(300, 50)),
    }
)
"""What searches are measured on; nothing was ever set on those of six fields."""


def write_planted(
    folder: Path,
    *,
    seed: int,
    num_train: int,
    held_ratio: float = 0.15,
    planted: Planted = SPECTRAL,
) -> None:
    """Write a dataset whose labels come from a teacher."""
    rng = np.random.default_rng([seed, 4711])
    sizes: dict[Split, int] = {"train": num_train}
    sizes |= {"validation": int(held_ratio * num_train), "test": int(held_ratio * num_train)}
    num_rows, rows = sum(sizes.values()), rows_of(planted)
    ids, chances = planted.draw(rng, num_rows)
    columns: dict[str, npt.NDArray[Any]] = {
        name: _by_frequency(ids[name], num_train, num_ids) for name, num_ids in rows.items()
    }
    columns["label"] = (rng.random(num_rows) < chances).astype(np.float32)
    _write(folder, columns, sizes, rows)


def _by_frequency(ids: npt.NDArray[Any], num_train: int, num_ids: int) -> npt.NDArray[Any]:
    """Ids as ranks: 0 is the most frequent one of the training split."""
    order = np.argsort(-np.bincount(ids[:num_train], minlength=num_ids), kind="stable")
    rank = np.empty(num_ids, dtype=np.int32)
    rank[order] = np.arange(num_ids)
    return rank[ids]


def _write(
    folder: Path,
    columns: Mapping[str, npt.NDArray[Any]],
    sizes: Mapping[Split, int],
    rows: Mapping[str, int],
) -> None:
    splits: dict[Split, SplitInfo] = {}
    start = 0
    for split, num_rows in sizes.items():
        part = {name: column[start : start + num_rows] for name, column in columns.items()}
        table = pa.table(part, schema=parts_schema([], dict.fromkeys(rows, False)))
        written = write_part(folder, f"{split}/part-00000.parquet", table, 8192)
        mean = float(columns["label"][start : start + num_rows].mean())
        splits[split] = SplitInfo(num_rows=num_rows, label_mean=mean, parts=(written,))
        start += num_rows
    _write_info(folder, columns, splits, rows)


def _write_info(
    folder: Path,
    columns: Mapping[str, npt.NDArray[Any]],
    splits: Mapping[Split, SplitInfo],
    rows: Mapping[str, int],
) -> None:
    num_train = splits["train"].num_rows
    (folder / "vocab").mkdir()
    stats = []
    for name, num_ids in rows.items():
        counts = np.bincount(columns[name][:num_train], minlength=num_ids)
        pq.write_table(pa.table({"count": counts}), folder / "vocab" / f"{name}.parquet")
        stats.append(
            FieldStats(
                name=name,
                num_embeddings=num_ids,
                num_lookups=num_train,
                frequency_curve=frequency_curve(counts),
            )
        )
    info = DatasetInfo(
        source="synthetic",
        task="click",
        dense=(),
        fields=tuple(
            FieldInfo(stats=s, num_distinct=s.num_embeddings, missing_id=0, unknown_id=0)
            for s in stats
        ),
        splits=splits,
        num_rows=sum(split.num_rows for split in splits.values()),
        num_rejects=0,
        provenance=Provenance(mixdim_version="test", created="", files=(), options={}),
    )
    write_dataset_info(info, folder)
