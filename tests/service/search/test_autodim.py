"""What AutoDim makes of a choice that is learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.embeddings.packed import unpack
from models.networks import FMNetwork, WideDeepNetwork
from models.tables import Block, SizingPlan
from service.data.dataset import read_dataset_info
from service.distributed import joined_ranks
from service.search.methods import METHODS
from service.search.methods.autodim import likeliest, log_softmax
from service.search.search import Search
from service.sizing import read_sizing
from service.super_net import SuperNet
from service.train.engine import build_engine
from service.train.initialise import local_shards
from service.train.warm_start import warm_start
from service.warm_up import projection_slots
from tests.models.search.test_autodim import GOLDEN
from tests.service.search.searches import make_search, run, within
from tests.service.warm_runs import make_data


def test_hard_choices_are_the_smallest_of_the_likeliest():
    golden, widths = GOLDEN["autodim_argmax"], (2, 8, 16, 24, 32)
    found = [likeliest(dict(zip(widths, row, strict=True))) for row in golden["alpha"]]
    assert found == golden["dims"]


def test_values_are_logarithms_of_shares():
    theta = GOLDEN["autodim_gumbel"]["theta"]
    shares = np.exp(log_softmax([theta, [0.0, 800.0, 0.0, 0.0, 0.0]]))
    assert shares[0].tolist() == pytest.approx(GOLDEN["autodim_gumbel"]["alpha"])
    assert shares[1].tolist() == [0, 1, 0, 0, 0]


def test_parameters_are_counted_from_widths():
    golden = GOLDEN["autodim_EP"]
    blocks = {
        f"f{n}": (Block(num_embeddings=n, embedding_dim=d, asked_dim=d),)
        for n, d in ((100, 8), (1000, 2), (10, 32))
    }
    tables = SizingPlan(fields=blocks, out_dim=32).tables()
    assert sum(t.num_embeddings * t.embedding_dim for t in tables) == golden["EP"]


TABLES = "network.embeddings.tables.embedding_bags."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("autodim")
    make_data(path / "data")
    return path


NETWORKS = {"fm": FMNetwork(), "wide_deep": WideDeepNetwork(hidden=(8,))}


@pytest.fixture(scope="module", params=[(n, u) for n in NETWORKS for u in ("linear", "pad")])
def sliced(request, folder):
    """A search whose plan starts from slices, and that plan's model at its start."""
    name, unify = request.param
    options = {"start": "slices", "unify": unify, "epochs": 1, "lr": 0.05, "weight_steps": 2}
    config = make_search(folder, "autodim", options, retrain=False)
    config = within(config, network=NETWORKS[name], output=folder / f"{name}-{unify}", epochs=1)
    record = run(config)
    found = config.train.output / "sizing.json"
    start = replace(
        config.train,
        sizing=found,
        warm_start=config.train.output / "stages/super-net",
        warm_columns={name: tuple(range(width)) for name, (width,) in record.widths.items()},
    )
    plan = replace(read_sizing(found).plan, join=start.network.join)
    with joined_ranks("cpu") as ranks:
        info = read_dataset_info(start.data)
        model = build_engine(start, info, plan, ranks).model
        warm_start(model, start, info, plan, ranks)
        state = {
            key: torch.cat([shard for shard, _, _ in local_shards(weight)]).clone().numpy()
            for key, weight in model.state_dict().items()
            if key.endswith("weight") or "projections" in key
        }
    return plan, state, SuperNet(start.warm_start)


def test_slices_begin_as_what_the_super_net_has_seen(sliced):
    plan, state, net = sliced
    offset = 0
    for place, table in enumerate(plan.tables()):
        width = table.embedding_dim
        rows = unpack(torch.from_numpy(state[f"{TABLES}{table.name}.weight"]), table).numpy()
        wide = np.concatenate([r for _, r in net.pieces(table.name, 0, table.num_ids)])
        slices = wide[:, :width]
        seen = slices @ net.lifts[width]
        if plan.join == "project":
            assert lifted(rows, table, plan, state) == pytest.approx(seen, abs=1e-5)
        else:
            assert rows == pytest.approx(slices if width < 8 else seen, abs=1e-5)
            read = net.dense()["network.wide.weight"].numpy()[:, 8 * place : 8 * place + 8]
            own = state["network.wide.weight"][:, offset : offset + width]
            assert rows @ own.T == pytest.approx(seen @ read.T, abs=1e-4)
        offset += width


def lifted(rows, table, plan, state):
    """The vectors behind a table's projection."""
    slots = projection_slots(plan)
    if table.name not in slots:
        return rows
    index, slot = slots[table.name]
    return rows @ state[f"network.embeddings.unify.projections.{index}"][slot]


@pytest.mark.parametrize(
    ("options", "network", "message"),
    [
        ({"start": "slices", "tables": "separate"}, FMNetwork(), "tables='separate' has one"),
        ({"start": "slices"}, FMNetwork(join="pad"), "this network pads fields"),
    ],
)
def test_slices_that_cannot_be_are_refused(options, network, message, folder, tmp_path):
    config = within(make_search(folder, "autodim", options), network=network, output=tmp_path)
    with pytest.raises(ValueError, match=message):
        run(config)


@pytest.mark.parametrize(
    ("epochs", "weight_steps", "lr"),
    [(4, 2, 0.1), (100, 3, 14 / 416), (400, 10, 14 / 500), (20_000, 10, 0.001)],
)
def test_the_choice_is_paced_by_the_steps_of_its_search(epochs, weight_steps, lr, folder):
    for ranks in (1, 2):  # 2,000 examples in batches of 128, a fifth of them before the choice
        config = make_search(folder, "autodim", {"epochs": epochs})
        config = within(config, nproc=ranks, batch_size=128 // ranks)
        found = config.method._pace(Search(config, print))
        assert found == (weight_steps, pytest.approx(lr))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"lr": -1.0}, "lr=-1.0, expected a positive"), ({"weight_steps": -1}, "weight_steps=-1")],
)
def test_paces_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        METHODS["autodim"](**options)


def test_only_columns_of_shared_tables_are_taken_from_a_super_net(folder):
    config = make_search(folder, "autodim", {"tables": "separate", "epochs": 1}, retrain=False)
    config = within(config, output=folder / "separate", epochs=1)
    run(config)
    with pytest.raises(ValueError, match="has a table for every candidate"):
        SuperNet(config.train.output / "stages/super-net")
