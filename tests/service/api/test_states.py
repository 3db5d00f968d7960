"""The life of a job: every move that there is, and no other; no state is a trap."""

import itertools

import pytest

from service.api.states import FINAL, LIVE, TRANSITIONS, Event, IllegalMove, State, after


def test_every_state_is_queued_live_or_final() -> None:
    assert {State.QUEUED, *LIVE, *FINAL} == set(State)
    assert len(LIVE) + len(FINAL) + 1 == len(State)


@pytest.mark.parametrize("state", [State.QUEUED, *LIVE])
def test_from_every_state_a_job_can_end(state: State) -> None:
    reached = {state}
    for _ in State:
        reached |= {new for (old, _), new in TRANSITIONS.items() if old in reached}
    assert reached & set(FINAL)


def test_whatever_is_not_final_can_be_cancelled_and_only_once() -> None:
    cancellable = {old for (old, event) in TRANSITIONS if event is Event.CANCEL}
    assert cancellable == {State.QUEUED, State.STARTING, State.RUNNING}


def test_what_has_ended_is_only_ever_tried_again() -> None:
    out = {(old, event) for (old, event) in TRANSITIONS if old in FINAL}
    assert out == {(State.FAILED, Event.RETRY), (State.CANCELLED, Event.RETRY)}


def test_every_other_move_is_refused_with_its_names() -> None:
    for state, event in itertools.product(State, Event):
        if (state, event) not in TRANSITIONS:
            with pytest.raises(IllegalMove, match=f"is {state.value}, and cannot {event.value}"):
                after(state, event)
