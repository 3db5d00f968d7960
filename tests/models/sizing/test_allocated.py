"""Bytes of plans that the solver makes against the tensors that a model allocates for them."""

import numpy as np
import pytest
import torch

from models.embeddings.mixed import MixedEmbeddings
from models.sizing import best_fit, plan_bytes
from models.sizing.rows import RowChoice
from models.tables import Block, Join, SizingPlan

JOINS: tuple[Join, ...] = ("project", "pad", "concatenate")


@pytest.mark.parametrize("seed", range(12))
def test_a_solved_plan_takes_the_bytes_of_the_tensors_that_it_allocates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [int(n) for n in np.exp(rng.normal(5, 2, 6)) + 40]
    plan = SizingPlan(
        fields={
            f"C{i}": (
                Block(num_embeddings=n, embedding_dim=1, asked_dim=float(rng.lognormal(1, 1))),
            )
            for i, n in enumerate(rows)
        },
        out_dim=1,
        join=JOINS[seed % 3],
    )
    halves = {
        f"C{i}": [
            RowChoice(num_embeddings=n // 3, tail_rows=1 + 4 * (seed % 2), lookup_ratio=0.97),
            RowChoice(num_embeddings=n, tail_rows=0, lookup_ratio=1.0),
        ]
        for i, n in enumerate(rows[:3])
    }
    found = best_fit(plan, 9 * sum(rows), grid=[1, 2, 4, 8, 12, 16], rows=halves).plan
    embeddings = MixedEmbeddings(found)
    allocated = sum(p.numel() * p.element_size() for p in embeddings.parameters())
    assert allocated == plan_bytes(found).serving_bytes
    assert {1, 2} & set(found.dims().values())
    adam = torch.optim.Adam(embeddings.parameters(), lr=0.1, amsgrad=False)
    for parameter in embeddings.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adam.step()
    moments = sum(
        state.numel() * state.element_size()
        for of_parameter in adam.state.values()
        for name, state in of_parameter.items()
        if name != "step"
    )
    assert allocated + moments == plan_bytes(found, "adam").training_bytes
