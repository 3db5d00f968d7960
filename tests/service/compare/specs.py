"""A small comparison on made-up ratings, for tests; importable by spawned processes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from service.compare.choices import read_spec
from service.compare.spec import CompareSpec
from service.data.dataset import Split
from tests.datasets import write_dataset

SPEC = """
data = "{folder}/data"
output = "{folder}/out"
seeds = [0, 1]
fields = ["C1", "C3"]
budgets = ["uniform:8"]
parallel = 1
{top}
[recipes.mf]
preset = "mf"
epochs = 2
batch_size = 128
matmul = "mkl"
optimizer.sparse = "adagrad"
optimizer.schedule = "plateau"
{recipe}
[sizings.uniform]
scheme = "uniform"

[sizings.popularity]
scheme = "popularity"
alpha = 0.5
blocks = 2
out_dim = 16
{sizings}
"""


def write_spec(
    folder: Path, *, top: str = "", recipe: str = "", sizings: str = "", rows: int = 2000
) -> Path:
    """Write a dataset and a comparison of two sizings on it."""
    if not (folder / "data").exists():
        write_data(folder / "data", train=rows)
    path = folder / "spec.toml"
    path.write_text(SPEC.format(folder=folder, top=top, recipe=recipe, sizings=sizings))
    return path


def write_data(folder: Path, *, train: int = 2000, validation: int = 200, test: int = 300) -> None:
    """Write ratings, so many of each split, and their vocabularies."""
    rows: dict[Split, int] = {"train": train, "validation": validation, "test": test}
    write_dataset(folder, num_embeddings=(40, 7, 300), rows=rows, rating=True)
    write_counts(folder, {"C1": 40, "C2": 7, "C3": 300})


def small_spec(folder: Path, **parts: str) -> CompareSpec:
    """The same, read."""
    return read_spec(write_spec(folder, **parts))


def write_counts(data: Path, fields: dict[str, int]) -> None:
    """Vocabularies of ids that are rarer the larger they are."""
    (data / "vocab").mkdir()
    for name, num_ids in fields.items():
        counts = [max(1, 3 * num_ids - 2 * place) for place in range(num_ids)]
        values = [f"v{place}" for place in range(num_ids)]
        pq.write_table(
            pa.table({"value": values, "count": counts}), data / "vocab" / f"{name}.parquet"
        )
