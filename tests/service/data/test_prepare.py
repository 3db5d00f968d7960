"""The two passes against plain Python, whatever the blocks, threads and memory."""

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.data.dataset import read_dataset_info
from service.data.ingest.counting import ValueCounter
from service.data.ingest.options import PrepareConfig, Progress, parse_bytes
from service.data.ingest.prepare import prepare
from service.data.readers.criteo import DENSE, FIELDS, Criteo
from service.data.readers.raw import write_raw
from service.data.readers.synthetic import Synthetic
from service.data.readers.table import OwnTable
from tests.service.data.ingest_oracle import RawRow, assert_prepared, folder_bytes, read_split

SCHEMA = """
label = "y"
dense = ["d"]
categorical = ["c"]
[lists]
l = "|"
"""

VALUE = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters='\t\r\n|\0"'), max_size=12
)
GOOD_LINE = st.tuples(
    st.sampled_from(["0", "1"]),
    st.one_of(st.just(""), st.integers(-3, 10**6).map(str), st.floats(-1, 1e9).map(repr)),
    st.one_of(st.sampled_from(["", "a", "b", "bb"]), VALUE),
    st.lists(st.one_of(st.sampled_from(["x", "y"]), VALUE), max_size=4).map("|".join),
).map(lambda values: ("good", "\t".join(values).encode()))
BAD_LINE = st.sampled_from(
    [
        b"",
        b"1\t2\ta",
        b"1\t2\ta\tx\tmore",
        b"2\t1\ta\tx",
        b"\t1\ta\tx",
        b"yes\t1\ta\tx",
        b"1\tone\ta\tx",
        b"1\tnan\ta\tx",
        b"1\tinf\ta\tx",
        b"1\t1e999\ta\tx",
        b"1\t1\t\xff\xfe\tx",
        b"1\t1\ta\tx|\xc3",
        b"\xff\t1",
        b"1\t1\ta\rb\tx",
        b"0\t1\ta\tx\r0\t1\ta\tx",
    ]
).map(lambda line: ("bad", line))


def write_schema(folder: Path) -> Path:
    path = folder / "schema.toml"
    path.write_text(SCHEMA)
    return path


def raw_row(index: int, line: bytes) -> RawRow:
    label, dense, category, elements = line.decode().split("\t")
    return RawRow(
        index=index,
        label=float(label),
        dense={"d": dense},
        fields={
            "c": [category] if category else [],
            "l": [element for element in elements.split("|") if element],
        },
    )


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(st.one_of(GOOD_LINE, GOOD_LINE, GOOD_LINE, BAD_LINE), max_size=60),
    block_bytes=st.sampled_from([1, 100, 1 << 20]),
    min_count=st.integers(1, 3),
)
def test_any_table_is_prepared_as_plain_python_would(
    tmp_path_factory, lines, block_bytes, min_count
):
    folder = tmp_path_factory.mktemp("any")
    # Rows of both labels in the training split, so that there is something to learn.
    lines = [("good", b"%d\t1\ta\tx" % (i % 2)) for i in range(6)] + lines
    (folder / "raw.tsv").write_bytes(b"y\td\tc\tl\n" + b"".join(line + b"\n" for _, line in lines))
    prepare(
        PrepareConfig(
            source=OwnTable(inputs=(folder / "raw.tsv",), schema=write_schema(folder)),
            output=folder / "out",
            min_count=min_count,
            max_reject_ratio=1.0,
            block_bytes=block_bytes,
            threads=2,
        )
    )
    rows = [raw_row(i, line) for i, (kind, line) in enumerate(lines) if kind == "good"]
    info = assert_prepared(folder / "out", rows, min_count)
    rejects = (folder / "out" / "rejects.tsv").read_text().splitlines()[1:]
    bad = [index + 2 for index, (kind, _) in enumerate(lines) if kind == "bad"]
    assert [int(line.split("\t")[1]) for line in rejects] == bad
    assert info.num_rejects == len(bad) and info.num_rows + info.num_rejects == len(lines)


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    """24,000 lines of Criteo's form, of which 6 are malformed."""
    folder = tmp_path_factory.mktemp("logs")
    config = PrepareConfig(source=Synthetic(rows=24_000))
    write_raw(config, config.source, folder / "made.tsv", lambda _: None)
    lines = (folder / "made.tsv").read_bytes().split(b"\n")
    for position in range(17, len(lines) - 1, 4001):
        lines[position] = lines[position].replace(b"\t", b"\tx", 1)
    path = folder / "logs.tsv.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines), 1))
    return path


@pytest.fixture(scope="module")
def prepared(logs: Path) -> Path:
    prepare(criteo_config(logs, logs.parent / "prepared"))
    return logs.parent / "prepared"


def criteo_config(logs: Path, output: Path, **options: object) -> PrepareConfig:
    return PrepareConfig(source=Criteo(inputs=(logs,)), output=output, **options)


def criteo_rows(path: Path) -> list[RawRow]:
    rows = []
    with gzip.open(path, "rt") as lines:
        for index, line in enumerate(lines):
            values = line.rstrip("\n").split("\t")
            if not any(value.startswith("x") for value in values[1:14]):
                fields = {n: [v] if v else [] for n, v in zip(FIELDS, values[14:], strict=True)}
                dense = dict(zip(DENSE, values[1:14], strict=True))
                rows.append(RawRow(index=index, label=float(values[0]), dense=dense, fields=fields))
    return rows


def test_criteo_logs_are_prepared_as_plain_python_would(logs, prepared):
    info = assert_prepared(prepared, criteo_rows(logs), min_count=2)
    assert (info.num_rows, info.num_rejects) == (23_994, 6)


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 5}, {"block_bytes": 200_001}])
def test_neither_threads_nor_blocks_change_a_byte(logs, prepared, tmp_path, options):
    prepare(criteo_config(logs, tmp_path / "other", **options))
    assert folder_bytes(tmp_path / "other") == folder_bytes(prepared)
    first, second = read_dataset_info(prepared), read_dataset_info(tmp_path / "other")
    assert dataclasses.replace(first, provenance=second.provenance) == second


def test_counts_that_were_spilled_give_the_same_dataset(logs, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("service.data.ingest.counting.MERGE_ROWS", 1000)
    spills = []
    spill = ValueCounter.spill
    monkeypatch.setattr(ValueCounter, "spill", lambda self: (spills.append(self), spill(self)))
    options = {"memory": "256KiB", "block_bytes": 1 << 20}
    prepare(criteo_config(logs, tmp_path / "spilled", **options))
    assert len(spills) > 26
    assert folder_bytes(tmp_path / "spilled") == folder_bytes(prepared)


def test_parts_are_cut_into_full_row_groups_of_plain_required_columns(prepared):
    info = read_dataset_info(prepared)
    file = pq.ParquetFile(prepared / info.splits["train"].parts[0].path)
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    assert [group.num_rows for group in groups[:-1]] == [16_384] * (len(groups) - 1)
    assert not any(field.nullable for field in file.schema_arrow)
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    assert {chunk.compression for chunk in chunks} == {"UNCOMPRESSED"}
    assert not any(chunk.has_dictionary_page for chunk in chunks)


def test_several_files_are_one_log(logs, prepared, tmp_path):
    lines = gzip.decompress(logs.read_bytes()).splitlines(keepends=True)
    (tmp_path / "day_0.tsv").write_bytes(b"".join(lines[:15_000]))
    with pa.output_stream(tmp_path / "day_1.tsv.zst") as file:
        file.write(b"".join(lines[15_000:]))
    days = (tmp_path / "day_0.tsv", tmp_path / "day_1.tsv.zst")
    info = prepare(PrepareConfig(source=Criteo(inputs=days), output=tmp_path / "out"))
    theirs = read_dataset_info(prepared)
    assert [file.num_lines for file in info.provenance.files] == [15_000, 9_000]
    for split in ("train", "validation", "test"):
        expected = read_split(prepared, theirs, split)
        assert read_split(tmp_path / "out", info, split).equals(expected)


def test_the_order_split_keeps_the_last_lines_for_the_test(logs, tmp_path):
    info = prepare(criteo_config(logs, tmp_path / "out", split="order", fractions=(0.5, 0.3, 0.2)))
    rows = criteo_rows(logs)
    sizes = [
        sum(low <= row.index < high for row in rows)
        for low, high in ((0, 12_000), (12_000, 19_200), (19_200, 24_000))
    ]
    assert [split.num_rows for split in info.splits.values()] == sizes
    test = read_split(tmp_path / "out", info, "test")
    assert test["label"].to_pylist() == [row.label for row in rows if row.index >= 19_200]


def test_dense_statistics_are_those_of_the_training_split(prepared):
    info = read_dataset_info(prepared)
    train = read_split(prepared, info, "train")
    for stats in info.dense:
        values = train[stats.name].to_numpy().astype(np.float64)
        present = values[values != -1.0]
        assert stats.num_missing == len(values) - len(present)
        assert stats.mean == pytest.approx(present.mean(), rel=1e-9)
        assert stats.std == pytest.approx(present.std(), rel=1e-6)
        assert (stats.min, stats.max) == (present.min(), present.max())


def test_made_up_rows_are_the_same_with_and_without_a_raw_file(tmp_path):
    config = PrepareConfig(source=Synthetic(rows=40_000), seed=3, output=tmp_path / "direct")
    direct = prepare(config)
    write_raw(config, config.source, tmp_path / "raw.tsv.gz", lambda _: None)
    source = Criteo(inputs=(tmp_path / "raw.tsv.gz",))
    prepare(dataclasses.replace(config, source=source, output=tmp_path / "raw"))
    mine, theirs = folder_bytes(tmp_path / "direct"), folder_bytes(tmp_path / "raw")
    assert mine.pop("teacher.json") == (tmp_path / "raw.tsv.gz.teacher.json").read_bytes()
    assert mine == theirs
    assert direct.source == "synthetic" and direct.provenance.files == ()


def test_progress_ends_at_the_last_byte_of_each_pass(logs, tmp_path):
    seen: list[Progress] = []
    prepare(criteo_config(logs, tmp_path / "out"), seen.append)
    last = {progress.name: progress for progress in seen}
    assert len(last) == 2
    assert {(p.num_rows, p.bytes_read) for p in last.values()} == {(23_994, logs.stat().st_size)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_count": 0}, "min_count=0, expected at least 1"),
        ({"seed": -1}, "seed=-1, expected 0 or more, of 63 bits"),
        ({"seed": 1 << 63}, "seed=9223372036854775808, expected 0 or more, of 63 bits"),
        ({"fractions": (0.8, 0.1, 0.2)}, "add up to 1"),
        ({"fractions": (0.0, 0.5, 0.5)}, "the first above 0"),
        ({"max_reject_ratio": 2.0}, "max_reject_ratio=2.0, expected 0 to 1"),
        ({"memory": "much"}, "memory='much', expected an amount such as 512MiB"),
        ({"threads": -1}, "threads=-1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PrepareConfig(source=Synthetic(), **options)


def test_amounts_of_memory_are_read_with_binary_units():
    assert [parse_bytes(text) for text in ("100", "2KiB", "1.5 MiB", "1GiB")] == [
        100, 2048, 1_572_864, 1 << 30,
    ]  # fmt: skip
