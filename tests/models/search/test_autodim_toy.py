"""The specification's toy of AutoDim: who gets which width, by our mixture and plain torch.

Six fields of 60 ids: two of rank 8, two of rank 1, two of noise; a factorisation machine on shared
tables, Adam for all. The specification's own small implementation found 8 to 16, 4 to 8 and 2, and
by joint training the widest everywhere; orders are asserted, not widths.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from models.fm import pairwise_interactions
from models.search.autodim import Mixture
from models.turn import Turn

CANDIDATES = (2, 4, 8, 16)
FIELDS, IDS, BATCH = 6, 60, 1024
PRETRAIN, STEPS, WEIGHT_STEPS = 300, 1500, 3
COLDEST = 0.05


def clicks(seed: int) -> tuple[Tensor, Tensor]:
    """Ids ``(B, F)`` and labels of 60,000 examples."""
    rng = np.random.default_rng([seed, 1])
    ids = rng.integers(0, IDS, (60_000, FIELDS))
    wide, narrow = rng.normal(size=(2, IDS, 8)), rng.normal(size=(2, IDS))
    logits = 1.5 * (wide[0][ids[:, 0]] * wide[1][ids[:, 1]]).sum(axis=1) / np.sqrt(8)
    logits += narrow[0][ids[:, 2]] * narrow[1][ids[:, 3]]
    labels = rng.random(len(ids)) < 1 / (1 + np.exp(-logits))
    return torch.from_numpy(ids + IDS * np.arange(FIELDS)), torch.from_numpy(labels).float()


class Toy(nn.Module):
    """A factorisation machine behind the mixture."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(0.01 * torch.randn(FIELDS * IDS, CANDIDATES[-1]))
        self.linear = nn.Parameter(torch.zeros(FIELDS * IDS))
        self.constant = nn.Parameter(torch.zeros(()))
        self.mixture = Mixture(FIELDS, CANDIDATES, is_shared=True, pads=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        fields = self.mixture(self.table[ids], None).unflatten(1, (FIELDS, -1))
        dots = pairwise_interactions(fields.sum(dim=1), fields.square().sum(dim=(1, 2)))
        return self.constant + self.linear[ids].sum(dim=1) + dots


def widths_of(seed: int, *, is_joint: bool) -> list[int]:
    """Widths that the search finds."""
    ids, labels = clicks(seed)
    draws = np.random.default_rng([seed, 2])
    torch.manual_seed(seed)
    toy = Toy()
    weights = [p for name, p in toy.named_parameters() if name != "mixture.theta"]
    weights_adam = torch.optim.Adam(weights, lr=1e-2)
    theta_adam = torch.optim.Adam([toy.mixture.theta], lr=2e-2)
    for turn in turns(seed, is_joint=is_joint):
        toy.mixture.turn, searched = turn, turn.step - PRETRAIN
        cold = max(COLDEST, 1 - (1 - COLDEST) * searched / (STEPS - PRETRAIN))
        toy.mixture.temperature = cold if searched >= 0 else None
        split = (0, 42_000) if turn.moves_weights else (42_000, 51_000)
        rows = torch.from_numpy(draws.integers(*split, BATCH))
        loss = binary_cross_entropy_with_logits(toy(ids[rows]), labels[rows])
        toy.zero_grad()
        loss.backward()
        if turn.moves_weights:
            weights_adam.step()
        if turn.moves_architecture:
            theta_adam.step()
    return [CANDIDATES[n] for n in toy.mixture.theta.argmax(dim=1)]


def turns(seed: int, *, is_joint: bool) -> Iterator[Turn]:
    """Steps of the weights, and after every third, or with each, one of the choice."""
    for step in range(STEPS):
        is_searching = step >= PRETRAIN
        yield Turn(step=step, seed=seed, moves_architecture=is_joint and is_searching)
        if is_searching and not is_joint and step % WEIGHT_STEPS == 0:
            yield Turn(step=step, seed=seed, moves_weights=False, moves_architecture=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_widths_follow_ranks_where_validation_decides_and_else_are_wide(seed):
    found, joint = (widths_of(seed, is_joint=is_joint) for is_joint in (False, True))
    wide, narrow, noise = (sum(found[n : n + 2]) for n in (0, 2, 4))
    assert wide > narrow >= noise == 2 * CANDIDATES[0], found
    assert sum(joint) > sum(found), joint
    assert min(joint) >= 8, joint
