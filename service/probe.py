"""A finished run's network on vectors that are looked up here, for what is measured on it.

The run's tables are read piece by piece; of their vectors only those are kept that the sampled
examples look up. No process group is joined.
"""

# Shapes:  B batch, D_f width of a field's vectors, U ids that the sample looks up, K scores

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag, softplus

from models.embeddings.vectors import FieldVectors
from models.sizing.spectral import Floats
from models.tables import WIDTH_STEP, SizingPlan
from service.data.batch import Batch
from service.data.dataset import DatasetInfo, Split
from service.data.loader import Loader
from service.train.engine import build_task
from service.train.task import TrainTask
from service.warm_up import WarmUp

SAMPLE_EXAMPLES: Final = 1 << 17
"""Examples of a split that are looked at, at most."""
BATCH_SIZE: Final = 4096


@dataclass(frozen=True, slots=True)
class Looked:
    """Vectors of the ids that a sample looks up."""

    ids: NDArray[np.int64]  # (U,) rising
    vectors: Tensor  # (U, D_f)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Ids of a field that are measured together: all of them, or those of one block."""

    name: str
    """The table's, see `models.tables.Table.name`."""
    field: str
    first_id: int
    end_id: int


class Probe:
    """A run's network, scoring vectors that are looked up here.

    Args:
        warm_up: The run.
        info: The dataset that it was trained on.
        looked: By field, in the order of the run's, the vectors that batches may look up.
    """

    def __init__(self, warm_up: WarmUp, info: DatasetInfo, looked: Mapping[str, Looked]) -> None:
        self.task: TrainTask = build_task(
            warm_up.config, info, warm_up.plan, device=torch.device("cpu"), tables_on="meta"
        ).eval()
        weights = self.task.state_dict()
        for name, value in warm_up.dense().items():
            weights[name].copy_(value)
        self.looked = looked
        self._starts = np.cumsum([0, *(part.vectors.shape[1] for part in looked.values())])
        self._means = {
            field.stats.name
            for field in info.fields
            if field.is_list and warm_up.config.pooling == "mean"
        }

    def fields(self, batch: Batch) -> Tensor:
        """Pooled vectors of all fields side by side ``(B, sum of D_f)``, ready for a gradient."""
        whole = [
            torch.from_numpy(self.pool(batch, Run(name=name, field=name, first_id=0, end_id=end)))
            for name, end in ((name, int(part.ids[-1]) + 1) for name, part in self.looked.items())
        ]
        return torch.cat(whole, dim=1).float().requires_grad_()

    def scores(self, batch: Batch, fields: Tensor) -> Tensor:
        """Scores of pooled vectors ``(B,)``."""
        return self.task.network.score(batch.dense, FieldVectors(fields))

    def pool(self, batch: Batch, run: Run, *, ones: bool = False) -> Floats:
        """Pooled vectors of a run's ids ``(B, D_f)``, or the sum of their squared shares."""
        column = batch.features[run.field]
        ids, lengths = column.values().numpy(), column.lengths()
        looked = self.looked[run.field]
        shares = torch.from_numpy(((ids >= run.first_id) & (ids < run.end_id)).astype(np.float64))
        if run.field in self._means:
            shares = shares / lengths.double().repeat_interleave(lengths)
        table = torch.ones(len(looked.ids), 1) if ones else looked.vectors
        pooled: Floats = embedding_bag(
            torch.from_numpy(np.searchsorted(looked.ids, ids)),
            table.double(),
            column.offsets()[:-1].long(),
            mode="sum",
            per_sample_weights=shares.square() if ones else shares,
        ).numpy()
        return pooled

    def of(self, fields: Floats, name: str) -> Floats:
        """The columns of one field ``(B, D_f)``."""
        index = list(self.looked).index(name)
        return fields[:, self._starts[index] : self._starts[index + 1]]

    def width(self, field: str) -> int:
        """``D_f``."""
        return self.looked[field].vectors.shape[1]

    def predictions(self, scores: Tensor) -> Tensor:
        """What scores ``(B,)`` stand for: probabilities, or ratings within their bounds."""
        return self.task.predictions(self.task.outcomes(scores))

    def losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Loss of every score of every example ``(B, K)``; labels are ``(B,)``."""
        scores, labels = scores + self.task.constant.double(), labels[:, None]
        if self.task.is_click:
            return softplus(scores) - labels * scores
        if self.task.y_range is not None:
            low, high = self.task.y_range
            scores = low + (high - low) * torch.sigmoid(scores)
        return (scores - labels).square()


def sample(
    data: Path,
    info: DatasetInfo,
    split: Split,
    plan: SizingPlan,
    num_examples: int = SAMPLE_EXAMPLES,
) -> Iterator[Batch]:
    """Examples of a split in batches, ids by field as they are in the data.

    Args:
        data: The dataset's folder.
        info: Its description.
        split: Which split.
        plan: Gives the fields.
        num_examples: How many examples, at most; chosen by a seed of its own.

    Raises:
        ValueError: If the split is empty.
    """
    if not info.has_rows(split):
        raise ValueError(
            f"{data} has no {split} examples, and spectral sizing judges directions by examples "
            f"that the warm-up was not trained on; prepare with --fractions 0.8 0.1 0.1"
        )
    stats = {stats.name: stats for stats in info.field_stats}
    ids = SizingPlan.one_block_each(
        [stats[name] for name in plan.fields],
        dict.fromkeys(plan.fields, WIDTH_STEP),
        out_dim=WIDTH_STEP,
    )
    batch_size = min(BATCH_SIZE, num_examples)
    loader = Loader(data, info, split, ids, batch_size=batch_size, seed=0)
    yield from islice(loader.batches(), num_examples // batch_size)


def ids_of(field: str, batches: Sequence[Batch]) -> NDArray[np.int64]:
    """Ids of a field that batches look up, rising."""
    return np.unique(np.concatenate([b.features[field].values().numpy() for b in batches]))


def look_up(warm_up: WarmUp, batches: Sequence[Batch]) -> dict[str, Looked]:
    """Vectors of all ids that batches look up, by field."""
    looked = {}
    for field, blocks in warm_up.plan.fields.items():
        ids = ids_of(field, batches)
        num_ids = sum(block.num_ids for block in blocks)
        found = [
            vectors[ids[slice(*np.searchsorted(ids, [first, first + len(vectors)]))] - first]
            for first, vectors in warm_up.pieces(field, 0, num_ids)
        ]
        looked[field] = Looked(ids, torch.from_numpy(np.concatenate(found)))
    return looked
