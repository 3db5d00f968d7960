"""Normalised keys against torch's own batch normalisation of the products that they make."""

import pytest
import torch
from torch import nn

from models.layers.batch_norm import EPSILON, MOMENTUM, ProductNorm

BATCH, FIELDS, GROUPS, KEYS, WIDTH = 29, 3, 4, 5, 6


def points_and_keys():
    torch.manual_seed(2)
    points = torch.randn(BATCH, FIELDS, GROUPS, WIDTH, dtype=torch.float64) + 3
    points[..., -1] = 1
    return points, torch.randn(FIELDS, GROUPS, KEYS, WIDTH, dtype=torch.float64)


def products(points, keys):
    return torch.einsum("bfgz,fgkz->fkbg", points, keys).flatten(2)  # (F, K, B G)


@pytest.mark.parametrize("filling", [0, 5])
def test_products_are_those_of_torchs_batch_norm(filling):
    points, keys = points_and_keys()
    counted = BATCH - filling
    weights = torch.cat([torch.rand(counted) + 0.1, torch.zeros(filling)]).double()
    own = ProductNorm(FIELDS, KEYS).double()
    reference = nn.BatchNorm1d(FIELDS * KEYS, eps=EPSILON, momentum=MOMENTUM, affine=False).double()
    for step in range(3):
        moved = torch.cat([points[:counted] + step, points[counted:] * 100])
        moved[..., -1] = 1
        normalised = own(moved, keys, weights if filling else None)
        expected = reference(products(moved[:counted], keys).flatten(0, 1).T)
        got = products(moved[:counted], normalised).flatten(0, 1).T
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(own.mean.flatten(), reference.running_mean)
    torch.testing.assert_close(own.variance.flatten(), reference.running_var)
    own.eval(), reference.eval()
    torch.testing.assert_close(
        products(points, own(points, keys, None)).flatten(0, 1).T,
        reference(products(points, keys).flatten(0, 1).T),
    )


def test_gradients_are_those_of_torchs_batch_norm():
    points, keys = points_and_keys()
    points.requires_grad_(), keys.requires_grad_()
    upstream = torch.randn(FIELDS, KEYS, BATCH * GROUPS, dtype=torch.float64)
    own = ProductNorm(FIELDS, KEYS).double()
    got = (products(points, own(points, keys, None)) * upstream).sum()
    raw = products(points, keys).flatten(0, 1).T
    expected = nn.functional.batch_norm(raw, None, None, training=True, eps=EPSILON)
    wanted = (expected * upstream.flatten(0, 1).T).sum()
    for a, b in zip(
        torch.autograd.grad(got, (points, keys)),
        torch.autograd.grad(wanted, (points, keys)),
        strict=True,
    ):
        # The last column is 1, whatever its gradient says, and only shifts what is centred again.
        torch.testing.assert_close(a[..., :-1], b[..., :-1])


def test_no_variance_is_below_zero_where_a_batch_has_two_points():
    torch.manual_seed(0)
    for _ in range(60):
        pair = 3 * torch.randn(2, 1, 1, 8)
        keys = pair.mean(dim=0, keepdim=True) + 0.01 * torch.randn(1, 1, 64, 8)
        points = torch.cat([pair, pair.square().sum(3, keepdim=True), torch.ones(2, 1, 1, 1)], 3)
        ones, lengths = torch.ones(1, 1, 64, 1), keys.square().sum(3, keepdim=True)
        norm = ProductNorm(1, 64)
        normalised = norm(points, torch.cat([2 * keys, -ones, -lengths], 3), None)
        assert normalised.isfinite().all()
        assert (norm.variance > 0).all()
