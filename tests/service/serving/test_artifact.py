"""What an artifact makes of raw rows, good and bad, and what it needs to be installed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.__main__ import EXIT_REJECTED, main
from service.serving import BadRowsError, load
from service.serving.predict_file import predict_file
from service.serving.raw_files import read_pieces
from tests.service.serving.served_runs import NUM_TEST, text

TRAINING_STACK = ("torchrec", "fbgemm_gpu", "torchmetrics", "torchx", "tensordict")


@pytest.fixture(scope="module")
def artifact(fp32):
    return load(fp32)


@pytest.fixture(scope="module")
def expected(artifact, served_run):
    return artifact.predict(served_run.json_rows)


def test_scoring_needs_nothing_of_the_training_stack(served_run, fp32, expected, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(text(served_run.json_rows))
    blocked = f"class Blocked:\n def find_spec(self, name, path=None, target=None):\n  if name.split('.')[0] in {TRAINING_STACK}: raise ImportError(name)\n"  # noqa: E501
    code = (
        f"import sys\n{blocked}sys.meta_path.insert(0, Blocked())\n"
        f"from service.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(fp32), "--input", str(rows)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout.splitlines()
    assert header == "prediction"
    np.testing.assert_allclose([float(line) for line in lines], expected, atol=1e-6)


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_files_of_every_form_score_alike(form, artifact, served_run, fp32, expected, tmp_path):
    path, output = tmp_path / f"rows.{form}", tmp_path / "out.parquet"
    if form == "jsonl":
        path.write_bytes(text(served_run.json_rows))
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(served_run.json_rows), path)
    else:
        whole = served_run.config.data.parent / "rows.csv"
        header, *lines = whole.read_text().splitlines(keepends=True)
        path.write_text(header + "".join(lines[-NUM_TEST:]))
    assert main(["predict", str(fp32), "--input", str(path), "--output", str(output)]) == 0
    found = pq.read_table(output)["prediction"].to_numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_batches_do_not_matter(artifact, served_run, expected):
    one_by_one = [artifact.predict([row])[0] for row in served_run.json_rows[:20]]
    np.testing.assert_allclose(one_by_one, expected[:20], atol=1e-6)
    assert artifact.predict([]).shape == (0,)


BAD = {
    "column 'word' is not there; give null for a missing value": {"word": ...},
    "column price: 'dear' is not a number": {"price": "dear"},
    "column rank: '-1.0' is negative, and the transform 'none' keeps values": {"rank": -1.0},
    "column 'site': 1.5, expected text or a whole number or null": {"site": 1.5},
    "column 'device': True, expected text or a whole number or null": {"device": True},
    "column 'tags': 3, expected a list of texts or one text with '|' between them": {"tags": 3},
    "column rank: 'inf' is not a finite number": {"rank": float("inf")},
    "column 'site': 'half \\ud800' is not UTF-8": {"site": "half \ud800"},
    "column 'tags': '\\ud800|b' is not UTF-8": {"tags": "\ud800|b"},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_named_with_its_reason(reason, artifact, served_run):
    rows = [dict(row) for row in served_run.json_rows[:3]]
    for name, value in BAD[reason].items():
        rows[1][name] = value
        if value is ...:
            del rows[1][name]
    with pytest.raises(BadRowsError) as caught:
        artifact.predict(rows)
    assert caught.value.reasons == {1: reason}


def test_unknown_and_missing_values_have_vectors_of_their_own(artifact, served_run):
    row = served_run.json_rows[0]
    known, new, newer, missing, empty = (
        artifact.predict([row | {"site": value}])[0]
        for value in (row["site"], "never seen", "nor this", None, "")
    )
    assert new == newer != missing == empty
    assert known not in (new, missing)
    columns = artifact.encode([row | {"site": "never seen", "tags": ["x", "y"]}]).columns
    counted = artifact.num_unknown(columns)
    assert (counted["site"], counted["tags"]) == (1, 2)


def test_bad_rows_of_a_file_end_it_or_are_left_out(fp32, served_run, expected, tmp_path, capsys):
    path, output = tmp_path / "rows.jsonl", tmp_path / "out.csv"
    rows = [dict(row) for row in served_run.json_rows[:4]]
    rows[2]["price"] = "dear"
    path.write_bytes(text(rows[:3]) + b"{broken\n" + text(rows[3:]))
    arguments = ["predict", str(fp32), "--input", str(path), "--output", str(output)]
    assert main(arguments) == EXIT_REJECTED
    said = capsys.readouterr().err
    assert "row 3: column price: 'dear' is not a number" in said
    assert "row 4: not JSON" in said
    assert not output.exists()
    assert main([*arguments, "--skip-bad-rows", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_bad"] == 2
    _, *values = output.read_text().splitlines()
    assert [value == "" for value in values] == [False, False, True, True, False]
    assert float(values[4]) == pytest.approx(expected[3], abs=1e-6)


def test_remembered_values_have_the_ids_that_they_were_given_first(artifact, served_run):
    index = artifact.encoder._indexes["site"]
    sites = [row["site"] for row in served_run.json_rows] + ["new", "x" * 99, "new"]
    expected = index._index.ids_of(pa.array(sites)).tolist()
    few = [index.ids_of(pa.array(sites[first : first + 3])) for first in range(0, len(sites), 3)]
    again = [index.ids_of(pa.array(sites[first : first + 3])) for first in range(0, len(sites), 3)]
    assert [i for ids in few for i in ids[:-1]] == expected[:-1]
    assert np.array_equal(few, again)
    assert {ids[-1] for ids in few} == {expected[-1]}
    assert not any(len(text) == 99 for text in index._known)


def test_a_file_that_lacks_a_column_is_told_which(fp32, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("price,rank,site,word,tags\n1,2,a,b,c\n")
    assert main(["predict", str(fp32), "--input", str(path)]) == EXIT_REJECTED
    told = capsys.readouterr().err
    assert "has no column 'device'; its columns are price, rank" in told
    assert "first line" not in told
    path.write_text("1,2,a,d,b,c\n")
    assert main(["predict", str(fp32), "--input", str(path)]) == EXIT_REJECTED
    assert "; its first line has to name the columns" in capsys.readouterr().err


ONE = {"price": [1.0], "rank": [0.5], "site": ["s"], "device": ["1"], "word": ["w"], "tags": ["t"]}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([{"a": 1}]), "column 'site' holds struct<a: int64>, expected one value a row"),
        (pa.array([["a", "b"]]), "column 'site' is a list, expected one value a row"),
        (None, "has several columns named price; give each its own name"),
    ],
)
def test_a_parquet_file_of_another_form_is_told_where(column, message, artifact, tmp_path):
    table = pa.table(ONE | ({"site": column} if column is not None else {}))
    twice = table.append_column("price", pa.array([2.0])) if column is None else table
    pq.write_table(twice, tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=re.escape(message)):
        [*read_pieces(tmp_path / "rows.parquet", artifact.form, artifact.inputs)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price,rank,site,device,word,tags,price\n1,2,a,b,c,d,3\n", "several columns named price"),
        ("price,rank,site,device,word,tags\r1,2,a,b,c,d\r", "its first line is no header"),
    ],
)
def test_text_without_a_good_header_is_told_why(text, message, artifact, tmp_path):
    (tmp_path / "rows.csv").write_text(text, newline="")
    with pytest.raises(ValueError, match=message):
        [*read_pieces(tmp_path / "rows.csv", artifact.form, artifact.inputs)]


def test_json_that_is_nested_too_deeply_is_a_bad_row(artifact, tmp_path):
    (tmp_path / "rows.jsonl").write_text("[" * 100_000 + "\n")
    (piece,) = read_pieces(tmp_path / "rows.jsonl", artifact.form, artifact.inputs)
    assert "not JSON: maximum recursion depth" in piece.faults[0]


def test_predictions_never_replace_their_rows(artifact, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("price,rank,site,device,word,tags\n1,2,a,b,c,d\n")
    for output, message in ((rows, "is the file of the rows"), (tmp_path, "is a folder")):
        with pytest.raises(ValueError, match=message):
            predict_file(artifact, rows, output, skip_bad=False)
    assert rows.read_text().startswith("price,rank")


def test_a_file_that_has_changed_is_refused(fp32, tmp_path):
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in fp32.rglob("*"):
        target = copied / path.relative_to(fp32)
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    victim: Path = next((copied / "tables").iterdir())
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    with pytest.raises(ValueError, match=r"is not the file that was exported .*export the run"):
        load(copied)
