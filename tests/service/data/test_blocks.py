import gzip
import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.data.readers.blocks import LineBlocks, check_files, read_header


def read(path: Path, block_bytes: int = 64, header: bool = False) -> list[bytes]:
    blocks = LineBlocks(paths=(path,), block_bytes=block_bytes, header=header)
    return [bytes(block.payload) for block in blocks]


@given(
    st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=30),
    st.integers(1, 100),
    st.booleans(),
)
def test_blocks_are_whole_lines_and_together_the_file(tmp_path_factory, lines, size, ended):
    path = tmp_path_factory.mktemp("blocks") / "lines.txt"
    text = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    path.write_bytes(text)
    blocks = list(LineBlocks(paths=(path,), block_bytes=size, header=False))
    assert b"".join(block.payload for block in blocks) == text.removeprefix(b"\xef\xbb\xbf")
    assert all(block.payload.endswith(b"\n") for block in blocks[:-1])
    firsts = [1 + sum(block.num_lines for block in blocks[:i]) for i in range(len(blocks))]
    assert [block.first_line for block in blocks] == firsts


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_compression_is_known_by_the_ending(tmp_path, ending):
    path = tmp_path / f"lines.txt{ending}"
    with pa.output_stream(path) as file:
        file.write(b"1\n2\n3\n" * 1000)
    assert b"".join(read(path)) == b"1\n2\n3\n" * 1000


def test_gzip_files_that_were_put_together_are_read_to_the_end(tmp_path):
    path = tmp_path / "days.gz"
    path.write_bytes(gzip.compress(b"1\n" * 100) + gzip.compress(b"2\n" * 100))
    assert b"".join(read(path)) == b"1\n" * 100 + b"2\n" * 100


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"junk" + data])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "lines.gz"
    path.write_bytes(damage(gzip.compress(b"1\n2\n" * 1000)))
    with pytest.raises(OSError, match=r"lines.gz cannot be read.*is the file whole"):
        read(path)


def test_the_hash_is_that_of_the_file_on_disk_and_lines_are_counted(tmp_path):
    path = tmp_path / "lines.csv.gz"
    path.write_bytes(gzip.compress(b"header\n1\n2"))
    blocks = LineBlocks(paths=(path,), block_bytes=1, header=True)
    assert [block.first_line for block in blocks] == [2]
    (file,) = blocks.files.values()
    assert file.num_lines == 2
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.size_bytes == path.stat().st_size


def test_positions_go_on_from_file_to_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"h\n1\n2\n")
    paths = (tmp_path / "a", tmp_path / "b")
    blocks = list(LineBlocks(paths=paths, block_bytes=100, header=True))
    assert [(block.first_index, block.first_line) for block in blocks] == [(0, 2), (2, 2)]
    assert blocks[-1].bytes_read == 12


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfx,y\r\n1,2\n")
    assert read_header(tmp_path / "a.csv") == "x,y"
    assert read(tmp_path / "a.csv", header=True) == [b"1,2\n"]


def test_a_file_that_grows_between_two_passes_is_noticed(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"1\n")
    blocks = LineBlocks(paths=(path,), block_bytes=100, header=False)
    assert len(list(blocks)) == 1
    path.write_bytes(b"1\n2\n")
    with pytest.raises(ValueError, match="changed while it was read"):
        list(blocks)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    path.write_bytes(b"1" * 1001)
    monkeypatch.setattr("service.data.readers.blocks.LONGEST_LINE_BYTES", 1000)
    with pytest.raises(ValueError, match=r"a line is longer than .*end in \\n"):
        read(path, block_bytes=100)


def test_missing_and_special_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no input files"):
        check_files(())
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        check_files((tmp_path / "nowhere",))
    with pytest.raises(ValueError, match="not a regular file"):
        check_files((tmp_path,))


def test_headers_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "latin").write_bytes(b"\xe9t\xe9\n")
    with pytest.raises(ValueError, match="empty"):
        read_header(tmp_path / "empty")
    with pytest.raises(ValueError, match="line 1: the header is not UTF-8"):
        read_header(tmp_path / "latin")
