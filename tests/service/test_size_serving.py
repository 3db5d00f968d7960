"""`mixdim size --budget-for serving`: the file, the table, the dtypes and what is refused."""

import json
from pathlib import Path

import pytest

from service.__main__ import main
from service.sizing import read_sizing, sizing_bytes
from tests.datasets import write_dataset

ROWS = (40, 7, 3000)
UNIFORM_16_BYTES = sum(ROWS) * 16 * 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_dataset(folder, num_embeddings=ROWS, rows={"train": 64, "validation": 8, "test": 8})
    return folder


def size(data: Path, *flags: str) -> tuple[int, Path]:
    output = data.parent / "sizing.json"
    return main(["size", str(data), "--output", str(output), *flags]), output


def test_a_serving_budget_is_kept_and_recorded_with_its_dtype(data: Path) -> None:
    flags = ("--budget", "4x", "--budget-for", "serving", "--dtype", "int8")
    code, output = size(data, "--scheme", "popularity", *flags)
    sizing = read_sizing(output)
    assert code == 0
    assert (sizing.budget_for, sizing.dtype, sizing.row_alignment) == ("serving", "int8", 1)
    assert sizing.budget_bytes == UNIFORM_16_BYTES // 4
    assert 0.95 * UNIFORM_16_BYTES / 4 < sizing_bytes(sizing).serving_bytes <= sizing.budget_bytes
    sizing.check_budget("adam")  # whose training bytes the budget does not bound
    assert sizing_bytes(sizing).training_bytes > sizing.budget_bytes


@pytest.mark.parametrize(("dtype", "width"), [("fp32", 4), ("fp16", 8), ("int8", 12), ("int4", 24)])
def test_a_quarter_of_uniform_16_in_fp32_is_16_bytes_a_row(
    data: Path, dtype: str, width: int
) -> None:
    _, output = size(data, "--budget", "4x", "--budget-for", "serving", "--dtype", dtype)
    assert set(read_sizing(output).plan.dims().values()) == {width}


def test_the_table_says_what_the_bytes_buy_in_every_dtype(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size(data, "--budget", "4x", "--budget-for", "serving")
    printed = capsys.readouterr().out
    bought = printed.partition("what the bytes buy")[2]
    for dtype, width in (("fp32", 4), ("fp16", 8), ("int8", 12), ("int4", 24)):
        (line,) = [line for line in bought.splitlines() if line.strip().startswith(dtype)]
        assert f"{sum(ROWS) * width:,}  parameters, {width} wide" in line
    assert "fp32; 25.0% of uniform 16 in fp32" in printed
    assert "100.00% used by serving bytes" in printed


def test_a_dtype_without_a_serving_budget_only_changes_the_serving_bytes(data: Path) -> None:
    _, output = size(data, "--budget", "2x", "--dtype", "int8", "--row-alignment", "16")
    sizing = read_sizing(output)
    assert (sizing.budget_for, sizing.row_alignment) == ("training", 16)
    assert sizing.plan.dims() == {"C1": 4, "C2": 4, "C3": 4}
    assert sizing_bytes(sizing).serving_bytes == sum(ROWS) * 16  # 8 + 4 bytes, aligned to 16


def test_a_serving_budget_too_small_says_what_would_do(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--budget", "1000x", "--budget-for", "serving", "--dtype", "int4")
    code, _ = size(data, *flags)
    assert code == 3
    message = capsys.readouterr().err
    # Uniform 1: ceil(n / 4) rows of 4/2 + 4 bytes.
    needed = sum(-(-n // 4) for n in ROWS) * 6
    assert f"takes {needed:,} bytes; give --budget {needed}" in message
    assert "served in int4 at most" in message


def test_widths_by_hand_that_a_dtype_does_not_take_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    widths = ("--widths", "C1=6", "C2=8", "C3=8", "--rounding", "int", "--optimizer", "amsgrad")
    assert size(data, *widths, "--dtype", "int4")[0] == 2
    assert (
        "table 'C1': embedding_dim=6, expected 1, 2 or a multiple of 4" in capsys.readouterr().err
    )
    assert size(data, *widths, "--dtype", "int8")[0] == 0


def test_explain_gives_the_bytes_of_the_dtype(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, output = size(data, "--dim", "8", "--dtype", "int8")
    capsys.readouterr()
    assert main(["explain", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "as int8" in printed
    assert f"{3000 * 12:,}" in printed
    assert main(["explain", str(output), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["dtype"], found["budget_for"]) == ("int8", "training")
    assert [table["serving_bytes"] for table in found["tables"]] == [n * 12 for n in ROWS]
