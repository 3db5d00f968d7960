"""Sparse formats: what is counted is what is written, and what is written is read back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sparse import format_bytes, smallest_format
from service.sparse_tables import INDEX, SparseIndex, SparseTable, SparseTables, encoded

FORMATS = ("dense", "csr", "csc", "bitmap")


def sparse(num_rows: int, dim: int, share: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(num_rows, dim)).astype(np.float32)
    table[rng.random((num_rows, dim)) >= share] = 0
    return table


def written(folder, table: np.ndarray, name: str) -> SparseTables:
    """A table in a format that need not be its smallest, behind another one."""
    places = np.arange(table.size) if name == "dense" else np.flatnonzero(table)
    shape = {"num_rows": table.shape[0], "dim": table.shape[1], "num_stored": len(places)}
    first = SparseTable(name="first", num_rows=3, dim=1, format="csr", num_stored=1)
    second = SparseTable(
        name="own",
        format=name,
        **shape,
        first_index_byte=first.num_index_bytes,
        first_value=1,
    )
    parts = [
        encoded(first, np.array([2]), np.float32([7])),
        encoded(second, places, table.ravel()[places]),
    ]
    (folder / "indices.bin").write_bytes(b"".join(part[0] for part in parts))
    (folder / "values.bin").write_bytes(b"".join(part[1].tobytes() for part in parts))
    (folder / "sparse.json").write_bytes(INDEX.dump_json(SparseIndex(tables=(first, second))))
    return SparseTables(folder)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25)
@given(
    num_rows=st.integers(1, 300),
    dim=st.integers(1, 20),
    share=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    seed=st.integers(0, 9),
)
def test_every_format_gives_back_any_rows(tmp_path_factory, name, num_rows, dim, share, seed):
    table = sparse(num_rows, dim, share, seed)
    tables = written(tmp_path_factory.mktemp("sparse"), table, name)
    ids = np.random.default_rng(seed).integers(0, num_rows, 40)
    assert np.array_equal(tables.rows("own", ids), table[ids])
    assert np.array_equal(tables.rows("first", np.array([0, 2]))[:, 0], [0, 7])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(300, 16), (70_000, 3), (1, 1), (513, 257)])
def test_formulas_are_the_bytes_that_are_written(name, shape):
    table = sparse(*shape, 0.004, 0)
    places = np.arange(table.size) if name == "dense" else np.flatnonzero(table)
    stored = SparseTable(
        name="t", num_rows=shape[0], dim=shape[1], format=name, num_stored=len(places)
    )
    indices, values = encoded(stored, places, table.ravel()[places])
    assert len(indices) + values.nbytes == format_bytes(*shape, len(places))[name]


def test_bytes_by_hand():
    # 1,000 x 8 with 200 weights: pointers of one byte, columns of one, rows of two.
    assert format_bytes(1000, 8, 200) == {
        "dense": 32_000,
        "csr": 1001 + 200 + 800,
        "csc": 9 + 400 + 800,
        "bitmap": 1000 + 16 + 800,
    }
    assert smallest_format(1000, 8, 200) == ("csc", 1209)
    assert smallest_format(10, 8, 80) == ("dense", 320)


@given(num_rows=st.integers(1, 5000), dim=st.integers(1, 64), share=st.floats(0, 1))
def test_more_weights_never_take_less(num_rows, dim, share):
    num_stored = int(share * (num_rows * dim - 1))
    fewer, more = (format_bytes(num_rows, dim, num) for num in (num_stored, num_stored + 1))
    assert all(fewer[name] <= more[name] for name in FORMATS)
