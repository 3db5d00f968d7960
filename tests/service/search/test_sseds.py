"""SSEDS on a trained run: its gradient against autograd in float64, its slim model before training.

The slim model is compared with the trained one whose tables have columns of zeros.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from models.embeddings.vectors import FieldVectors
from models.networks import DeepFMNetwork, DLRMNetwork, FMNetwork, Network, WideDeepNetwork
from models.tables import PlanError
from service.checkpoint import Checkpoints, best_checkpoint
from service.config import TrainConfig
from service.data.dataset import read_dataset_info
from service.data.loader import Loader
from service.distributed import joined_ranks, launch
from service.saliency import mask_gradients
from service.sizing import read_sizing
from service.train.engine import build_engine, build_task
from service.train.initialise import local_shards, table_name
from service.warm_up import WarmUp
from tests.service.search.searches import make_search, run, within
from tests.service.warm_runs import (
    ROWS,
    make_config,
    make_data,
    scores_of,
    started,
    trained,
    uniform,
)

DIM = 8
NETWORKS: dict[str, Network] = {
    "fm": FMNetwork(),
    "deepfm": DeepFMNetwork(hidden=(8,)),
    "wide_deep": WideDeepNetwork(hidden=(8,)),
    "dlrm": DLRMNetwork(bottom=(8,), top=(8,)),
}
COLUMNS: dict[str, tuple[int, ...]] = {
    "C1": (1, 2, 5, 7),
    "C2": tuple(range(8)),
    "C3": (3,),
    "C4": (0, 6),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and a finished run of every network on it."""
    path = tmp_path_factory.mktemp("sseds")
    make_data(path / "data")
    for name, network in NETWORKS.items():
        config = make_config(path, name, uniform(DIM), DIM, network=network)
        trained(replace(config, epochs=1))
    return path


def masked(config: TrainConfig, kept: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    """Scores of a finished run with zeros in all other columns of its tables."""
    with joined_ranks("cpu") as ranks:
        info = read_dataset_info(config.data)
        plan = replace(read_sizing(config.sizing).plan, join=config.network.join)
        engine = build_engine(config, info, plan, ranks)
        checkpoint = best_checkpoint(config.output / "checkpoints")
        assert checkpoint is not None
        Checkpoints(config.output, ranks).load(engine.model, None, checkpoint)
        for key, weight in engine.model.state_dict().items():
            if ".embedding_bags." in key:
                name = table_name(key)
                gone = [column for column in range(DIM) if column not in kept.get(name, ())]
                for shard, _, _ in local_shards(weight):
                    shard.data[:, gone] = 0
        return scores_of(engine, config, info, plan, ranks)


def slim(folder: Path, name: str, columns: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    sizes = {field: [(ROWS[field], len(kept), 0)] for field, kept in columns.items()}
    config = make_config(folder, f"slim-{name}", sizes, DIM, network=NETWORKS[name])
    config = replace(config, warm_start=folder / name, warm_columns=columns)
    return launch(started, config, nproc=1, name="slim").scores


@pytest.mark.parametrize("name", NETWORKS)
def test_the_slim_model_says_what_the_masked_one_says_before_it_is_retrained(name, folder):
    config = make_config(folder, name, uniform(DIM), DIM, network=NETWORKS[name])
    expected = launch(masked, config, COLUMNS, nproc=1, name="masked")
    assert np.abs(slim(folder, name, COLUMNS) - expected).max() < 1e-6
    whole = launch(masked, config, dict.fromkeys(ROWS, range(DIM)), nproc=1, name="masked")
    assert np.abs(whole - expected).max() > 1e-3, "the mask takes something away"


@pytest.mark.parametrize("name", ["fm", "deepfm", "wide_deep"])
def test_a_field_that_is_dropped_is_one_that_is_masked(name, folder):
    columns = {field: kept for field, kept in COLUMNS.items() if field != "C2"}
    config = make_config(folder, name, uniform(DIM), DIM, network=NETWORKS[name])
    expected = launch(masked, config, columns, nproc=1, name="masked")
    assert np.abs(slim(folder, name, columns) - expected).max() < 1e-6


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_of_the_mask_is_autograds_in_float64(name, split, folder):
    warm_up = WarmUp(folder / name)
    found, num_examples = mask_gradients(warm_up, folder / "data", split, 1 << 20)
    expected = by_autograd(warm_up, folder / "data", split)
    assert num_examples == {"train": 2000, "validation": 300}[split]
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for field, gradient in expected.items():
        assert np.allclose(found[field], gradient, atol=1e-6 * largest, rtol=1e-4)


def by_autograd(warm_up: WarmUp, data: Path, split: str) -> dict[str, np.ndarray]:
    """The model in float64 with a mask that multiplies whole tables, example by example."""
    info = read_dataset_info(data)
    task = build_task(
        warm_up.config, info, warm_up.plan, device=torch.device("cpu"), tables_on="meta"
    )
    task.network.load_state_dict(
        {k.removeprefix("network."): v for k, v in warm_up.dense().items()}, strict=False
    )
    network = task.network.eval()
    for part in network.children():
        if part is not network.embeddings:
            part.double()
    for parameter in network.parameters(recurse=False):
        parameter.data = parameter.data.double()
    masks = {f: torch.ones(DIM, dtype=torch.float64, requires_grad=True) for f in ROWS}
    tables = {
        f: torch.from_numpy(np.concatenate([v for _, v in warm_up.pieces(f, 0, n)])).double()
        for f, n in ROWS.items()
    }
    (batch,) = Loader(data, info, split, warm_up.plan, batch_size=5000, seed=None).batches()
    fields = []
    for f in ROWS:
        column = batch.features[f]
        bags = torch.split(column.values(), column.lengths().tolist())
        masked_table = tables[f] * masks[f]
        empty = torch.zeros(DIM, dtype=torch.float64)
        fields.append(
            torch.stack([masked_table[bag].mean(0) if len(bag) else empty for bag in bags])
        )
    scores = network.score(batch.dense.double(), FieldVectors(torch.cat(fields, dim=1)))
    loss = binary_cross_entropy_with_logits(scores + task.constant.double(), batch.labels.double())
    gradients = torch.autograd.grad(loss, list(masks.values()))
    return {f: gradient.numpy() for f, gradient in zip(masks, gradients, strict=True)}


@pytest.fixture(scope="module")
def published(folder):
    """The paper's own rule, and what is left of it by kernels."""
    config = make_search(folder, "sseds", {"pairs": 0.3})
    return config, run(within(config, output=folder / "published"))


def test_without_a_budget_the_paper_s_number_of_pairs_stays(published, folder):
    _, record = published
    sizing = json.loads((folder / "published" / "sizing.json").read_text())
    asked = {name: blocks[0]["asked_dim"] for name, blocks in sizing["fields"].items()}
    assert sum(asked.values()) == round(0.3 * len(ROWS) * DIM)
    gradient = np.abs(np.stack([record.notes["gradient"][name] for name in ROWS]))
    threshold = np.sort(gradient.ravel())[-round(0.3 * len(ROWS) * DIM)]
    expected = {f: int((g >= threshold).sum()) for f, g in zip(ROWS, gradient, strict=True)}
    assert asked == {name: dim for name, dim in expected.items() if dim}


def test_the_search_costs_no_more_than_a_tenth_above_its_base(published):
    _, record = published
    base, saliency, _ = record.stages
    assert (base["name"], saliency["name"]) == ("base", "saliency")
    assert 0 < saliency["examples"] <= 0.1 * base["examples"]
    assert record.cost["examples"] <= 1.1 * base["examples"]


def test_the_base_stops_at_the_first_validation_that_is_no_better(published, folder):
    config, _ = published
    stages = folder / "published" / "stages"
    used = {
        stage: json.loads((stages / stage / "run.json").read_text())["config"]["patience"]
        for stage in ("base", "retrain")
    }
    assert used == {"base": 1, "retrain": config.train.patience}


def test_the_columns_that_stay_are_the_most_salient(published):
    _, record = published
    for name, columns in record.notes["columns"].items():
        size = np.abs(record.notes["gradient"][name])
        gone = np.delete(size, list(columns))
        assert len(columns) == record.widths[name][0]
        assert not gone.size or size[columns].min() >= gone.max()


@pytest.mark.parametrize(
    "options",
    [
        {"signed": True, "spend": "saliency", "start": "fresh"},
        {"group": 4, "spend": "saliency_per_byte"},
        {"split": "validation", "examples": 100},
    ],
)
def test_every_way_to_spend_stays_within_the_budget(options, folder, tmp_path):
    config = make_search(folder, "sseds", options, budget="2x")
    record = run(within(config, output=tmp_path / "found", epochs=1, max_steps=5))
    assert record.figures["training_bytes"] <= record.budget_bytes
    if options.get("group") == 4:
        assert {widths[0] % 4 for widths in record.widths.values()} == {0}


def test_a_budget_below_one_column_each_is_told_what_would_do(folder, tmp_path):
    config = make_search(folder, "sseds", budget="64", retrain=False)
    with pytest.raises(PlanError, match="give --budget"):
        run(within(config, output=tmp_path / "found", epochs=1, max_steps=5))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({**COLUMNS, "C1": (1, 2, 7, 5)}, "rising and below 8"),
        ({**COLUMNS, "C1": (1, 2, 5, 8)}, "rising and below 8"),
        ({"C1": (1, 2, 5, 7)}, "name those of the plan"),
    ],
)
def test_columns_that_are_not_there_are_refused(columns, message, folder):
    sizes = {field: [(ROWS[field], len(kept), 0)] for field, kept in COLUMNS.items()}
    config = make_config(folder, "wrong", sizes, DIM)
    config = replace(config, warm_start=folder / "fm", warm_columns=columns)
    with pytest.raises(ValueError, match=message):
        launch(started, config, nproc=1, name="wrong")


def test_columns_of_no_run_are_refused():
    with pytest.raises(ValueError, match="--warm-columns of no run; give --warm-start"):
        TrainConfig(warm_columns=COLUMNS)
