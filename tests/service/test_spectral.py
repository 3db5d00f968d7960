"""Spectra of a warm-up against truncated models, and warm starts against the full SVD."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models.networks import MFNetwork, NCFNetwork
from models.sizing import Spectral, Uniform
from service.__main__ import main
from service.config import TrainConfig
from service.data.lookups import lookups_per_id
from service.distributed import launch
from service.run_cost import run_cost
from service.sizing_request import SizingRequest, size_dataset
from service.spectral import measure_spectra, runs_of
from service.train.warm_layers import fitting_layers
from service.warm_up import WarmUp
from sharding.constraints import ShardingConfig
from tests.datasets import write_dataset
from tests.service.warm_runs import (
    ROWS,
    Started,
    make_config,
    make_data,
    started,
    trained,
    uniform,
    warm_up,
)

DIM = 8


def model_of(config: TrainConfig) -> Started:
    """The model of a run on one rank."""
    return launch(started, config, nproc=1, name="started")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and a finished warm-up on it."""
    path = tmp_path_factory.mktemp("warm")
    make_data(path / "data")
    warm_up(path, dim=DIM)
    return path


@pytest.fixture(scope="module")
def wide(folder: Path) -> dict[str, np.ndarray]:
    """The warm-up's tables."""
    return model_of(make_config(folder, "warm-up", uniform(DIM), DIM)).tables


def nearest(vectors: np.ndarray, counts: np.ndarray, width: int) -> np.ndarray:
    """The table of a rank that is nearest by lookups, from the full SVD."""
    _, _, right = np.linalg.svd(np.sqrt(counts)[:, None] * vectors, full_matrices=False)
    return vectors @ right[:width].T @ right[:width]


def start(folder: Path, name: str, sizes, out_dim: int = DIM, **changes):
    config = make_config(folder, name, sizes, out_dim)
    return model_of(replace(config, warm_start=folder / "warm-up", **changes))


def test_as_wide_as_the_warm_up_a_model_starts_as_its_best_checkpoint(folder, wide):
    before = model_of(make_config(folder, "warm-up", uniform(DIM), DIM))
    after = start(folder, "same", uniform(DIM))
    assert all(np.array_equal(after.tables[name], wide[name]) for name in ROWS)
    assert np.array_equal(after.scores, before.scores)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_narrow_tables_start_as_the_nearest_of_their_rank(folder, wide, width):
    after = start(folder, f"narrow{width}", uniform(width))
    (projections,) = after.projections
    for projection, (name, table) in zip(projections, after.tables.items(), strict=True):
        expected = nearest(wide[name], lookups_per_id(folder / "data", name), width)
        assert table.shape == (ROWS[name], width)
        assert np.allclose(table @ projection, expected, atol=1e-5)


def test_every_block_has_a_basis_of_its_own(folder, wide):
    sizes = uniform(DIM) | {"C3": [(50, 8, 0), (250, 2, 0)]}
    after = start(folder, "blocks", sizes)
    counts = lookups_per_id(folder / "data", "C3")
    assert np.array_equal(after.tables["C3/0"], wide["C3"][:50])
    expected = nearest(wide["C3"][50:], counts[50:], 2)
    assert np.allclose(after.tables["C3/1"] @ after.projections[0][0], expected, atol=1e-5)


def test_rows_that_ids_share_start_at_the_mean_of_their_lookups(folder, wide):
    after = start(folder, "hashed", uniform(DIM) | {"C3": [(50, 8, 0), (30, 8, 220)]})
    counts = lookups_per_id(folder / "data", "C3")
    for row in range(30):
        ids = np.arange(50 + row, 300, 30)
        weight = np.maximum(counts[ids], 1e-9)
        expected = (wide["C3"][ids] * weight[:, None]).sum(0) / weight.sum()
        assert np.allclose(after.tables["C3/1"][row], expected, atol=1e-5)


def test_a_warm_start_scores_better_than_noise_before_its_first_step(folder):
    labels = np.concatenate([np.asarray(part) for part in _labels(folder / "data")])
    cold = started_cold(folder)
    warm = start(folder, "narrow4b", uniform(4)).scores
    assert np.square(warm - labels).mean() < np.square(cold - labels).mean() - 0.01


def _labels(data: Path):
    yield pq.read_table(data / "validation", columns=["label"])["label"].to_numpy()


def started_cold(folder: Path) -> np.ndarray:
    """Scores of the constant."""
    return np.full(300, np.concatenate(list(_labels(folder / "data"))).mean())


@pytest.mark.dist
@pytest.mark.parametrize("kind", ["table_wise", "row_wise", "column_wise", "data_parallel"])
def test_two_ranks_start_like_one(folder, kind):
    sizes = {
        "C1": [(40, 1, 0)],
        "C2": [(7, 4, 0)],
        "C3": [(50, 8, 0), (30, 4, 220)],
        "C4": [(50, 2, 0)],
    }
    one = start(folder, f"one-{kind}", sizes)
    config = replace(
        make_config(folder, f"two-{kind}", sizes, DIM),
        warm_start=folder / "warm-up",
        sharding=ShardingConfig(types=(kind,)),
    )
    two = launch(started, config, nproc=2, name=kind)
    assert one.tables.keys() == two.tables.keys()
    assert all(np.allclose(one.tables[n], two.tables[n], atol=1e-6) for n in one.tables)
    assert np.allclose(one.scores, two.scores, atol=1e-6)


def test_spectra_are_what_truncated_models_lose_on_validation(tmp_path):
    make_data(tmp_path / "data", rating=True)
    pair = {name: [(ROWS[name], DIM, 0)] for name in ("C1", "C3")}
    network = MFNetwork(biases="none")
    config = make_config(tmp_path, "warm-up", pair, DIM, network=network)
    trained(config)
    run = WarmUp(tmp_path / "warm-up")
    runs = runs_of({"C1": [0, 10, 40], "C3": [0, 300]})
    found = measure_spectra(run, tmp_path / "data", runs)
    assert set(found) == {"C1/0", "C1/1", "C3"}
    assert all(len(spectrum) == DIM and min(spectrum) >= 0 for spectrum in found.values())
    tables = model_of(config).tables
    rows = pq.read_table(tmp_path / "data" / "validation").to_pydict()
    mean = float(np.mean(pq.read_table(tmp_path / "data" / "train")["label"].to_numpy()))
    labels, first, second = (np.asarray(rows[name]) for name in ("label", "C1", "C3"))

    def loss(c1, c3):
        dots = (c1[first].astype(float) * c3[second]).sum(1)
        return np.square(mean + dots - labels).mean()

    whole, without = loss(tables["C1"], tables["C3"]), loss(tables["C1"], 0 * tables["C3"])
    # All that a field saves is the difference between the model and the model without it, unless a
    # narrower table validates better than the whole one.
    assert sum(found["C3"]) >= max(without - whole, 0) - 1e-6
    assert sum(found["C3"]) <= without


def test_pieces_are_the_models_vectors_behind_their_projections(folder):
    sizes = uniform(4) | {"C2": [(7, 1, 0)], "C3": [(50, 8, 0), (30, 2, 220)], "C1": [(40, 2, 0)]}
    config = make_config(folder, "mixed", sizes, DIM)
    trained(config)
    model, run = model_of(config), WarmUp(config.output)
    for field, cuts in {"C1": [0, 40], "C2": [0, 7], "C3": [0, 50, 300], "C4": [0, 50]}.items():
        for (first, end), table in zip(
            pairwise(cuts),
            [t for n, t in model.tables.items() if n.split("/")[0] == field],
            strict=True,
        ):
            read = np.concatenate([part for _, part in run.pieces(field, first, end)])
            rows = table[np.arange(end - first) % len(table)]
            assert np.linalg.matrix_rank(read, tol=1e-5) <= table.shape[1]
            projection = np.linalg.lstsq(rows, read, rcond=None)[0]
            assert np.allclose(rows @ projection, read, atol=1e-4)
            if table.shape[1] == DIM:
                assert np.array_equal(rows, read)


def test_the_command_sizes_by_a_warm_up_and_records_what_it_cost(folder, tmp_path):
    output = tmp_path / "sizing.json"
    argv = ["size", str(folder / "data"), "--scheme", "spectral", "--output", str(output)]
    assert main([*argv, "--warm-up", str(folder / "warm-up"), "--blocks", "2"]) == 0
    scheme = json.loads(output.read_text())["scheme"]
    cost = run_cost(folder / "warm-up")
    assert scheme["warm_up_seconds"] == cost.seconds > 0
    assert scheme["warm_up_examples"] == 4000
    assert {"C3/0", "C3/1"} <= set(scheme["spectra"])


def test_a_run_records_the_cost_of_all_that_it_was_started_from(folder):
    config = replace(
        make_config(folder, "second", uniform(DIM), DIM), warm_start=folder / "warm-up", epochs=1
    )
    trained(config)
    record = json.loads((folder / "second" / "run.json").read_text())["warm_start"]
    assert record["examples"] == 4000
    assert run_cost(folder / "second").examples == 6000
    trained(replace(config, resume=True, epochs=2))
    assert json.loads((folder / "second" / "run.json").read_text())["warm_start"] == record


def test_a_scheme_without_a_run_says_how_to_get_one(folder):
    with pytest.raises(ValueError, match="--warm-up RUN"):
        size_dataset(folder / "data", SizingRequest(scheme=Spectral()))


def test_a_folder_that_holds_no_run_is_refused(folder):
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        size_dataset(folder / "data", SizingRequest(scheme=Spectral(warm_up=str(folder / "data"))))


def test_a_warm_up_of_other_ids_is_refused(folder, tmp_path):
    write_dataset(tmp_path, num_embeddings=(41, 7, 300, 50))
    with pytest.raises(ValueError, match=r"'C1'.*knows 40 ids, the dataset has 41"):
        size_dataset(tmp_path, SizingRequest(scheme=Spectral(warm_up=str(folder / "warm-up"))))


def test_more_directions_than_the_warm_up_knows_are_refused(folder):
    with pytest.raises(ValueError, match=r"16 wide behind its projection.*--out-dim 8"):
        start(folder, "wider", uniform(16), 16)


def test_a_run_cannot_start_from_itself(folder):
    config = make_config(folder, "warm-up", uniform(DIM), DIM)
    with pytest.raises(ValueError, match="another --output"):
        model_of(replace(config, warm_start=config.output))


def test_behind_narrower_projections_all_dots_are_kept_as_well_as_their_rank_allows(tmp_path):
    make_data(tmp_path / "data", rating=True)
    pair = {name: [(ROWS[name], DIM, 0)] for name in ("C1", "C3")}
    narrow = {name: [(ROWS[name], 4, 0)] for name in pair}
    network = MFNetwork(biases="none")
    config = make_config(tmp_path, "warm-up", pair, DIM, network=network)
    trained(config)
    before = model_of(config).tables
    config = make_config(tmp_path, "narrow", narrow, 4, network=network)
    after = model_of(replace(config, warm_start=tmp_path / "warm-up")).tables
    weights = [np.sqrt(lookups_per_id(tmp_path / "data", name)) for name in pair]
    dots = [
        weights[0][:, None] * tables["C1"].astype(float) @ tables["C3"].T * weights[1]
        for tables in (before, after)
    ]
    singular = np.linalg.svd(dots[0], compute_uv=False)
    assert np.isclose(np.square(dots[0] - dots[1]).sum(), np.square(singular[4:]).sum(), rtol=1e-3)


def test_uniform_tables_are_spared_the_projections_of_a_warm_start(folder):
    sizing = size_dataset(folder / "data", SizingRequest(scheme=Uniform(dim=4)))
    assert sizing.out_dim == 4
    assert not start(folder, "rotated", uniform(4), 4).projections


def test_a_layer_says_of_turned_vectors_what_it_said_of_them():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(6, 2)))[0]
    vectors, other = rng.normal(size=(9, 2)) @ turn.T, rng.normal(size=(9, 3))
    dense = np.ones((9, 1))
    layer = torch.from_numpy(rng.normal(size=(5, 10)))
    fitting = fitting_layers(
        {"first": layer, "bias": torch.ones(5)},
        {"first": torch.empty(5, 6), "bias": torch.empty(5)},
        {"a": 6, "b": 3},
        {"a": turn, "b": None},
    )
    assert fitting is not None
    before = np.concatenate([vectors, other, dense], axis=1) @ layer.numpy().T
    after = np.concatenate([vectors @ turn, other, dense], axis=1) @ fitting["first"].numpy().T
    assert np.allclose(before, after, atol=1e-5)
    assert torch.equal(fitting["bias"], torch.ones(5))


def test_one_layer_that_does_not_fit_starts_all_anew():
    layers = {"first": torch.ones(5, 6), "cross": torch.ones(6, 6)}
    state = {"first": torch.empty(5, 2), "cross": torch.empty(2, 2)}
    assert fitting_layers(layers, state, {"a": 6}, {"a": np.eye(6)[:, :2]}) is None


def test_a_concatenating_model_starts_near_its_warm_up(tmp_path):
    make_data(tmp_path / "data", rating=True)
    network = NCFNetwork(hidden=(16,))
    before = model_of(warm_up(tmp_path, network=network)).scores
    config = make_config(tmp_path, "narrow", uniform(4), 4, network=network)
    after = model_of(replace(config, warm_start=tmp_path / "warm-up")).scores
    assert np.square(after - before).mean() < 0.3 * before.var()
