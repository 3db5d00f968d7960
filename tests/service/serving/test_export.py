"""An artifact says of raw rows what the training model says of the rows that they became."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.sizing import Serving, plan_bytes
from models.tables import Table
from service.__main__ import EXIT_REJECTED, main
from service.export import card
from service.export.config import ExportConfig
from service.run_folder import RunFolder
from service.serving import load
from service.serving.manifest import read_manifest
from service.serving.stored_rows import StoredRows
from service.sizing import read_sizing
from service.train.served import as_stored
from tests.service.serving.conftest import WIDE, made
from tests.service.serving.served_runs import trained_predictions


@pytest.fixture(scope="module", params=[("int8", False), ("int4", True), ("fp16", True)], ids=str)
def rounded(request, served_run):
    dtype, fold = request.param
    output = served_run.config.output.parent / f"{dtype}-{fold}"
    config = ExportConfig(
        run=served_run.config.output,
        output=output,
        dtype=dtype,
        fold_projections=fold,
        tolerance=WIDE,
    )
    return config, made(config)


def test_raw_rows_score_as_their_prepared_rows_do_in_training(served_run, fp32):
    found = load(fp32).predict(served_run.json_rows)
    expected = trained_predictions(served_run.config.output)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    assert np.ptp(found) > 0.1


def test_rounded_tables_score_as_the_training_model_with_rounded_tables(served_run, rounded):
    config, _ = rounded
    found = load(config.output).predict(served_run.json_rows)
    rounding = "fp32" if config.fold_projections else config.dtype
    expected = trained_predictions(served_run.config.output, rounding)
    # Folded rows are rounded behind their projection, which no model in training does.
    atol = {"int8": 2e-6, "fp16": 1e-3, "int4": 0.1}[config.dtype]
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    assert np.abs(found - trained_predictions(served_run.config.output)).max() > 0


def test_bytes_of_rows_are_those_that_sizing_counts(served_run, rounded):
    config, manifest = rounded
    if config.fold_projections:
        assert manifest.width == 8 * len(manifest.tables)
        return
    plan = replace(read_sizing(served_run.config.sizing).plan, join="pad")  # without projections
    counted = plan_bytes(plan, serving=Serving(dtype=config.dtype)).serving_bytes
    rows = [StoredRows.load(config.output, table, config.dtype) for table in manifest.tables]
    assert sum(row._rows.nbytes for row in rows) == counted


@pytest.mark.parametrize(("dtype", "bits"), [("int8", 8), ("int4", 4)])
@pytest.mark.parametrize("dim", [1, 2, 8, 12])
def test_stored_integers_are_read_as_a_float64_loop_reads_them(dtype, bits, dim):
    table = Table(name="t", field="t", num_embeddings=30, embedding_dim=dim)
    shape = table.stored.num_embeddings, table.stored.embedding_dim
    floats = np.random.default_rng(dim).normal(size=shape).astype(np.float32)
    stored = as_stored(torch.from_numpy(floats), dtype)
    found = StoredRows(table, stored, dtype).vectors(torch.tensor([29, 0, 7, 7]))
    by_row = []
    for row in stored.numpy():
        scale, bias = (float(value) for value in row[-4:].view(np.float16))
        steps = [int(byte) >> low & (2**bits - 1) for byte in row[:-4] for low in range(0, 8, bits)]
        by_row.append([scale * step + bias for step in steps])
    logical = np.array(by_row).reshape(-1, dim)[[29, 0, 7, 7]]
    np.testing.assert_allclose(found.double().numpy(), logical, rtol=1e-6, atol=1e-6)


def test_a_gap_beyond_its_tolerance_leaves_nothing_and_says_what_would_do(
    served_run, tmp_path, capsys
):
    output = tmp_path / "refused"
    flags = ["--dtype", "int4", "--tolerance.auc", "1", "--tolerance.log-loss", "1e-9"]
    code = main(["export", str(served_run.config.output), "--output", str(output), *flags])
    said = capsys.readouterr().err
    assert code == EXIT_REJECTED
    assert "a gap of" in said
    assert "beyond the tolerance 1e-09; store tables in int8 or fp16, or take it with" in said
    assert list(tmp_path.iterdir()) == []
    enough = said.split("--tolerance.log-loss ")[1].split()[0]
    again = [*flags[:-1], enough, "--json"]
    assert main(["export", str(served_run.config.output), "--output", str(output), *again]) == 0
    made = json.loads(capsys.readouterr().out)
    assert 0 < abs(made["gaps"]["log_loss"]) <= float(enough)


def test_the_card_and_the_manifest_have_the_runs_own_scores(served_run, fp32):
    result = json.loads((served_run.config.output / "result.json").read_text())
    gate = read_manifest(fp32).gate
    text = (fp32 / "MODEL_CARD.md").read_text()
    for name in ("auc", "log_loss"):
        assert gate.run[name] == pytest.approx(result["scores"][name], abs=1e-6)
        assert f"{gate.artifact[name]:.6f}" in text


def test_whoever_may_read_the_artifacts_folder_may_read_its_files(fp32):
    modes = {path.stat().st_mode & 0o777 for path in fp32.rglob("*") if path.is_file()}
    assert modes == {(fp32 / "tables").stat().st_mode & 0o666}


def test_a_field_with_a_bar_in_its_name_stays_in_its_cell_of_the_card(fp32):
    manifest = read_manifest(fp32)
    barred = replace(
        manifest,
        fields=[replace(field, name=f"{field.name}|x") for field in manifest.fields],
        tables=[replace(table, field=f"{table.field}|x") for table in manifest.tables],
    )
    rows = [line for line in card._inputs(barred) if line.startswith("|")][2:]
    assert len(rows) == len(manifest.fields)
    for row in rows:
        assert r"\|x |" in row
        assert row.replace(r"\|", "").count("|") == 5


def test_what_is_there_is_not_replaced_unless_asked(served_run, fp32, capsys):
    arguments = ["export", str(served_run.config.output), "--output", str(fp32)]
    assert main(arguments) == EXIT_REJECTED
    assert "exists; choose another --output or add --overwrite" in capsys.readouterr().err
    arguments[-1] = str(served_run.config.output)
    assert main([*arguments, "--overwrite"]) == EXIT_REJECTED
    assert "is not an artifact (it has no artifact.json)" in capsys.readouterr().err
    assert RunFolder(served_run.config.output).read_run()


def test_an_onnx_runtime_says_what_the_program_says(served_run, fp32):
    onnxruntime = pytest.importorskip("onnxruntime")
    artifact = load(fp32)
    columns = artifact.encode(served_run.json_rows).columns
    session = onnxruntime.InferenceSession(fp32 / "model.onnx")
    pooled = artifact._lookup(columns).numpy()
    found = session.run(None, {"dense": columns.dense, "pooled": pooled})[0]
    np.testing.assert_allclose(found, artifact.score(columns), atol=1e-6)
