"""The page of all methods on clicks says what the kept runs say."""

from tests.clicks import KEY, PAGE, RUNS, as_page, key_of, read


def test_the_page_is_made_of_the_runs():
    assert PAGE.read_text() == as_page(read(RUNS)), "python -m tests.clicks writes it anew"


def test_runs_are_sorted_and_none_is_there_twice():
    keys = [key_of(run) for run in read(RUNS)]
    assert keys == sorted(set(keys)), f"by {KEY}"
