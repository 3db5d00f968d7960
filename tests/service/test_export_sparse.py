"""Pruned tables: zeros stay, the rest learns, and what is exported is what was counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.embeddings.pruning import PrunedChoice
from models.sparse import smallest_format
from service.checkpoint import StoredTensors, best_checkpoint
from service.config import TrainConfig
from service.export_sparse import export_sparse
from service.run_folder import RunFolder
from service.sizing import read_sizing
from service.sparse_tables import SparseTables
from service.train.initialise import starting_bounds, starting_rows
from tests.service.search.searches import make_search, run, within
from tests.service.test_export_codes import trained_model
from tests.service.warm_runs import make_data, started

OPTIONS = {"warm": {"keep": 0.2}, "fresh": {"keep": 0.05, "start": "fresh"}}


@pytest.fixture(
    scope="module", params=["warm", pytest.param("fresh", marks=pytest.mark.slow)], ids=str
)
def done(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pruned")
    make_data(folder / "data")
    config = make_search(folder, "prune", OPTIONS[request.param])
    return config, run(within(config, max_steps=12, validate_every=6))


def tables_of(config, stage: str) -> dict[str, np.ndarray]:
    """Tables of a stage's best checkpoint."""
    stored = StoredTensors(best_checkpoint(config.train.output / "stages" / stage / "checkpoints"))
    names = ("C1", "C2", "C3", "C4")
    prefix = "model.network.embeddings.tables.embedding_bags"
    return {name: stored.read(f"{prefix}.{name}.weight") for name in names}


def test_small_weights_are_zero_to_the_end_and_the_others_learn(done):
    config, record = done
    base, end = tables_of(config, "base"), tables_of(config, "retrain")
    assert set(record.notes["kept"]) <= {"C1", "C2", "C3"}
    assert "C3" in record.notes["kept"]
    for name, kept in record.notes["kept"].items():
        is_kept = np.abs(base[name]) >= np.float32(record.notes["threshold"])
        assert is_kept.sum() == kept < is_kept.size
        assert np.array_equal(end[name] != 0, is_kept)
        assert np.abs(end[name] - base[name])[is_kept].max() > 1e-3
    assert np.all(end["C4"] != 0)  # lists stay whole


def test_weights_start_as_the_base_ended_or_as_it_began(done):
    config, record = done
    retrained = RunFolder(config.train.output / "stages" / "retrain").read_config()
    begun, base = started(retrained).tables, tables_of(config, "base")
    plan = read_sizing(config.train.output / "sizing.json").plan
    bounds = starting_bounds(plan)
    for table in plan.tables():
        own = expected = base[table.name]
        if config.method.start == "fresh":
            expected = starting_rows(table, 0, seed=config.train.seed, bound=bounds[table.name])
        if table.name in record.notes["kept"]:
            expected = expected * (np.abs(own) >= np.float32(record.notes["threshold"]))
        assert np.array_equal(begun[table.name], expected)


def test_exported_vectors_are_the_models_in_evaluation(done):
    config, record = done
    model, batches = trained_model(config.train.output / "stages" / "retrain")
    tables = SparseTables(config.train.output / "sparse")
    for batch in batches:
        expected = model.network.embeddings(batch.features).side_by_side.detach().numpy()
        for number, name in enumerate(("C1", "C2", "C3")):
            rows = tables.rows(name, batch.features[name].values().numpy())
            assert np.array_equal(rows, expected[:, 8 * number : 8 * (number + 1)])
    formats = {table.name: table.format for table in tables.index.tables}
    assert formats == record.notes["formats"] | {"C4": "dense"}


def test_bytes_on_disk_are_those_that_were_counted(done):
    config, record = done
    folder = config.train.output / "sparse"
    on_disk = sum((folder / name).stat().st_size for name in ("indices.bin", "values.bin"))
    assert on_disk == record.figures["serving_bytes"] == SparseTables(folder).num_bytes
    end = tables_of(config, "retrain").values()
    assert on_disk == sum(smallest_format(*w.shape, np.count_nonzero(w))[1] for w in end)
    assert record.figures["embedding_params"] == sum(np.count_nonzero(w) for w in end)


def test_files_of_another_length_are_refused(done, tmp_path):
    config, _ = done
    assert export_sparse(config.train.output / "stages" / "retrain", tmp_path / "sparse")
    with (tmp_path / "sparse" / "values.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"values\.bin has .* expected .*; export again"):
        SparseTables(tmp_path / "sparse")


def test_a_run_without_zeros_is_refused(done, tmp_path):
    config, _ = done
    with pytest.raises(ValueError, match="kind 'mixed', which has no zeros"):
        export_sparse(config.train.output / "stages" / "base", tmp_path / "sparse")


def test_a_folder_without_an_export_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="make it with `mixdim search prune`"):
        SparseTables(tmp_path)


def test_zeros_need_a_run_to_be_small_in():
    pruned = PrunedChoice(thresholds={"C1": 0.1})
    with pytest.raises(ValueError, match="give that run: --warm-start"):
        TrainConfig(embeddings=pruned)
    assert TrainConfig(embeddings=pruned, warm_start=Path("run")).embeddings == pruned


def test_a_budget_below_what_stays_whole_names_what_it_takes(done):
    config, _ = done
    small = within(replace(config, budget="100"), output=config.train.output / "small")
    with pytest.raises(ValueError, match=r"budget of 100 bytes is too small: .* --budget \d+"):
        run(small)


REFUSED = {
    "zero": ({"C1": 0.0}, "thresholds: C1=0.0, expected a positive number"),
    "endless": ({"C1": float("inf")}, "expected a positive number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_thresholds_are_positive(case):
    thresholds, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        PrunedChoice(thresholds=thresholds)
