"""Records survive being cut off anywhere."""

import pytest

from service.compare.records import (
    append_record,
    failure_of,
    is_done,
    read_records,
    torn_lines,
)

LINES = [
    {"hash": "a", "status": "failed", "value": 1},
    {"hash": "b", "status": "done", "value": "\u00e4"},
    {"hash": "a", "status": "done", "value": 3},
]


def test_the_latest_record_of_a_run_counts(tmp_path):
    for line in LINES:
        append_record(tmp_path / "out" / "runs.jsonl", line)
    assert read_records(tmp_path / "out" / "runs.jsonl") == {"a": LINES[2], "b": LINES[1]}


@pytest.mark.parametrize("status", ["failed", "infeasible"])
def test_what_has_succeeded_stays_so_though_it_fails_when_tried_again(status, tmp_path):
    path = tmp_path / "runs.jsonl"
    for line in (LINES[1], {"hash": "b", "status": status, "error": "no room"}):
        append_record(path, line)
    found = read_records(path)
    assert found == {"b": {**LINES[1], "failed_since": "no room"}}
    assert failure_of(found["b"]) == "no room"
    append_record(path, LINES[1])
    assert read_records(path) == {"b": LINES[1]}


def test_a_record_cut_off_at_any_byte_costs_that_record_alone(tmp_path):
    path = tmp_path / "runs.jsonl"
    for line in LINES[:2]:
        append_record(path, line)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole) - 1):
        path.write_bytes(whole[:end])
        append_record(path, LINES[2])
        assert read_records(path) == {"a": LINES[2]}
        assert torn_lines(path) == ([] if end == first else [2])


def test_not_a_number_is_refused_before_it_is_written(tmp_path):
    path = tmp_path / "runs.jsonl"
    append_record(path, LINES[0])
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_record(path, {"hash": "c", "status": "done", "value": float("nan")})
    assert list(read_records(path)) == ["a"]


def test_only_what_is_done_is_done():
    assert [is_done(record) for record in (None, LINES[0], LINES[1])] == [False, False, True]
