"""A run on other tables: its vectors and predictions before and after, one id at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.networks import NETWORKS, PAIRWISE, FMNetwork, MFNetwork
from service.config import TrainConfig
from service.data.lookups import lookups_per_id
from service.distributed import launch
from service.resize.report import report
from service.resize.resume import read_resize
from service.warm_up import PROJECTIONS, TABLES, projection_slots
from sharding.constraints import ShardingConfig
from tests.service.resize.stored_runs import (
    alone,
    everything,
    plan_of,
    resize,
    run_of,
    same,
    scores,
    store,
    store_and_resize,
    vectors,
)
from tests.service.warm_runs import ROWS, Sizes, make_data, uniform

MIXED: Sizes = {
    "C1": [(10, 8, 0), (30, 4, 0)],
    "C2": [(7, 2, 0)],
    "C3": [(100, 4, 0), (50, 1, 150)],
    "C4": [(50, 8, 0)],
}
WIDER: Sizes = {
    "C1": [(5, 16, 0), (35, 16, 0)],
    "C2": [(7, 4, 0)],
    "C3": [(100, 8, 0), (50, 2, 150)],
    "C4": [(20, 12, 0), (30, 8, 0)],
}
SMALL = {"bottom": (6,), "top": (6,), "hidden": (6,), "cross_rank": 3, "num_hidden": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset."""
    path = tmp_path_factory.mktemp("resize")
    make_data(path / "data")
    return path


def run(folder: Path, name: str, sizes: Sizes, out_dim: int, **changes: object) -> TrainConfig:
    """A stored run."""
    config = run_of(folder, name, sizes, out_dim, **changes)
    alone(store, config)
    return config


def onto(old: TrainConfig, name: str, sizes: Sizes, out_dim: int) -> TrainConfig:
    """The configuration of the run on other tables."""
    new = run_of(old.output.parent, name, sizes, out_dim, network=old.network)
    return replace(new, optimizer=old.optimizer, resume_from=old.output)


def small(kind: str) -> object:
    network = NETWORKS[kind]()
    sizes = {name: size for name, size in SMALL.items() if hasattr(network, name)}
    return replace(network, **sizes)


@pytest.mark.parametrize("kind", NETWORKS)
def test_wider_tables_say_what_they_said_and_learn_in_every_column(kind, folder):
    names = ("C1", "C3") if kind in PAIRWISE else tuple(ROWS)
    before, after = ({name: sizes[name] for name in names} for sizes in (MIXED, WIDER))
    old = run(folder, f"old-{kind}", before, 8, network=small(kind))
    new = onto(old, f"new-{kind}", after, 16)
    alone(resize, new)
    assert report(read_resize(replace(new, output=folder / "dry"))).is_exact
    said = alone(scores, old)
    assert np.std(said) > 0.01
    assert alone(scores, new) == pytest.approx(said, abs=1e-6)
    alone(scores, new, steps=3)
    moved = everything(new)[f"{TABLES}C1/0.weight"]
    assert (np.abs(moved).max(axis=0) > 1e-4).all()


@pytest.mark.parametrize("join", ["project", "pad"])
def test_blocks_packing_and_shared_rows_of_the_same_widths_keep_every_vector(join, folder):
    old = run(folder, f"fm-{join}", MIXED, 8, network=FMNetwork(join=join))
    new = onto(old, f"recut-{join}", uniform(8), 8)
    alone(resize, new)
    assert same(vectors(old), vectors(new))
    back = onto(new, f"back-{join}", {**MIXED, **{"C1": [(13, 8, 0), (27, 8, 0)]}}, 8)
    found = report(read_resize(back))
    turned = ", vectors rotated" if join == "pad" else ""  # C2 is cut
    assert [line.what for line in found.tables][:2] == [f"ids cut elsewhere{turned}"] * 2
    assert not found.is_exact


def test_narrow_tables_are_the_truncated_svd_and_their_loss_is_the_energy_that_is_named(folder):
    old = run(folder, "svd-old", uniform(8), 8)
    new = onto(old, "svd-new", {**uniform(4), "C4": [(10, 8, 0), (40, 2, 0)]}, 8)
    alone(resize, new)
    changes = {change.table.name: change for change in read_resize(again(new)).tables}
    whole, cut = vectors(old), vectors(new)
    for name, first, end, width in [("C1", 0, 40, 4), ("C3", 0, 300, 4), ("C4/1", 10, 50, 2)]:
        field = name[:2]
        weights = np.sqrt(np.maximum(lookups_per_id(folder / "data", field)[first:end], 1e-9))
        left, values, right = np.linalg.svd(weights[:, None] * whole[field][first:end])
        values[width:] = 0
        best = (left[:, :8] * values) @ right / weights[:, None]
        read = lookups_per_id(folder / "data", field)[first:end] > 0
        np.testing.assert_allclose(cut[field][first:end][read], best[read], atol=1e-5)
        energy = np.square(weights[:, None] * whole[field][first:end]).sum()
        lost = np.square(weights[:, None] * (cut[field] - whole[field])[first:end]).sum()
        assert changes[name].lost_ratio == pytest.approx(lost / energy, rel=1e-4)
        assert lost > 0


def again(config: TrainConfig) -> TrainConfig:
    return replace(config, output=config.output.with_name("unwritten"))


def test_a_padded_factorization_keeps_its_dots_best_and_its_biases(folder):
    pair = {name: [(ROWS[name], 16, 0)] for name in ("C1", "C3")}
    old = run(folder, "mf-old", pair, 16, network=MFNetwork())
    narrow = {"C1": [(10, 16, 0), (30, 8, 0)], "C3": [(300, 16, 0)]}
    new = onto(old, "mf-new", narrow, 16)
    alone(resize, new)
    before, after = vectors(old), vectors(new)
    np.testing.assert_allclose(after["C1"][:, 0], before["C1"][:, 0], atol=1e-6)
    dots = {key: v["C1"][:, 1:] @ v["C3"][:, 1:].T for key, v in (("b", before), ("a", after))}
    np.testing.assert_allclose(dots["a"][:10], dots["b"][:10], atol=1e-5)
    plain = before["C1"][10:, 1:8] @ before["C3"][:, 1:8].T
    error = np.square(dots["a"] - dots["b"])[10:].mean()
    assert 0 < error < 0.9 * np.square(plain - dots["b"][10:]).mean()


def test_fields_may_come_go_and_change_their_order(folder):
    old = run(
        folder, "fields-old", {"C1": [(40, 8, 0)], "C3": [(300, 4, 0)]}, 8, network=small("dlrm")
    )
    more = onto(
        old,
        "fields-more",
        {"C4": [(50, 4, 0)], "C3": [(300, 4, 0)], "C2": [(7, 8, 0)], "C1": [(40, 8, 0)]},
        8,
    )
    alone(resize, more)
    assert report(read_resize(again(more))).is_exact
    assert alone(scores, more) == pytest.approx(alone(scores, old), abs=1e-6)
    less = onto(more, "fields-less", {"C3": [(300, 4, 0)], "C1": [(40, 8, 0)]}, 8)
    alone(resize, less)
    # What came has said nothing so far.
    assert alone(scores, less) == pytest.approx(alone(scores, old), abs=1e-6)
    lines = {line.table: line.what for line in report(read_resize(again(less))).tables}
    assert lines["C4"] == lines["C2"] == "field removed"


@pytest.mark.parametrize(
    ("optimizer", "states"),
    [("adagrad", ["sum"]), ("amsgrad", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])],
)
def test_optimizer_state_is_that_of_the_gradients_in_the_new_coordinates(optimizer, states, folder):
    old = run(folder, f"state-{optimizer}", uniform(8), 8, optimizer=optimizer)
    sizes: Sizes = {"C1": [(40, 8, 0)], "C2": [(3, 8, 0), (4, 8, 0)], "C3": [(300, 4, 0)]}
    new = onto(old, f"state-{optimizer}-new", sizes, 8)
    alone(resize, new)
    before, after = everything(old), everything(new)
    key = TABLES.replace("model.", "optimizer.state.", 1)
    index, slot = projection_slots(plan_of(new))["C3"]
    up = after[f"{PROJECTIONS}{index}"][slot].astype(np.float64)  # (4, 8)
    for name in states:
        old_c3 = before[f"{key}C3.weight.{name}"]
        # Gradients that each have one coordinate: their squares do not meet, so this is exact.
        through = up if name == "exp_avg" else up**2
        np.testing.assert_allclose(after[f"{key}C3.weight.{name}"], old_c3 @ through.T, atol=1e-5)
        cut = [after[f"{key}C2/{part}.weight.{name}"] for part in (0, 1)]
        np.testing.assert_array_equal(np.concatenate(cut), before[f"{key}C2.weight.{name}"])
        np.testing.assert_array_equal(
            after[f"{key}C1.weight.{name}"], before[f"{key}C1.weight.{name}"]
        )


def test_sums_of_rows_that_share_one_are_kept(folder):
    old = run(folder, "sums", MIXED, 8, optimizer="rowwise_adagrad")
    sizes: Sizes = {**MIXED, "C1": [(40, 2, 0)], "C2": [(7, 8, 0)], "C3": [(300, 8, 0)]}
    new = onto(old, "sums-new", sizes, 8)
    alone(resize, new)
    before, after = everything(old), everything(new)
    key = TABLES.replace("model.", "optimizer.state.", 1) + "{}.weight.sum"
    c1 = np.concatenate([before[key.format(f"C1/{part}")] for part in (0, 1)])
    np.testing.assert_allclose(after[key.format("C1")], c1.reshape(20, 2, 1).mean(1), rtol=1e-6)
    c2, packed = after[key.format("C2")], before[key.format("C2")]
    np.testing.assert_allclose(c2[:6].ravel(), np.repeat(packed[:3].ravel(), 2), rtol=1e-6)
    np.testing.assert_allclose(c2[6] / 2, packed[3], rtol=1e-6)  # half of its columns are idle
    shared, apart = before[key.format("C3/1")], after[key.format("C3")][100:]
    # 13 stored rows of 4, of which the last has 2: a mean over idle columns, too.
    np.testing.assert_allclose(apart.sum(), 4 * shared.sum(), rtol=1e-5)


@pytest.mark.dist
def test_ranks_share_the_work_and_write_the_same(folder):
    by_rows = ShardingConfig(types=("row_wise",))
    cut = replace(by_rows, tables={"C4": "column_wise", "C2": "data_parallel"})
    old = run_of(folder, "two-old", MIXED, 8, sharding=cut, optimizer="rowwise_adagrad")
    new = replace(onto(old, "two-new", uniform(4), 8), sharding=by_rows)
    launch(store_and_resize, old, new, nproc=2, name="two")
    single = replace(new, output=folder / "one-new", sharding=ShardingConfig())
    alone(resize, single)
    one, two = everything(single), everything(new)
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert np.isfinite(alone(scores, single)).all()
