"""Small embeddings and batches for tests of networks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.base import CtrModel
from models.embeddings.mixed import MixedEmbeddings
from models.tables import Block, Join, SizingPlan

Array = npt.NDArray[np.float64]

GOLDEN: Final = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())
"""Numbers of an independent computation."""

ROWS = 11
WIDTHS = {"a": 8, "b": 4, "c": 8}
EQUAL = dict.fromkeys(WIDTHS, 8)
PAIR = {"a": 8, "b": 4}


def embeddings_of(widths: Mapping[str, int] = WIDTHS, join: Join = "project") -> MixedEmbeddings:
    """One table a field, of weights about as large as trained ones."""
    embeddings = MixedEmbeddings(
        SizingPlan(
            fields={
                name: (Block(num_embeddings=ROWS, embedding_dim=w, asked_dim=w),)
                for name, w in widths.items()
            },
            out_dim=max(widths.values()),
            join=join,
        )
    )
    for weight in embeddings.parameters():
        nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(weight.numel()))
    return embeddings


def fastai_embeddings(user_dim: int, title_dim: int) -> MixedEmbeddings:
    """Tables of fastai's MovieLens 100k: 943 users and 1,634 titles, and one row for neither."""
    rows = {"user": (944, user_dim), "title": (1635, title_dim)}
    blocks = {
        n: (Block(num_embeddings=r, embedding_dim=d, asked_dim=d),) for n, (r, d) in rows.items()
    }
    plan = SizingPlan(fields=blocks, out_dim=max(user_dim, title_dim), join="concatenate")
    return MixedEmbeddings(plan)


def inputs_of(
    names: Sequence[str], num_dense: int = 5, batch: int = 6, seed: int = 0
) -> tuple[Tensor, KeyedJaggedTensor]:
    """Dense inputs and one id a field and example."""
    generator = torch.Generator().manual_seed(seed)
    features = KeyedJaggedTensor(
        keys=list(names),
        values=torch.randint(ROWS, (len(names) * batch,), generator=generator),
        lengths=torch.ones(len(names) * batch, dtype=torch.int32),
        stride=batch,
    )
    return torch.rand(batch, num_dense, generator=generator), features


def float64(tensor: Tensor) -> Array:
    """A tensor's values."""
    values: Array = tensor.detach().double().numpy()
    return values


def vectors_of(model: CtrModel, features: KeyedJaggedTensor) -> list[list[Array]]:
    """By example and field: the vector that the model sees."""
    ends = np.cumsum(model.embeddings.field_dims)[:-1]
    return [np.split(example, ends) for example in float64(model.embeddings(features).side_by_side)]


def layers_of(layers: nn.Module | Sequence[nn.Module]) -> list[tuple[Array, Array]]:
    """Weights and biases of linear layers."""
    return [(float64(x.weight), float64(x.bias)) for x in layers]  # type: ignore[union-attr]


def dense_parameters(model: nn.Module) -> list[nn.Parameter]:
    """All but tables and projections."""
    return [
        weight
        for name, weight in model.named_parameters()
        if not name.startswith("embeddings.") and "embedding_bags" not in name
    ]


def plain_tables(model: CtrModel) -> EmbeddingBagCollection:
    """TorchRec's own collection with a copy of the model's tables, which are equally wide."""
    bags = model.embeddings.tables.embedding_bags  # type: ignore[union-attr]
    twin = EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=f"t_{name}",
                feature_names=[name],
                num_embeddings=bag.weight.shape[0],
                embedding_dim=bag.weight.shape[1],
            )
            for name, bag in bags.items()  # type: ignore[operator, union-attr]
        ]
    )
    with torch.no_grad():
        for mine, other in zip(bags.parameters(), twin.parameters(), strict=True):  # type: ignore[union-attr, operator]
            other.copy_(mine)
    return twin


def copy_weights(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Give the second the values of the first."""
    with torch.no_grad():
        for mine, other in zip(source, target, strict=True):
            other.copy_(mine)
