"""Dense layers for other fields, against a layer that is read input by input."""

from itertools import combinations

import numpy as np
import pytest

from service.resize.layers import Fields, converted, converted_moment
from service.resize.turns import Turn, kept

RNG = np.random.default_rng(6)
OLD = {"a": 2, "b": 3, "c": 1}
NEW = {"c": 1, "x": 2, "a": 4, "b": 2}
TURN = Turn(np.linalg.qr(RNG.normal(size=(3, 3)))[0][:, :2], np.eye(2, 3), "rotated")
FIELDS = Fields(old=OLD, new=NEW, turns={"a": kept(2, 4), "b": TURN, "c": kept(1, 1)})


def random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def test_a_layer_on_fields_side_by_side_says_of_each_what_it_said():
    old, start = random(5, 6 + 2), random(5, 9 + 2)
    new = converted(old, start, ("plain", "fields"), FIELDS, name="first")
    a, b, c, dense = random(2), random(3), random(1), random(2)
    back = b.astype(np.float64) @ TURN.ahead @ TURN.back
    inputs = np.concatenate([c, np.zeros(2), a, np.zeros(2), b @ TURN.ahead, dense])
    np.testing.assert_allclose(new @ inputs, old @ np.concatenate([a, back, c, dense]), rtol=1e-5)
    np.testing.assert_array_equal(new[:, 1:3], start[:, 1:3])  # inputs that are zero so far
    np.testing.assert_array_equal(new[:, 5:7], start[:, 5:7])


def test_moments_go_with_the_gradient_and_are_zero_where_weights_are_new():
    old, start = np.square(random(5, 8)), random(5, 11)
    axes = ("plain", "fields")
    first = converted_moment(old, start, axes, FIELDS, name="first", squared=False)
    second = converted_moment(old, start, axes, FIELDS, name="first", squared=True)
    np.testing.assert_allclose(first[:, 7:9], old[:, 2:5] @ TURN.ahead, rtol=1e-5)
    np.testing.assert_allclose(second[:, 7:9], old[:, 2:5] @ TURN.ahead**2, rtol=1e-5)
    np.testing.assert_array_equal(second[:, 3:5], old[:, :2])
    assert not first[:, 1:3].any()
    assert not second[:, 5:7].any()


def test_a_layer_on_dots_finds_every_pair_again_and_ignores_new_parts_of_the_dense_vector():
    old_fields, new_fields = {"a": 2, "b": 2, "c": 2}, {"c": 3, "x": 3, "a": 3}
    turns = {"a": kept(2, 3), "c": kept(2, 3)}
    fields = Fields(old=old_fields, new=new_fields, turns=turns)
    old, start = random(4, 2 + 6), random(4, 3 + 6)
    new = converted(old, start, ("plain", "dots"), fields, name="top")
    old_pairs = [frozenset(p) for p in combinations(("dense", *old_fields), 2)]
    new_pairs = [frozenset(p) for p in combinations(("dense", *new_fields), 2)]
    for place, pair in enumerate(new_pairs):
        expected = old[:, 2 + old_pairs.index(pair)] if pair in old_pairs else start[:, 3 + place]
        np.testing.assert_array_equal(new[:, 3 + place], expected)
    np.testing.assert_array_equal(new[:, :2], old[:, :2])
    assert not new[:, 2].any()


def test_what_makes_a_longer_vector_starts_as_a_constant_or_at_zero():
    fields = Fields(old={"a": 2}, new={"a": 4}, turns={"a": kept(2, 4)})
    old, start = random(2, 3), random(4, 3)
    made = converted(old, start, ("vector", "plain"), fields, name="bottom")
    np.testing.assert_array_equal(made, np.concatenate([old, np.zeros((2, 3))]))
    bias = converted(old[:, 0], start[:, 0], ("vector",), fields, name="bias")
    np.testing.assert_array_equal(bias, [*old[:, 0], 0.5, 0.5])
    met = converted(old.T, start.T, ("plain", "factors"), fields, name="factors")
    np.testing.assert_array_equal(met, np.concatenate([old.T, np.zeros((3, 2))], axis=1))


def test_another_network_is_refused_by_layer_and_shape():
    with pytest.raises(ValueError, match=r"layer deep.0 is \(5, 8\) .* and \(6, 11\) here"):
        converted(random(5, 8), random(6, 11), ("plain", "fields"), FIELDS, name="deep.0")
    with pytest.raises(ValueError, match="2 other inputs or outputs, now 3"):
        converted(random(5, 8), random(5, 12), ("plain", "fields"), FIELDS, name="deep.0")
