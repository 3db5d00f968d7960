"""`mixdim size`: rows, widths by hand, models and roundings."""

import json
from pathlib import Path

import pytest

from models.sizing import PopularityRule
from models.tables import FieldStats
from service.sizing import read_sizing, sizing_bytes
from service.sizing_budget import fit_budget
from service.sizing_request import SizingRequest
from tests.service.sized_data import size, write_sizing_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset with three fields and the counts of one of them."""
    return write_sizing_data(tmp_path / "data")


def test_rare_ids_share_one_row_by_their_counts(data: Path) -> None:
    _, output = size(data, "--fields", "C3", "--min-lookups", "2000")
    head, tail = read_sizing(output).fields["C3"]
    assert (head.num_embeddings, head.hashed_ids) == (1001, 0)
    assert (tail.num_embeddings, tail.num_ids) == (1, 1999)


def test_a_hashed_tail_has_its_share_of_rows(data: Path) -> None:
    _, output = size(data, "--fields", "C3", "--min-lookups", "2001", "--hash-tail", "0.01")
    _, tail = read_sizing(output).fields["C3"]
    assert (tail.num_embeddings, tail.num_ids) == (20, 2000)


def test_rows_are_only_traded_in_the_fields_that_are_named() -> None:
    curve = tuple((rank, 10_000 - 10_000 // rank) for rank in (10, 100, 500))
    fields = [
        FieldStats(name=n, num_embeddings=1000, num_lookups=10_000, frequency_curve=curve)
        for n in "abc"
    ]
    scheme = PopularityRule(max_dim=16)
    tables = {}
    for named in ((), ("b",)):
        request = SizingRequest(scheme=scheme, budget="1", rows="auto", row_fields=named)
        fitted = fit_budget(scheme(fields), 12_000, fields, request, {}, None)
        tables[named] = [table.name for table in fitted.plan.tables()]
        assert fitted.training_bytes <= 12_000
    assert tables == {
        (): ["a/0", "a/1", "b/0", "b/1", "c/0", "c/1"],
        ("b",): ["a", "b/0", "b/1", "c"],
    }


@pytest.mark.parametrize("written", ["[[1000, 16], [2000, 4]]", "[[100, 8, 2900]]"])
def test_rows_that_a_file_has_cut_stay_as_they_are_written(data: Path, written: str) -> None:
    path = data.parent / "widths.json"
    path.write_text(f'{{"C3": {written}}}')
    flags = ["--scheme", "file", "--file", str(path), "--rows", "auto", "--budget", "20000"]
    code, output = size(data, *flags)
    rows = [(b.num_embeddings, b.hashed_ids) for b in read_sizing(output).fields["C3"]]
    assert code == 0
    assert rows == [(n, sum(hashed)) for n, _, *hashed in json.loads(written)]


def test_hashing_keeps_the_width_and_gives_the_budget_to_rows(data: Path) -> None:
    _, output = size(data, "--scheme", "hash", "--budget", "4x", "--whole-rows", "50")
    sizing = read_sizing(output)
    assert set(sizing.plan.dims().values()) == {16}
    assert 0.99 < sizing_bytes(sizing).training_bytes / (sizing.budget_bytes or 1) <= 1
    assert sizing.fields["C3"][0].num_ids == 3000
    assert sizing.fields["C3"][0].hashed_ids > 0


def test_hashing_and_another_choice_of_rows_contradict_each_other(data: Path, capsys) -> None:
    code, _ = size(data, "--scheme", "hash", "--min-lookups", "10")
    assert code == 2
    assert "min_lookups=10 decides which rows there are, and so does scheme 'hash'" in (
        capsys.readouterr().err
    )


def test_a_model_that_concatenates_pays_no_projections(data: Path) -> None:
    _, output = size(data, "--scheme", "popularity", "--model", "ncf")
    sizing = read_sizing(output)
    assert sizing.join == "concatenate"
    assert len(set(sizing.plan.dims().values())) > 1
    assert sizing_bytes(sizing).projection_params == 0


@pytest.mark.parametrize("name", ["widths.toml", "widths.json"])
def test_widths_are_read_from_a_file(data: Path, name: str) -> None:
    path = data.parent / name
    lines = {"toml": "C1 = 2\nC3 = [[1000, 16], [2000, 4]]\n", "json": '{"C1": 2, "C3": 4}'}
    path.write_text(lines[path.suffix[1:]])
    code, output = size(data, "--scheme", "file", "--file", str(path))
    plan = read_sizing(output).plan
    assert code == 0
    assert [plan.fields[name][0].embedding_dim for name in ("C1", "C2")] == [2, 16]
    assert plan.fields["C3"][-1].embedding_dim == 4


def test_widths_are_read_from_the_command_line(data: Path) -> None:
    _, output = size(data, "--widths", "C1=8", "C3=1")
    assert read_sizing(output).plan.dims() == {"C1": 8, "C2": 16, "C3": 1}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--widths", "C1"], "--widths: 'C1' is no width, expected FIELD=WIDTH"),
        (["--widths", "C1=3"], "field 'C1': width=3, expected 1, 2 or a multiple of 4"),
        (["--widths", "C9=4"], "widths name ['C9'], which are not among the fields"),
        (["--widths", "C1=4", "C1=8"], "field 'C1' is named twice"),
        (["--scheme", "file", "--file", "none.toml"], "none.toml does not exist; write one line"),
        (["--hash-tail", "0.5"], "hash_tail=0.5 without a tail"),
        (["--hash-tail", "2", "--rows", "auto"], "hash_tail=2.0, expected in [0, 1)"),
        (["--row-fields", "C3"], "row_fields=['C3'] trade rows for width, and rows='keep' keeps"),
        (["--row-fields", "C9", "--rows", "auto", "--budget", "2x"], "--row-fields: ['C9'] are"),
        (["--rows", "auto"], "rows='auto' trades rows for width under a budget; give a budget"),
        (["--rows", "auto", "--budget", "2x", "--min-lookups", "3"], "give one of them"),
        (["--min-lookups", "-1"], "min_lookups=-1, expected 0 or more"),
        (["--model", "ncf", "--join", "pad"], "--join pad: ncf joins its fields by 'concatenate'"),
        (["--model", "fm", "--join", "concatenate"], "fm joins its fields by 'project'"),
        (["--model", "gpt"], "--model 'gpt' is not a model; models: dlrm"),
        (["--rounding", "pow2", "--dim", "12"], "dim=12, expected a power of two"),
        (["--rounding", "int", "--dim", "5"], "embedding_dim=5, expected 1, 2 or a multiple of 4"),
    ],
)
def test_what_cannot_be_asked_for_together_is_one_clear_line(
    data: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    code, output = size(data, *flags)
    error = capsys.readouterr().err
    assert (code, output.exists()) == (2, False)
    assert message in error
    assert error.count("\n") == 1


def test_blocks_of_a_file_must_cover_the_field(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data.parent / "widths.json"
    path.write_text('{"C3": [[1000, 16], [1990, 4]]}')
    assert size(data, "--scheme", "file", "--file", str(path))[0] == 2
    error = capsys.readouterr().err
    assert "its blocks cover 2,990 ids, the field has 3,000; change the rows" in error


def test_widths_of_any_integer_are_written_for_dense_tables(data: Path) -> None:
    _, output = size(data, "--scheme", "fastai", "--rounding", "int", "--optimizer", "amsgrad")
    assert read_sizing(output).plan.dims() == {"C1": 13, "C2": 5, "C3": 142}
