"""Every source on a few made-up lines: what becomes of which value, and which errors it gives."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.readers.avazu import Avazu
from service.data.readers.base import Reading, Rows
from service.data.readers.movielens import Movielens
from service.data.readers.table import OwnTable
from tests.service.data.ingest_oracle import read_split

AVAZU_LINES = (
    "id,click,hour,C1,site_id\n"
    "1,0,14102100,1005,a\n2,1,14102523,1005,\n3,1,14102524,1002,a\n4,0,x,1,b\n"
)


def rows_of(source: Avazu | Movielens | OwnTable) -> Rows:
    dataset = source.open(Reading())
    (block,) = dataset.blocks()
    return dataset.parse(block)


def values_of(rows: Rows, name: str) -> list[object]:
    column = rows.fields[name]
    flat = [column.values[int(code)].as_py() if code >= 0 else None for code in column.codes]
    if column.lengths is None:
        return flat
    ends = column.lengths.cumsum()
    return [flat[end - size : end] for size, end in zip(column.lengths, ends, strict=True)]


def test_the_hour_stamp_becomes_hour_of_day_and_weekday(tmp_path):
    (tmp_path / "train.csv").write_text(AVAZU_LINES)
    rows = rows_of(Avazu(inputs=(tmp_path / "train.csv",)))
    assert list(rows.fields) == ["hour", "weekday", "C1", "site_id"]
    assert values_of(rows, "hour") == ["00", "23"]
    assert values_of(rows, "weekday") == ["2", "6"]  # Tuesday, Saturday
    assert values_of(rows, "site_id") == ["a", None]
    assert [(reject.line, reject.reason) for reject in rows.rejects] == [
        (4, "column hour: '14102524' cannot be read"),
        (5, "column hour: 'x' cannot be read"),
    ]


def test_another_csv_is_not_taken_for_avazu(tmp_path):
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column 'click', only a, b"):
        rows_of(Avazu(inputs=(tmp_path / "train.csv",)))


def test_files_of_one_log_share_their_header(tmp_path):
    (tmp_path / "a.csv").write_text(AVAZU_LINES)
    (tmp_path / "b.csv").write_text("click,hour\n")
    with pytest.raises(ValueError, match=r"b.csv: its header is click, hour; expected that of"):
        rows_of(Avazu(inputs=(tmp_path / "a.csv", tmp_path / "b.csv")))


def test_ratings_csv_is_joined_with_the_movies_beside_it(tmp_path):
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,10,3.5,100\n2,11,5.0,50\n2,99,0.5,60\n"
    )
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n10,"Odd, A Film (1999)",Drama|War\n11,Two,(no genres listed)\n'
    )
    rows = rows_of(Movielens(ratings=tmp_path / "ratings.csv"))
    assert rows.label.tolist() == [3.5, 5.0, 0.5]
    assert values_of(rows, "genres") == [["Drama", "War"], [None], [None]]
    assert values_of(rows, "release_year") == ["1999", None, None]
    assert rows.time is not None and rows.time.tolist() == [100, 50, 60]
    clicks = rows_of(Movielens(ratings=tmp_path / "ratings.csv", click_threshold=3.5))
    assert clicks.label.tolist() == [1.0, 1.0, 0.0]


def test_ratings_of_the_small_set_bring_users_and_genre_flags(tmp_path):
    (tmp_path / "u.data").write_text("1\t7\t4\t100\n1\t7\tfour\t100\n1\t7\t\t100\n")
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n")
    flags = "|".join("1" if i in (1, 5) else "0" for i in range(19))
    title = "7|Caf\xe9 (1995)|01-Jan-1995||http://x|" + flags + "\n"
    (tmp_path / "u.item").write_bytes(title.encode("latin-1"))
    rows = rows_of(Movielens(ratings=tmp_path / "u.data"))
    assert values_of(rows, "genres") == [["Action", "Comedy"]]
    assert values_of(rows, "age") == ["24"] and values_of(rows, "gender") == ["M"]
    assert [reject.reason for reject in rows.rejects] == [
        "column rating: 'four' is not a number",
        "column rating: the label is missing",
    ]


def test_a_malformed_side_table_is_named_with_its_line(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::7::4::100\n")
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M\n")
    with pytest.raises(ValueError, match=r"users.dat, line 2: 2 columns, expected 5"):
        rows_of(Movielens(ratings=tmp_path / "ratings.dat"))


def test_what_is_no_rating_is_refused(tmp_path):
    (tmp_path / "ratings.txt").write_text("1;2;3\n")
    with pytest.raises(ValueError, match="is not a line of MovieLens ratings"):
        rows_of(Movielens(ratings=tmp_path / "ratings.txt"))


def write_schema(folder: Path, **values: object) -> Path:
    path = folder / "schema.json"
    path.write_text(json.dumps({"label": "y", "categorical": ["site"]} | values))
    return path


def table(folder: Path, text: str, name: str = "t.csv", **schema: object) -> OwnTable:
    (folder / name).write_text(text)
    return OwnTable(inputs=(folder / name,), schema=write_schema(folder, **schema))


def test_a_table_takes_the_columns_that_its_schema_names(tmp_path):
    text = 'y,ignored,site,price,tags\n1,?,"a,b",3,x;y;;x\n0,?,,,\n'
    source = table(tmp_path, text, dense=["price"], lists={"tags": ";"})
    rows = rows_of(source)
    assert values_of(rows, "site") == ["a,b", None]
    assert values_of(rows, "tags") == [["x", "y", "x"], [None]]
    assert rows.dense["price"].tolist() == pytest.approx([1.3862944, -1.0])


def test_a_name_of_a_column_may_be_quoted(tmp_path):
    source = table(tmp_path, 'y,"a, b"\n1,x\n0,z\n', categorical=["a, b"])
    assert values_of(rows_of(source), "a, b") == ["x", "z"]


def test_a_file_without_header_gets_its_names_from_the_schema(tmp_path):
    source = table(tmp_path, "1\ta\n0\tb\n", name="t.tsv", columns=["y", "site"])
    assert values_of(rows_of(source), "site") == ["a", "b"]


def test_values_are_kept_as_they_are_where_the_schema_says_so(tmp_path):
    rows = rows_of(table(tmp_path, "y,site,x\n1,a,2.5\n0,a,-1\n", dense={"x": "none"}))
    assert rows.dense["x"].tolist() == [2.5]
    assert "'-1' is negative" in rows.rejects[0].reason


def test_parquet_and_csv_give_the_same_dataset(tmp_path):
    number = 200
    columns = {
        "y": pa.array([i % 2 for i in range(number)], pa.int8()),
        "site": pa.array([f"s{i % 7}" if i % 5 else None for i in range(number)]),
        "code": pa.array([i % 11 for i in range(number)], pa.int64()),
        "price": pa.array([i / 2 if i % 3 else None for i in range(number)]),
        "tags": pa.array([["a", "b"][: i % 3] or None for i in range(number)]),
        "at": pa.array([datetime(2024, 1, 1 + i // 10, tzinfo=UTC) for i in range(number)]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=64)
    text = "".join(
        f"{i % 2},{f's{i % 7}' if i % 5 else ''},{i % 11},{i / 2 if i % 3 else ''},"
        f"{'|'.join(['a', 'b'][: i % 3])},{i // 10}\n"
        for i in range(number)
    )
    options = {"categorical": ["site", "code"], "dense": ["price"], "lists": {"tags": "|"}}
    csv_source = table(tmp_path, "y,site,code,price,tags,at\n" + text, **options, time="at")
    parquet = OwnTable(inputs=(tmp_path / "t.parquet",), schema=csv_source.schema)
    infos = {}
    for name, source in {"csv": csv_source, "parquet": parquet}.items():
        config = PrepareConfig(source=source, output=tmp_path / name, split="time")
        infos[name] = prepare(config)
    for split in ("train", "validation", "test"):
        expected = read_split(tmp_path / "csv", infos["csv"], split)
        assert read_split(tmp_path / "parquet", infos["parquet"], split).equals(expected)
    assert infos["csv"].fields == infos["parquet"].fields
    assert infos["parquet"].provenance.files[0].num_lines == number


def test_times_that_are_no_numbers_are_named_with_their_line(tmp_path):
    text = "y,site,at\n1,a,2023-11-14 22:13:52\n0,b,2023-11-15 08:00:00\n"
    source = table(tmp_path, text, categorical=["site"], dense=[], time="at")
    with pytest.raises(ValueError, match=r"by at, .* seconds since 1970; the first: .*line 2: col"):
        prepare(PrepareConfig(source=source, output=tmp_path / "out", split="time"))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"categorical": ["sight"]}, "no column 'sight'; its columns are: y, site"),
        ({"labels": "y"}, "is not a table schema: labels"),
        (
            {"categorical": "site id"},
            "schema: categorical: expected a list of column names .*'site",
        ),
        ({"columns": ["y", 3]}, "schema: columns: expected a list of column names"),
        ({"dense": 3}, "schema: dense: expected a list of column names"),
        ({"dense": {"x": "log"}}, "schema: dense: x='log', expected one of log1p, none"),
        ({"dense": ["y"], "label": "y"}, "is not a table schema: columns y play several parts"),
        ({"categorical": []}, "no categorical column; name at least one"),
        ({"categorical": ["site"], "dense": ["site"]}, "columns site play several parts"),
        ({"categorical": ["site", "y"], "label": "y"}, "columns y play several parts"),
        ({"categorical": ["a/b"]}, "column 'a/b' cannot name a file"),
        ({"categorical": ["a" * 201]}, "cannot name a file; .* of at most 200 bytes"),
        ({"categorical": ["a.b"]}, "field 'a.b': tables are modules, and torch takes none"),
        ({"delimiter": "::"}, "delimiter='::', expected one character"),
        ({"lists": {"tags": ""}}, "lists.tags='', expected the text between two values"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(tmp_path, schema, message):
    with pytest.raises(ValueError, match=message):
        rows_of(table(tmp_path, "y,site\n1,a\n", **schema))


def test_files_of_two_kinds_are_refused(tmp_path):
    pq.write_table(pa.table({"y": [1], "site": ["a"]}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("y,site\n1,a\n")
    inputs = (tmp_path / "t.csv", tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t.parquet is Parquet and .*t.csv is not"):
        rows_of(OwnTable(inputs=inputs, schema=write_schema(tmp_path)))


def test_a_file_that_is_named_twice_is_refused(tmp_path):
    own = table(tmp_path, "y,site\n1,a\n")
    with pytest.raises(ValueError, match=r"t.csv is named twice"):
        rows_of(OwnTable(inputs=own.inputs * 2, schema=own.schema))


def parquet(folder: Path, columns: dict[str, object], **schema: object) -> OwnTable:
    pq.write_table(pa.table({"y": [1, 0], "site": ["a", "b"], **columns}), folder / "t.parquet")
    return OwnTable(inputs=(folder / "t.parquet",), schema=write_schema(folder, **schema))


@pytest.mark.parametrize(
    ("column", "values", "schema", "message"),
    [
        ("site", [["a"], ["b"]], {}, r"'site' is a list, .* under \[lists\]"),
        ("x", [[1.0], [2.0]], {"dense": ["x"]}, "'x' is a list, expected one value a row"),
        ("x", [{"a": 1}] * 2, {"lists": {"x": "|"}}, "'x' holds struct<a: int64>, expected one"),
        ("x", [[["a"]]] * 2, {"lists": {"x": "|"}}, "'x' is a list, expected one value a row"),
    ],
)
def test_a_nested_column_of_parquet_is_refused_but_for_lists(
    tmp_path, column, values, schema, message
):
    with pytest.raises(ValueError, match=message):
        rows_of(parquet(tmp_path, {column: values}, **schema))


def test_a_column_of_parquet_without_numbers_is_none_of_numbers(tmp_path):
    days = [date(2024, 1, 1), date(2024, 1, 2)]
    rows = rows_of(parquet(tmp_path, {"day": days}, dense=["day"]))
    assert "column day: datetime.date(2024, 1, 1) is not a number" in rows.rejects[0].reason


@pytest.mark.parametrize(
    "times",
    [
        pa.array([19_723, 19_724], pa.date32()),
        pa.array([1, 2], pa.time32("ms")),
        # as pandas writes them; beyond 2 ** 53 floats are no whole numbers
        pa.array([1_704_067_200 * 10**9 + 1, 1_704_067_201 * 10**9], pa.timestamp("ns")),
        pa.array([1_704_067_200 * 10**9 + 1, 1_704_067_201 * 10**9], pa.int64()),
    ],
)
def test_times_of_parquet_may_have_any_unit(tmp_path, times):
    rows = rows_of(parquet(tmp_path, {"at": times}, time="at"))
    assert rows.time is not None
    assert rows.time[0] < rows.time[1]


def test_numbers_that_no_float_of_32_bits_holds_are_told(tmp_path):
    text = "y,site,at\n1,a,1\n1e39,b,1\n2,c,1e300\n"
    rows = rows_of(table(tmp_path, text, task="rating", time="at"))
    assert rows.label.tolist() == [1.0]
    assert [reject.reason for reject in rows.rejects] == [
        "column y: '1e39' does not fit into 32 bits",
        "column at: '1e300' does not fit into 64 bits",
    ]


def test_a_text_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "t.parquet").write_text("y,site\n")
    source = OwnTable(inputs=(tmp_path / "t.parquet",), schema=write_schema(tmp_path))
    with pytest.raises(ValueError, match=r"t.parquet is not a Parquet file"):
        rows_of(source)


@pytest.mark.parametrize("text", ["label = ", "{"])
def test_a_schema_file_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "schema.toml").write_text(text)
    (tmp_path / "t.csv").write_text("y,site\n1,a\n")
    source = OwnTable(inputs=(tmp_path / "t.csv",), schema=tmp_path / "schema.toml")
    with pytest.raises(ValueError, match=r"schema.toml cannot be read"):
        rows_of(source)
    with pytest.raises(FileNotFoundError, match=r"--schema .*does not exist"):
        rows_of(OwnTable(inputs=source.inputs, schema=tmp_path / "nowhere.toml"))
