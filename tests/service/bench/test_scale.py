"""Prices of Criteo-Terabyte-sized tables: pure arithmetic on placements."""

import pytest

from service.bench import scale
from service.bench.options import ScaleConfig

GPU = "a100x8"


def figures(found: scale.Report, ranks: int, plan: str) -> dict[str, float]:
    name = f"{ranks:,} rank{'s' * (ranks > 1)}/{plan}"
    (run,) = [run for run in found.runs if run.contender == name]
    return dict(run.figures)


def test_a_plan_that_fits_nowhere_is_left_out_and_mixed_widths_fit_on_fewer_ranks() -> None:
    found = scale.run(ScaleConfig(cluster=GPU, ranks=(1, 8)))
    names = {run.contender for run in found.runs}
    assert names == {"1 rank/popularity-0.3", "8 ranks/uniform-128", "8 ranks/popularity-0.3"}
    uniform = figures(found, 8, "uniform-128")
    assert uniform["rank_bytes"] * 8 >= 187_767_399 * (128 + 1) * 4
    mixed = figures(found, 8, "popularity-0.3")
    assert mixed["rank_bytes"] < uniform["rank_bytes"] / 10
    assert mixed["exchange_ms"] < uniform["exchange_ms"]
    assert mixed["lookup_ms"] < uniform["lookup_ms"]


def test_the_parts_of_a_step_add_up() -> None:
    found = figures(scale.run(ScaleConfig(cluster=GPU, ranks=(16,))), 16, "uniform-128")
    parts = found["lookup_ms"] + found["exchange_ms"] + found["layers_ms"]
    assert found["step_ms"] == pytest.approx(parts)
    assert found["examples_per_second"] == pytest.approx(16 * 4096 / found["step_ms"] * 1e3)


def test_one_rank_exchanges_nothing_and_its_layers_take_their_products() -> None:
    config = ScaleConfig(cluster=GPU, ranks=(1,), flops_per_second=1e12)
    found = figures(scale.run(config), 1, "popularity-0.3")
    assert found["exchange_ms"] == found["rank_sent_bytes"] == 0
    # Six operations a weight and example; the projections of narrow tables are weights, too.
    least = 6 * scale.LAYER_WEIGHTS * 4096 / 1e12 * 1e3
    assert least < found["layers_ms"] < 1.05 * least


def test_a_shared_batch_makes_smaller_steps() -> None:
    weak, strong = (
        figures(scale.run(ScaleConfig(cluster=GPU, ranks=(8,), strong=s)), 8, "popularity-0.3")
        for s in (False, True)
    )
    assert strong["rank_sent_bytes"] * 8 == weak["rank_sent_bytes"]
    assert strong["step_ms"] < weak["step_ms"]


def test_a_picture_is_drawn(tmp_path) -> None:
    path = tmp_path / "new" / "scale.png"
    scale.run(ScaleConfig(cluster=GPU, ranks=(8, 16), plot=path))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_ranks_without_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="expected ranks of at least 1, and an example for each"):
        ScaleConfig(ranks=(8,), batch_size=4)
