"""Slow, plain float64 versions of what the product computes fast."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.tables import SizingPlan

Array = npt.NDArray[np.float64]
Ids = Mapping[str, Sequence[Sequence[int]]]
"""By field: the ids of every example."""


def mixed_vectors(
    plan: SizingPlan,
    weights: Mapping[str, Array],
    projections: Mapping[str, Array],
    ids: Ids,
    means: Collection[str] = (),
) -> Array:
    """Algorithm 1 of the mixed-dimension paper, one id at a time: fields side by side.

    Weights are those of unpacked tables; fields in ``means`` are divided by their number of ids.
    Fields are as wide as the model, or where they are concatenated as their widest block; what is
    narrower is multiplied with its projection, or has zeros behind it where it is padded.
    """
    fields = []
    for field, blocks in plan.fields.items():
        tables = [table for table in plan.tables() if table.field == field]
        widest = max(block.embedding_dim for block in blocks)
        width = widest if plan.join == "concatenate" else plan.out_dim
        vectors = np.zeros((len(ids[field]), width))
        for example, bag in enumerate(ids[field]):
            for row in bag:
                table = max(
                    (t for t in tables if t.first_id <= row), key=lambda table: table.first_id
                )
                vector = weights[table.name][(row - table.first_id) % table.num_embeddings]
                if table.embedding_dim < width and plan.join != "pad":
                    vector = vector @ projections[table.name]
                vectors[example, : len(vector)] += vector / (len(bag) if field in means else 1)
        fields.append(vectors)
    return np.concatenate(fields, axis=1)


def mlp(layers: Sequence[tuple[Array, Array]], inputs: Array, *, last_activation: bool) -> Array:
    """Linear layers with ReLU between them; ``layers`` are (weight (O, I), bias (O,))."""
    for index, (weight, bias) in enumerate(layers):
        inputs = inputs @ weight.T + bias
        if index + 1 < len(layers) or last_activation:
            inputs = np.maximum(inputs, 0)
    return inputs


def pair_dots(vectors: Array) -> Array:
    """Dots of all pairs of the ``N`` vectors of each example: ``(B, N (N - 1) / 2)``."""
    num_vectors = vectors.shape[1]
    return np.stack(
        [
            [example[i] @ example[j] for i in range(num_vectors) for j in range(i + 1, num_vectors)]
            for example in vectors
        ]
    )
