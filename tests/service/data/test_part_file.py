"""Parts that are not as they were written, and values that no training could use."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.data.dataset import read_dataset_info, write_dataset_info
from service.data.part_file import PartFile, PartFileWriter, parts_schema
from service.data.row_groups import SplitReader
from tests.datasets import write_dataset

SCHEMA = parts_schema(["I1"], {"C1": False, "C2": True})


def table(label=(0, 1, 1), i1=(0.5, 1, -1), c1=(0, 1, 2), c2=((0,), (), (3, 1))) -> pa.Table:
    return pa.table(
        [pa.array(c, t) for c, t in zip((label, i1, c1, c2), SCHEMA.types, strict=True)],
        schema=SCHEMA,
    )


def write(folder, *groups):
    """A part of several row groups, and what dataset.json would say of it."""
    writer = PartFileWriter(folder, "part.parquet", SCHEMA)
    for group in groups:
        writer.write(group)
    return writer.close()


def read_all(folder, part, schema=SCHEMA):
    file = PartFile(folder, part, schema)
    for group in range(len(file.group_sizes)):
        file.read(group)


def test_values_are_those_that_the_library_reads(tmp_path):
    part = write(tmp_path, table(), table(label=(1, 0, 0), c1=(7, 8, 9)))
    file = PartFile(tmp_path, part, SCHEMA)
    theirs = pq.ParquetFile(tmp_path / "part.parquet")
    for group in (0, 1):
        expected, content = theirs.read_row_group(group), file.read(group)
        for name, dtype in (("label", np.float32), ("I1", np.float32), ("C1", np.int32)):
            assert file.values(content, group, name, dtype).tolist() == expected[name].to_pylist()
        assert file.lists(group, ["C2"])["C2"].to_pylist() == expected["C2"].to_pylist()


@settings(max_examples=150)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed_and_the_part_named(tmp_path_factory, position, bit):
    folder = tmp_path_factory.mktemp("part")
    part = write(folder, table(), table())
    content = bytearray((folder / "part.parquet").read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    (folder / "part.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"part .*part\.parquet.*restore"):
        read_all(folder, part)


def test_a_damaged_row_group_is_named_and_others_are_read(tmp_path):
    part = write(tmp_path, table(), table(), table())
    file = PartFile(tmp_path, part, SCHEMA)
    first, last = file._bounds[1:3]
    content = bytearray((tmp_path / "part.parquet").read_bytes())
    content[(first + last) // 2] ^= 1
    (tmp_path / "part.parquet").write_bytes(content)
    file = PartFile(tmp_path, part, SCHEMA)
    file.read(0)
    file.read(2)
    with pytest.raises(ValueError, match=r"row group 1 \(bytes \d+ to \d+\): its checksum is not"):
        file.read(1)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_a_part_of_another_size_is_noticed(tmp_path, change):
    part = write(tmp_path, table())
    path = tmp_path / "part.parquet"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"bytes, dataset.json says {part.size_bytes:,}: it was"):
        read_all(tmp_path, part)


def test_a_part_with_other_rows_of_the_same_form_is_noticed(tmp_path):
    part = write(tmp_path, table())
    assert write(tmp_path, table(c1=(0, 1, 1))).size_bytes == part.size_bytes
    with pytest.raises(ValueError, match=r"is not the one that dataset.json describes"):
        read_all(tmp_path, part)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (parts_schema(["I2"], {}), r"has no column 'I2'"),
        (parts_schema(["C1"], {}), r"'C1' is int32, expected float"),
        (parts_schema([], {"C2": False}), r"'C2' is list<.*>, expected int32"),
    ],
)
def test_a_part_without_the_columns_that_are_wanted_is_refused(tmp_path, schema, message):
    part = write(tmp_path, table())
    with pytest.raises(ValueError, match=message):
        PartFile(tmp_path, part, schema)


def test_nulls_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="null"):
        write(tmp_path, table(c1=(0, None, 2)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"c1": (0, 3, 1)}, r"field 'C1': id 3 at position 1, expected 0 to 2"),
        ({"c1": (0, 1, -1)}, r"field 'C1': id -1 at position 2, expected 0 to 2"),
        ({"c2": ((0,), (), (1, 4))}, r"field 'C2': id 4 at position 2, expected 0 to 3"),
        ({"c2": ((-9,), (), ())}, r"field 'C2': id -9 at position 0"),
        ({"i1": (0, np.nan, 1)}, r"column 'I1': nan in row 1, expected a finite number"),
        ({"i1": (0, 1, -np.inf)}, r"column 'I1': -inf in row 2"),
        ({"label": (0, 2, 1)}, r"column 'label': 2 in row 1, expected 0 or 1"),
        ({"label": (np.nan, 0, 1)}, r"column 'label': nan in row 0"),
    ],
)
def test_values_that_no_training_could_use_are_refused(tmp_path, values, message):
    info = write_dataset(
        tmp_path, num_embeddings=(3, 4), list_fields=("C2",), num_dense=1, rows={"train": 3}
    )
    part = write(tmp_path, table(**values))
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["splits"]["train"]["parts"] = [{f: getattr(part, f) for f in part.__slots__}]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    info = read_dataset_info(tmp_path)
    reader = SplitReader(tmp_path, info, "train", single_fields=["C1"], list_fields=["C2"])
    with pytest.raises(ValueError, match=rf"part\.parquet, row group 0, {message}"):
        reader.read(reader.groups[:1])


def test_a_dataset_exchanged_while_it_is_read_is_never_mixed(tmp_path, monkeypatch):
    monkeypatch.setattr("service.data.row_groups.OPEN_PARTS", 1)
    old = write_dataset(tmp_path / "data")
    write_dataset(tmp_path / "new", seed=1)
    fields = {"single_fields": ["C1", "C2", "C3"], "list_fields": []}
    reader = SplitReader(tmp_path / "data", old, "train", **fields)
    expected = SplitReader(tmp_path / "data", old, "train", **fields).read(reader.groups[-1:])
    reader.read(reader.groups[-1:])
    (tmp_path / "data").rename(tmp_path / "old")
    (tmp_path / "new").rename(tmp_path / "data")
    shutil.rmtree(tmp_path / "old")
    assert reader.read(reader.groups[-2:-1]).ids.shape == (3, 64)  # the part that is open
    assert np.array_equal(reader.read(reader.groups[-1:]).ids, expected.ids)
    with pytest.raises(ValueError, match="the dataset changed or was prepared again"):
        reader.read(reader.groups[:1])


def test_the_hash_of_the_content_is_that_of_the_rows(tmp_path):
    first, again = (write_dataset(tmp_path / name) for name in ("a", "b"))
    other = write_dataset(tmp_path / "c", seed=1)
    assert first.content_sha256 == again.content_sha256 != other.content_sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"Expecting value.*prepare the dataset again"),
        ("[]", r"format_version=None, expected 2; prepare the dataset again"),
        ('{"format_version": 1}', r"format_version=1, expected 2; prepare the dataset again"),
        ('{"format_version": 2}', r"source: Field required.*; prepare the dataset again"),
    ],
)
def test_a_broken_description_is_one_line_with_the_file_and_the_fix(tmp_path, text, message):
    write_dataset_info(write_dataset(tmp_path), tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=rf"dataset\.json: {message}") as caught:
        read_dataset_info(tmp_path)
    assert "\n" not in str(caught.value)
