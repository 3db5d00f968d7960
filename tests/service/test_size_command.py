"""`mixdim size`: the file it writes, the table it prints and what it says on bad input."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.sizing import PopularityRule
from service.__main__ import main
from service.data.dataset import read_dataset_info
from service.sizing import SizingFile, read_sizing, sizing_bytes, write_sizing
from service.sizing_request import SizingRequest, size_dataset
from tests.service.sized_data import ROWS, size, write_sizing_data

UNIFORM_16_BYTES = sum(ROWS) * (16 * 4 + 4)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset with three fields and the counts of one of them."""
    return write_sizing_data(tmp_path / "data")


@pytest.fixture
def sized(data: Path) -> SizingFile:
    """A plan of these fields under a budget."""
    return size_dataset(data, SizingRequest(scheme=PopularityRule(), budget="2x"))


def edited(sizing: SizingFile, path: Path, place: tuple[Any, ...], value: object) -> Path:
    """Write a sizing file in which one value was changed by hand."""
    write_sizing(sizing, path)
    record = json.loads(path.read_text())
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(record))
    return path


def test_a_budget_of_half_the_uniform_bytes_is_kept_and_recorded(data: Path) -> None:
    code, output = size(data, "--scheme", "popularity", "--budget", "2x", "--alpha", "0.4")
    sizing = read_sizing(output)
    assert code == 0
    assert sizing.budget_bytes == UNIFORM_16_BYTES // 2
    assert sizing_bytes(sizing).training_bytes <= UNIFORM_16_BYTES // 2
    assert sizing.scheme == {**sizing.scheme, "kind": "popularity", "alpha": 0.4}


def test_a_folder_as_output_is_refused_before_the_work(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(data.rglob("*"))
    assert main(["size", str(data / "nowhere"), "--output", str(data)]) == 2
    message = capsys.readouterr().err
    assert f"--output {data} is a folder, expected a file; try --output {data}/sizing.json" in (
        message
    )
    assert sorted(data.rglob("*")) == before


def test_uniform_at_the_bytes_of_uniform_16_is_16_wide(data: Path) -> None:
    _, output = size(data, "--scheme", "uniform", "--budget", "1x")
    assert read_sizing(output).plan.dims() == {"C1": 16, "C2": 16, "C3": 16}


def test_the_table_explains_every_field_and_gives_the_four_figures(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size(data, "--scheme", "popularity", "--budget", "2x")
    printed = capsys.readouterr().out
    for text in ("C1", "C2", "C3", "asked dim", "used dim", "lookups a row"):
        assert text in printed
    for text in ("EP ", "EP + projections", "training bytes", "serving bytes", "budget", "% used"):
        assert text in printed


def test_json_prints_the_file_and_nothing_else(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, output = size(data, "--json")
    assert json.loads(capsys.readouterr().out) == json.loads(output.read_text())


def test_a_written_file_is_read_back_equal(sized: SizingFile, tmp_path: Path) -> None:
    path = tmp_path / "new" / "sizing.json"
    write_sizing(sized, path)
    assert read_sizing(path) == sized
    assert [file.name for file in path.parent.iterdir()] == ["sizing.json"]


def test_the_file_knows_its_dataset(data: Path, sized: SizingFile) -> None:
    assert sized.dataset.source == "synthetic"
    assert len(sized.dataset.sha256) == 64
    (data / "dataset.json").write_bytes((data / "dataset.json").read_bytes() + b"\n")
    assert size_dataset(data, SizingRequest()).dataset.sha256 != sized.dataset.sha256


def test_some_fields_are_sized_in_the_order_of_the_dataset(data: Path) -> None:
    _, output = size(data, "--fields", "C3", "C1")
    assert list(read_sizing(output).fields) == ["C1", "C3"]


def test_a_field_is_cut_into_blocks_by_its_counts(data: Path) -> None:
    _, output = size(data, "--scheme", "popularity", "--blocks", "3", "--block-fields", "C3")
    blocks = read_sizing(output).fields
    assert [len(blocks[name]) for name in ("C1", "C2", "C3")] == [1, 1, 3]
    assert sum(block.num_embeddings for block in blocks["C3"]) == ROWS[2]


@pytest.mark.parametrize("budget", [[], ["--budget", "1x"]])
def test_a_fixed_out_dim_caps_every_width(data: Path, budget: list[str]) -> None:
    _, output = size(data, "--scheme", "popularity", "--out-dim", "12", *budget)
    sizing = read_sizing(output)
    assert sizing.out_dim == 12
    assert max(sizing.plan.dims().values()) <= 12


@pytest.mark.parametrize(("optimizer", "dim"), [("sgd", 16), ("adagrad", 8), ("adam", 4)])
def test_the_optimizers_state_counts_in_the_budget(data: Path, optimizer: str, dim: int) -> None:
    _, output = size(data, "--optimizer", optimizer, "--budget", str(sum(ROWS) * 64))
    assert set(read_sizing(output).plan.dims().values()) == {dim}


def test_fastai_without_a_budget_warns_that_it_is_dearer(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = size(data, "--scheme", "fastai")
    projections = (16 + 8) * 144 * 12
    dearer = (40 * 68 + 7 * 36 + 3000 * 580 + projections) / UNIFORM_16_BYTES
    assert code == 0
    assert f"scheme fastai takes {dearer:.3g} times the bytes of uniform" in capsys.readouterr().err


def test_an_infeasible_budget_exits_3_and_its_number_would_do(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = size(data, "--scheme", "popularity", "--budget", "1000")
    needed = sum(-(-rows // 4) * 20 for rows in ROWS)  # width 1: four rows in one of width 4
    assert (code, output.exists()) == (3, False)
    assert f"give --budget {needed}" in capsys.readouterr().err
    assert size(data, "--scheme", "popularity", "--budget", str(needed))[0] == 0


def test_an_infeasible_multiple_says_which_are_possible(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = size(data, "--scheme", "popularity", "--budget", "16x")
    message = capsys.readouterr().err
    assert code == 3
    assert (
        "at most 13.59x smaller than uniform 16 is possible, and 16x from --base-dim 20" in message
    )
    assert size(data, "--scheme", "popularity", "--budget", "13.59x")[0] == 0
    assert size(data, "--scheme", "popularity", "--budget", "16x", "--base-dim", "20")[0] == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scheme", "popular"], "'popular' is not a scheme; schemes: uniform, fastai, pop"),
        (["--scheme", "uniform", "--n-floor", "9"], "--n-floor means nothing to the scheme 'uni"),
        (["--budget", "lots"], "budget 'lots' is not a number of bytes"),
        (["--fields", "C9"], "--fields: ['C9'] are not fields; fields: C1, C2, C3"),
        (["--blocks", "2", "--block-fields", "C7"], "--block-fields: ['C7'] are not fields"),
        (["--blocks", "0"], "blocks=0, expected at least 1"),
        (["--base-dim", "0"], "base_dim=0, expected at least 1"),
        (
            ["--scheme", "popularity", "--min-dim", "4", "--out-dim", "2"],
            "out_dim=2, expected at l",
        ),
        (["--dim", "30"], "dim=30, expected 1, 2 or a multiple of 4 (FBGEMM kernels); try 32"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2(
    data: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    code, output = size(data, *flags)
    error = capsys.readouterr().err
    assert (code, output.exists()) == (2, False)
    assert message in error
    assert error.count("\n") == 1


def test_an_unprepared_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["size", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no dataset.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("fields", "C3", 0, "embedding_dim"), 6, "table 'C3': embedding_dim=6, .* try 8"),
        (("fields", "C3", 0, "embedding_dim"), -4, r"fields\.C3\.0.*embedding_dim=-4"),
        (("fields", "C3", 0, "embedding_dim"), "wide", r"fields\.C3\.0\.embedding_dim.*'wide'"),
        (("fields", "C3", 0, "dim"), 8, r"fields\.C3\.0\.dim"),
        (("fields", "C3"), [], r"fields\.C3"),
        (("out_dim",), 4, "exceeds out_dim=4; raise out_dim"),
        (("optimizer",), "lion", r"optimizer: .*'rowwise_adagrad'.*\(value 'lion'\)"),
        (("format_version",), 9, "format_version=9, expected 1; run mixdim size again"),
        (("colour",), "red", r"colour: .*\(value 'red'\)"),
    ],
)
def test_a_file_changed_by_hand_is_refused_by_field_and_value(
    sized: SizingFile, tmp_path: Path, place: tuple[Any, ...], value: object, message: str
) -> None:
    path = edited(sized, tmp_path / "sizing.json", place, value)
    with pytest.raises(ValueError, match=message) as refusal:
        read_sizing(path)
    assert str(refusal.value).startswith(str(path))


def test_a_file_changed_by_hand_is_welcome_when_it_makes_sense(
    sized: SizingFile, tmp_path: Path
) -> None:
    path = edited(
        sized, tmp_path / "sizing.json", ("fields", "C3", 0, "embedding_dim"), sized.out_dim
    )
    assert read_sizing(path).plan.dims()["C3"] == sized.out_dim


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sizing.json"
    path.write_text('{"format_version": 1, ')
    with pytest.raises(ValueError, match=r"sizing\.json: Invalid JSON"):
        read_sizing(path)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make it with `mixdim size DATA`"):
        read_sizing(tmp_path / "sizing.json")


def test_a_plan_suits_the_dataset_it_was_made_for(data: Path, sized: SizingFile) -> None:
    sized.check_against(read_dataset_info(data))


def test_a_plan_of_other_rows_is_refused(data: Path, sized: SizingFile) -> None:
    info = read_dataset_info(data)
    stats = replace(info.fields[2].stats, num_embeddings=3020)
    grown = replace(info, fields=(*info.fields[:2], replace(info.fields[2], stats=stats)))
    with pytest.raises(ValueError, match="field C3: sizing has 3000 rows, dataset has 3020; run"):
        sized.check_against(grown)


def test_a_plan_of_another_dataset_is_refused(data: Path, sized: SizingFile) -> None:
    info = read_dataset_info(data)
    with pytest.raises(ValueError, match="field 'C3' is sized but not in the dataset"):
        sized.check_against(replace(info, fields=info.fields[:2]))


def test_a_model_brings_the_optimizer_of_its_preset(data: Path) -> None:
    pair = ("--model", "mf", "--fields", "C1", "C2")
    _, output = size(data, *pair)
    assert read_sizing(output).optimizer == "adam"
    _, output = size(data, *pair, "--optimizer", "amsgrad")
    assert read_sizing(output).optimizer == "amsgrad"


def test_a_factorization_of_all_fields_is_refused_and_told_how_to_name_two(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = size(data, "--model", "mf")
    assert (code, output.exists()) == (2, False)
    message = "multiplies two fields, 3 are sized; name two, such as --fields C1 C2"
    assert message in " ".join(capsys.readouterr().err.split())
