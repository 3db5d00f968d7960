"""OptEmbed on real runs: its judge against the trained model itself, its record, its widths."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from models.networks import DeepFMNetwork, FMNetwork, WideDeepNetwork
from models.search.choices import OptEmbedChoice
from service.checkpoint import Checkpoints, best_checkpoint
from service.data.dataset import read_dataset_info
from service.data.loader import Loader
from service.distributed import joined_ranks
from service.prefix_quality import PrefixQuality
from service.sizing import read_sizing
from service.train.engine import build_engine
from service.warm_up import WarmUp
from tests.service.search.searches import make_search, run, within
from tests.service.warm_runs import make_config, make_data, trained, uniform

DIM = 8
WIDTHS = {"C1": 8, "C2": 1, "C3": 4, "C4": 2}
NETWORKS = {
    "fm": FMNetwork(),
    "deepfm": DeepFMNetwork(hidden=(8,)),
    "wide_deep": WideDeepNetwork(hidden=(8,)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("optembed")
    make_data(path / "data")
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_a_choice_is_judged_as_the_model_with_columns_of_zeros(name, folder):
    config = make_config(folder, name, uniform(DIM), DIM, network=NETWORKS[name])
    config = replace(config, embeddings=OptEmbedChoice(candidates=(1, 2, 4, 8)), epochs=1)
    trained(config)
    quality = PrefixQuality(WarmUp(config.output), config.data, "validation", 1000)
    assert quality.num_examples == 300
    assert quality(WIDTHS) == pytest.approx(auc_with_zeros(config, WIDTHS), abs=1e-6)
    assert quality(WIDTHS) != quality(dict.fromkeys(WIDTHS, DIM))


def auc_with_zeros(config, widths):
    """The AUC of the trained model whose tables have lost their last columns."""
    with joined_ranks("cpu") as ranks:
        info = read_dataset_info(config.data)
        plan = replace(read_sizing(config.sizing).plan, join=config.network.join)
        model = build_engine(config, info, plan, ranks).model
        Checkpoints(config.output, ranks).load(
            model, None, best_checkpoint(config.output / "checkpoints")
        )
        with torch.no_grad():
            for name, weight in model.state_dict().items():
                if ".embedding_bags." in name:
                    field = name.split(".embedding_bags.")[1].removesuffix(".weight")
                    weight.local_shards()[0].tensor[:, widths[field] :] = 0
            loader = Loader(config.data, info, "validation", plan, batch_size=300)
            batch = next(iter(loader.batches()))
            _, (_, predictions, labels) = model.eval()(batch)
        return float(binary_auroc(predictions, labels.long()))


def test_the_best_choice_of_the_last_generation_is_trained(folder, tmp_path):
    options = {"candidates": (1, 2, 4, 8), "rounds": 3, "mutations": 2, "crossovers": 2}
    config = within(make_search(folder, "optembed", options), output=tmp_path / "found")
    record = run(within(replace(config, budget="3x"), epochs=1))
    assert [stage["name"] for stage in record.stages] == ["super-net", "evolution", "retrain"]
    assert {name: [width] for name, width in record.notes["widths"].items()} == record.widths
    assert record.notes["score"] == max(record.notes["best_scores"])
    quality = PrefixQuality(
        WarmUp(config.train.output / "stages" / "super-net"), folder / "data", "validation", 1000
    )
    assert quality(record.notes["widths"]) == record.notes["score"]
    seen = record.notes["num_scored"] * 300
    assert record.stages[1]["examples"] == seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": (16,)}, "all wider than --dim 8; give --dim 16"),
        ({"candidates": (3,)}, "candidates=3, expected 1, 2 or a multiple of 4"),
        ({"mutations": 0, "crossovers": 0}, "expected some children"),
        ({"mutation_ratio": 0.0}, r"mutation_ratio=0.0, expected in \(0, 1\]"),
        ({"parents": 0}, "parents=0, expected at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, folder, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(within(make_search(folder, "optembed", options), output=tmp_path / "found"))
