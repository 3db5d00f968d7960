"""What is exported says what the trained model says, in exactly the bytes that were counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.embeddings.coded import Tier
from service.checkpoint import StoredTensors, best_checkpoint
from service.coded_tables import CodedTables, pack_codes
from service.data.dataset import read_dataset_info
from service.data.loader import Loader
from service.export_codes import export_codes
from service.run_folder import RunFolder
from service.sizing import read_sizing
from service.train.engine import build_task
from tests.service.search.searches import make_search, run, within
from tests.service.warm_runs import make_data

OPTIONS = {
    "vq": ("dpq", {"codes": 8, "groups": 2}),
    "sx": ("dpq", {"codes": 8, "groups": 4, "variant": "sx", "shares_groups": True}),
    "mgqe": ("mgqe", {"codes": 16, "tail_codes": 8, "groups": 4, "head_ratio": 0.3}),
}


@pytest.fixture(scope="module", params=OPTIONS)
def done(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    make_data(folder / "data")
    config = make_search(folder, *OPTIONS[request.param])
    return config, run(within(config, max_steps=12, validate_every=6))


def trained_model(folder: Path):
    """The run's model, whole, and the batches of its test split."""
    config = RunFolder(folder).read_config()
    info = read_dataset_info(config.data)
    plan = replace(read_sizing(folder / "sizing.json").plan, join=config.network.join)
    task = build_task(config, info, plan, device=torch.device("cpu"))
    stored = StoredTensors(best_checkpoint(folder / "checkpoints"))
    task.load_state_dict(
        {name: torch.from_numpy(stored.read(f"model.{name}")) for name in task.state_dict()}
    )
    loader = Loader(config.data, info, "test", config.embeddings.layout(plan), batch_size=100)
    return task.eval(), list(loader.batches())


def test_exported_vectors_are_the_models_in_evaluation(done):
    config, record = done
    model, batches = trained_model(config.train.output / "stages" / "retrain")
    tables = CodedTables(config.train.output / "codes")
    for batch in batches:
        expected = model.network.embeddings(batch.features).side_by_side.detach().numpy()
        for number, name in enumerate(("C1", "C2", "C3")):
            ids = batch.features[name].values().numpy()
            vectors = tables.vectors(name, ids)
            assert np.array_equal(vectors, expected[:, 8 * number : 8 * (number + 1)])
    coded = [field.name for field in tables.index.fields if field.tiers]
    assert coded == record.notes["coded"]
    assert {"C1", "C3"} <= set(coded) <= {"C1", "C2", "C3"}


def test_bytes_on_disk_are_those_that_were_counted(done):
    config, record = done
    folder = config.train.output / "codes"
    on_disk = sum((folder / name).stat().st_size for name in ("codes.bin", "values.bin"))
    assert on_disk == record.figures["serving_bytes"] == CodedTables(folder).num_bytes


def test_exported_codes_are_in_range_and_used(done):
    config, _ = done
    tables = CodedTables(config.train.output / "codes")
    field = next(f for f in tables.index.fields if f.name == "C3")
    codes = tables.codes("C3", np.arange(300))
    first = 0
    for tier in field.tiers:
        own = codes[first : first + tier.num_ids]
        assert own.max() < tier.num_codes
        assert len(np.unique(own)) > 1
        first += tier.num_ids


def test_files_of_another_length_are_refused(done, tmp_path):
    config, _ = done
    assert export_codes(config.train.output / "stages" / "retrain", tmp_path / "codes")
    with (tmp_path / "codes" / "codes.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"codes\.bin has .* expected .*; export again"):
        CodedTables(tmp_path / "codes")


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_codes_have_no_gaps(bits):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, 1001).astype(np.uint8)
    packed = pack_codes(codes, bits)
    assert len(packed) == Tier(num_ids=1001, num_codes=1 << bits).num_bytes(1)
    number = int.from_bytes(packed.tobytes(), "little")
    assert [(number >> (bits * i)) & ((1 << bits) - 1) for i in range(1001)] == codes.tolist()


def test_a_run_without_codes_is_refused(tmp_path):
    make_data(tmp_path / "data")
    config = within(make_search(tmp_path, "hash"), max_steps=1, validate_every=1)
    run(config)
    with pytest.raises(ValueError, match="kind 'mixed', which has no codes"):
        export_codes(config.train.output / "stages" / "retrain", tmp_path / "codes")
