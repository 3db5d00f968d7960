"""Which directions are kept, against the full SVD."""

import numpy as np
import pytest

from service.resize.turns import Widths, aligned_turns, kept, own_turns

WIDTH = 8
RNG = np.random.default_rng(5)
FIELDS = {
    name: RNG.normal(size=(60, WIDTH)) @ np.diag(np.geomspace(3, 0.1, WIDTH)) @ mix
    for name, mix in zip("abc", RNG.normal(size=(3, WIDTH, WIDTH)), strict=True)
}
MOMENTS = {name: vectors.T @ vectors for name, vectors in FIELDS.items()}


def widths(names: str, target: int, **more: object) -> Widths:
    return Widths(before=dict.fromkeys(names, WIDTH), after=dict.fromkeys(names, target), **more)


def pick(names: str) -> dict[str, np.ndarray]:
    return {name: MOMENTS[name] for name in names}


def test_two_fields_keep_the_best_dots_of_their_rank():
    turns = aligned_turns(widths("ab", 3), pick("ab"), is_turnable=True, is_pair=True)
    first, second = (FIELDS[name] @ turns[name].ahead for name in "ab")
    left, values, right = np.linalg.svd(FIELDS["a"] @ FIELDS["b"].T)
    best = (left[:, :3] * values[:3]) @ right[:3]
    np.testing.assert_allclose(first @ second.T, best, atol=1e-8)


@pytest.mark.parametrize("is_pair", [True, False])
def test_at_full_width_all_dots_stay_and_biases_stay_in_their_column(is_pair):
    names = "ab" if is_pair else "abc"
    cut = widths(names, WIDTH, cuts=[3], fixed=1)
    turns = aligned_turns(cut, pick(names), is_turnable=True, is_pair=is_pair)
    a, b = (FIELDS[name] @ turns[name].ahead for name in "ab")
    np.testing.assert_allclose(a[:, 0], FIELDS["a"][:, 0])
    np.testing.assert_allclose(a[:, 1:] @ b[:, 1:].T, FIELDS["a"][:, 1:] @ FIELDS["b"][:, 1:].T)
    assert turns["a"].kind == "rotated"


def test_columns_on_either_side_of_a_padded_width_are_not_mixed():
    cut = widths("abc", WIDTH, cuts=[6], edges=[4])
    turn = aligned_turns(cut, MOMENTS, is_turnable=True, is_pair=False)["a"].ahead
    np.testing.assert_array_equal(turn[:4, :4], np.eye(4))
    assert not turn[:4, 4:].any()
    assert not turn[4:, :4].any()
    assert np.abs(turn[4:, 4:] - np.eye(4)).max() > 0.1


def test_side_by_side_a_field_loses_what_its_readers_notice_least():
    layer = RNG.normal(size=(3, WIDTH))  # reads three directions, and all of them are kept
    turn = own_turns(widths("a", 4), pick("a"), {"a": layer.T @ layer}, is_turnable=True)["a"]
    folded = layer @ turn.back.T
    np.testing.assert_allclose(FIELDS["a"] @ turn.ahead @ folded.T, FIELDS["a"] @ layer.T)
    np.testing.assert_allclose(turn.back @ turn.back.T, np.eye(4), atol=1e-12)


def test_where_coordinates_have_a_meaning_the_strongest_are_picked():
    for turn in (
        aligned_turns(widths("abc", 3), MOMENTS, is_turnable=False, is_pair=False)["a"],
        own_turns(widths("a", 3), pick("a"), {}, is_turnable=False)["a"],
    ):
        assert turn.kind == "picked"
        assert (turn.ahead.sum(axis=0) == 1).all()
        assert set(np.unique(turn.ahead)) == {0.0, 1.0}
    chosen = np.flatnonzero(turn.ahead.any(axis=1))
    assert set(chosen) == set(np.argsort(np.diag(MOMENTS["a"]))[-3:])


def test_nothing_is_read_or_turned_where_nothing_is_cut():
    grown = Widths(before={"a": 4, "b": 4}, after={"a": 8, "b": 8}, edges=[2], cuts=[])
    for turn in aligned_turns(grown, {}, is_turnable=True, is_pair=True).values():
        assert turn.is_kept
        np.testing.assert_array_equal(turn.ahead, kept(4, 8).ahead)
