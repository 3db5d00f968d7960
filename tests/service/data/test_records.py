import pytest

from service.data.readers.records import Delimited, read_records

COMMAS = Delimited(delimiter=",", quote='"', names=("a", "b", "c"))
TABS = Delimited(delimiter="\t", names=("a", "b"))


def read(text: bytes, how: Delimited = COMMAS) -> tuple[list[list[str | None]], dict[int, str]]:
    num_lines = text.count(b"\n") + (not text.endswith(b"\n"))
    records = read_records(text, num_lines, how)
    columns = [column.cast("string").to_pylist() for column in records.columns.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    assert len(rows) == len(records.lines) == num_lines - len(records.faults)
    return rows, records.faults


def test_empty_values_are_null_quoted_or_not():
    assert read(b'1,,""\n') == ([["1", None, None]], {})


def test_quotes_hold_delimiters_and_doubled_quotes():
    assert read(b'1,"2,3","say ""x"""\r\n') == ([["1", "2,3", 'say "x"']], {})


@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize("line", [b'1,"2,3', b'"1,2,3', b'1,2,"3', b"1,2\r,3", b"1,2,3\r1,2,3"])
def test_an_open_quote_or_a_stray_return_spoils_its_own_line_only(line, end):
    rows, faults = read(b"a,b,c\n" + line + b"\nd,e,f\ng,h,i" + end)
    assert rows == [list("abc"), list("def"), list("ghi")]
    assert list(faults) == [1]


def test_open_quotes_that_close_each_other_across_lines_are_both_refused():
    rows, faults = read(b'1,2,3\n1,"2\n4,5,6\n3",4\n7,8,9\n')
    assert rows == [list("123"), list("456"), list("789")]
    assert list(faults) == [1, 3]


def test_an_open_quote_in_the_last_line_of_a_block_is_refused_as_anywhere():
    assert list(read(b'1,2,3\n1,2,"3\n')[1]) == [1]


def test_the_number_of_columns_is_named():
    rows, faults = read(b"1\t2\n1\n\n1\t2\t3\n\xff\xfe\n", TABS)
    assert rows == [["1", "2"], [None, None]]
    assert faults == {
        1: "1 columns, expected 2",
        3: "3 columns, expected 2",
        4: "1 columns, expected 2",
    }


def test_a_block_may_hold_nothing_but_refused_lines():
    assert read(b"1\n2\n", TABS)[0] == []


def test_quotes_are_ordinary_where_a_format_has_none():
    assert read(b'"1\t2"\n', TABS) == ([['"1', '2"']], {})
