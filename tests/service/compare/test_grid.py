"""Which runs a comparison asks for, what they cost, and what makes two of them the same."""

from dataclasses import replace

import pytest

from models.sizing import uniform_bytes
from models.tables import PlanError
from service.compare.figures import figures_of, widths_of
from service.compare.grid import expand, write_plans
from service.compare.spec import CompareSpec
from service.data.dataset import read_dataset_info
from service.sizing import read_sizing, write_sizing
from tests.service.compare.specs import small_spec, write_data


def digests(spec: CompareSpec) -> dict[str, str]:
    return {run.name: run.digest for run in expand(spec).runs}


def test_runs_are_recipes_times_sizings_times_budgets_times_seeds(tmp_path):
    spec = small_spec(tmp_path, sizings='[sizings.own]\nbudgets = ["4x", "1MiB"]\n')
    found = digests(replace(spec, seeds=(0, 1, 5)))
    assert len(found) == len(set(found.values())) == 3 * (1 + 1 + 2)
    assert "mf own 1MiB seed 5" in found


def test_a_budget_may_be_the_bytes_of_a_uniform_width(tmp_path):
    spec = small_spec(tmp_path)
    fields = [s for s in read_dataset_info(spec.data).field_stats if s.name in spec.fields]
    budget = uniform_bytes(fields, 8, "adagrad")
    plans = {run.sizing: (run.plan, run.config) for run in expand(spec).runs}
    assert figures_of(*plans["uniform"])["training_bytes"] == budget == 340 * 8 * 2 * 4
    assert widths_of(plans["uniform"][0]) == {"C1": [8], "C3": [8]}
    assert budget * 0.8 < figures_of(*plans["popularity"])["training_bytes"] <= budget


def test_a_uniform_width_of_nothing_is_no_budget(tmp_path):
    with pytest.raises(ValueError, match="budget 'uniform:0' is not a number of bytes"):
        expand(replace(small_spec(tmp_path), budgets=("uniform:0",)))


def test_what_decides_a_result_decides_the_hash_and_nothing_else(tmp_path):
    spec = small_spec(tmp_path)
    before = digests(spec)
    quiet = small_spec(tmp_path, recipe="log_every = 7\nmetrics_host = 'elsewhere'\n")
    assert digests(replace(quiet, output=tmp_path / "there", threads=2, parallel=1)) == before
    faster = digests(small_spec(tmp_path, recipe="optimizer.sparse_lr = 0.3\n"))
    assert not set(faster.values()) & set(before.values())
    wider = digests(replace(spec, budgets=("uniform:16",)))
    assert not set(wider.values()) & set(before.values())


def test_a_plan_written_by_hand_is_taken_as_it_is(tmp_path):
    spec = small_spec(tmp_path)
    plan = next(run.plan for run in expand(spec).runs if run.sizing == "popularity")
    write_sizing(plan, tmp_path / "hand.json")
    file = f'[sizings.hand]\nfile = "{tmp_path}/hand.json"\n'
    grid = expand(small_spec(tmp_path, sizings=file))
    by_hand = [run for run in grid.runs if run.sizing == "hand"]
    assert [run.budget for run in by_hand] == ["", ""]
    assert by_hand[0].plan.fields == plan.fields
    # The same plan under another name is the same run, and is trained once.
    assert len({run.digest for run in grid.runs}) == len(grid.runs) - 2
    assert read_sizing(tmp_path / "hand.json") == by_hand[0].plan


WARM = """
[warm_ups.wide]
dim = 16
train = {epochs = 1}
[sizings.warm]
train = {warm_start = "@wide"}
"""


def test_a_warm_up_runs_once_for_every_recipe_and_seed(tmp_path):
    spec = small_spec(tmp_path, sizings=WARM + '[sizings.warmer]\ntrain = {warm_start="@wide"}\n')
    grid = expand(replace(spec, budgets=("uniform:4", "uniform:8")))
    assert [run.name for run in grid.warm_ups.values()] == ["mf @wide seed 0", "mf @wide seed 1"]
    warm = [run for run in grid.runs if run.sizing.startswith("warm")]
    assert len(warm) == 2 * 2 * 2
    for run in warm:
        (first,) = (grid.warm_ups[digest] for digest in run.needs)
        assert run.config.warm_start == first.config.output
        assert first.config.seed == run.config.seed
        assert widths_of(first.plan) == {"C1": [16], "C3": [16]}
    assert {run.needs for run in grid.runs if run.sizing == "uniform"} == {()}


def test_where_a_warm_up_lies_does_not_matter_but_what_it_is_does(tmp_path):
    spec = small_spec(tmp_path, sizings=WARM)
    before = digests(spec)
    assert digests(replace(spec, output=tmp_path / "there")) == before
    longer = digests(small_spec(tmp_path, sizings=WARM.replace("epochs = 1", "epochs = 3")))
    changed = {name for name, digest in longer.items() if before[name] != digest}
    assert changed == {"mf warm uniform:8 seed 0", "mf warm uniform:8 seed 1"}


def test_a_budget_that_nothing_fits_leaves_the_others_standing(tmp_path):
    grid = expand(replace(small_spec(tmp_path), budgets=("uniform:8", "100")))
    assert set(grid.infeasible) == {"mf uniform 100", "mf popularity 100"}
    assert {run.budget for run in grid.runs} == {"uniform:8"}


def test_a_budget_that_no_warm_up_fits_is_refused_by_its_name(tmp_path):
    tiny = '[warm_ups.tiny]\nbudgets = ["100"]\n[sizings.s]\ntrain = {warm_start = "@tiny"}\n'
    with pytest.raises(PlanError, match="warm-up mf @tiny: budget of 100 bytes is too small"):
        expand(small_spec(tmp_path, sizings=tiny))


def test_what_is_asked_for_twice_is_one_run(tmp_path):
    twice = replace(small_spec(tmp_path), budgets=("uniform:8", "uniform:8"), seeds=(0, 0, 1))
    assert len(expand(twice).runs) == 2 * 2


ALIKE = """
[warm_ups.uniform]
dim = 32
[sizings."uniform 8"]
dim = 8
[sizings."uniform-8"]
dim = 16
[sizings."größe"]
dim = 4
"""


def test_sizings_that_read_alike_and_warm_ups_train_their_own_plans(tmp_path):
    warm = '[sizings.warm]\ntrain = {warm_start = "@uniform"}\n'
    grid = expand(replace(small_spec(tmp_path, sizings=ALIKE + warm), budgets=(), seeds=(0,)))
    write_plans(grid)
    for run in (*grid.runs, *grid.warm_ups.values()):
        assert read_sizing(run.config.sizing).fields == run.plan.fields, run.name


def test_a_budget_for_serving_is_the_bytes_that_a_uniform_width_is_served_with(tmp_path):
    spec = small_spec(tmp_path, sizings='[sizings.served]\nbudget_for = "serving"\n')
    plan = next(run.plan for run in expand(spec).runs if run.sizing == "served")
    assert plan.budget_bytes == 340 * 8 * 4 == plan.totals["serving_bytes"]


def test_no_plan_at_all_is_an_error_of_planning(tmp_path):
    with pytest.raises(PlanError, match="no run can be planned; mf uniform 100: budget of 100"):
        expand(replace(small_spec(tmp_path), budgets=("100",)))


def test_a_metric_that_the_task_does_not_have_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match=r"metric='auc' is no score of a rating task .* mse, rmse"):
        expand(replace(small_spec(tmp_path), metric="auc"))


@pytest.mark.parametrize(
    ("search", "more"),
    [("spectral", ""), ("random", ""), ("autodim", ""), ("sseds", "split = 'validation'")],
)
def test_a_search_that_needs_validation_examples_is_refused_before_anything_is_trained(
    search, more, tmp_path
):
    write_data(tmp_path / "data", validation=0)
    sizings = f"[sizings.s]\nsearch = '{search}'\n{more}\n"
    message = f"data has no validation examples, and {search} judges by them; prepare with"
    with pytest.raises(ValueError, match=message):
        expand(small_spec(tmp_path, sizings=sizings))


@pytest.mark.parametrize("search", ["hash", "autodim-s", "sseds", "dpq"])
def test_other_searches_take_data_without_validation_examples(search, tmp_path):
    write_data(tmp_path / "data", validation=0)
    sizings = f"[sizings.s]\nsearch = '{search}'\n"
    assert {"s"} < {run.sizing for run in expand(small_spec(tmp_path, sizings=sizings)).runs}


def test_a_slice_must_be_a_field(tmp_path):
    with pytest.raises(ValueError, match="'C9' is not a field of the dataset; try one of C1, C2"):
        expand(replace(small_spec(tmp_path), slices=("C9",)))
