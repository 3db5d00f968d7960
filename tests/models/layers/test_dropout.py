"""Dropout: how much is left out, what decides which, and what an MLP makes of it."""

import pytest
import torch

from models.layers.dropout import Dropout
from models.layers.linear import Linear
from models.layers.mlp import MLP
from models.turn import Turn


def left_out(dropout: Dropout, turn: Turn) -> torch.Tensor:
    dropout.take_turn(turn)
    out: torch.Tensor = dropout(torch.ones(64, 50)) == 0
    return out


def test_the_asked_share_is_left_out_and_the_mean_stays():
    dropout = Dropout(0.3)
    units = torch.rand(1000, 100, dtype=torch.float64) + 1
    shown = dropout(units)
    kept = shown != 0
    assert (~kept).double().mean().item() == pytest.approx(0.3, abs=0.005)
    torch.testing.assert_close(shown[kept], units[kept] / 0.7)
    assert shown.mean().item() == pytest.approx(units.mean().item(), rel=0.01)


def test_what_is_left_out_has_no_gradient():
    units = torch.ones(8, 20, requires_grad=True)
    shown = Dropout(0.5)(units)
    shown.sum().backward()
    assert torch.equal(units.grad, shown.detach())


def test_the_step_decides_and_not_what_was_drawn_before():
    dropout, other = Dropout(0.5, place=1), Dropout(0.5, place=2)
    first = left_out(dropout, Turn(step=3, seed=1))
    torch.manual_seed(99)
    left_out(dropout, Turn(step=4, seed=1))
    assert torch.equal(left_out(dropout, Turn(step=3, seed=1)), first)
    for turn in (Turn(step=4, seed=1), Turn(step=3, seed=2)):
        assert not torch.equal(left_out(dropout, turn), first)
    assert not torch.equal(left_out(other, Turn(step=3, seed=1)), first)


def test_ranks_leave_out_different_units(monkeypatch):
    first = left_out(Dropout(0.5), Turn())
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    assert not torch.equal(left_out(Dropout(0.5), Turn()), first)


def test_an_mlp_drops_behind_every_relu_in_training_alone():
    torch.manual_seed(0)
    with_it, without = MLP(5, [40, 30, 1], dropout=0.2), MLP(5, [40, 30, 1])
    assert [type(layer) for layer in with_it] == [Linear, Dropout, Linear, Dropout, Linear]
    assert len({layer.place for layer in with_it if isinstance(layer, Dropout)}) == 2
    for mine, other in zip(with_it.parameters(), without.parameters(), strict=True):
        mine.data.copy_(other.data)
    inputs = torch.randn(16, 5)
    assert not torch.allclose(with_it(inputs), without(inputs))
    assert torch.equal(with_it.eval()(inputs), without(inputs))
    last = MLP(5, [4], last_activation=True, dropout=0.2)
    assert [type(layer) for layer in last] == [Linear, Dropout]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_shares_that_leave_nothing_are_refused(share):
    with pytest.raises(ValueError, match=rf"dropout={share}, expected in \[0, 1\); try 0\.2"):
        MLP(5, [4, 1], dropout=share)
