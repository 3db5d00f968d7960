"""What a comparison may say, and what is said of what it may not."""

import pytest

from models.sizing import PopularityRule
from service.compare.choices import read_spec, recipe_of, sizing_of
from service.presets import PRESETS
from tests.service.compare.specs import small_spec, write_spec


def test_a_recipe_is_its_preset_with_overrides_at_any_depth(tmp_path):
    recipe = "shuffle = false\noptimizer.sparse_lr = 0.25\n"
    config = recipe_of(small_spec(tmp_path, recipe=recipe), "mf")
    assert (config.epochs, config.shuffle, config.optimizer.sparse_lr) == (2, False, 0.25)
    assert config.optimizer.sparse == "adagrad"
    assert config.optimizer.dense_lr == PRESETS["mf"]().optimizer.dense_lr
    assert config.patience == PRESETS["mf"]().patience


def test_another_network_starts_from_its_own_defaults(tmp_path):
    recipe = '[recipes.other]\npreset = "dlrm"\nnetwork = {kind = "deepfm", hidden = [8]}\n'
    config = recipe_of(small_spec(tmp_path, recipe=recipe), "other")
    assert (config.network.kind, config.network.hidden) == ("deepfm", (8,))


def test_keys_of_a_sizing_go_to_the_request_or_to_the_scheme(tmp_path):
    choice = sizing_of(small_spec(tmp_path), "popularity", {})
    assert choice.request.scheme == PopularityRule(alpha=0.5)
    assert (choice.request.blocks, choice.request.out_dim) == (2, 16)
    assert choice.request.fields == ("C1", "C3")
    assert choice.budgets == ("uniform:8",)


def test_a_sizing_may_have_budgets_and_fields_of_its_own(tmp_path):
    sizings = '[sizings.own]\nbudgets = ["4x", "1MiB"]\nfields = ["C2"]\n'
    choice = sizing_of(small_spec(tmp_path, sizings=sizings), "own", {})
    assert (choice.budgets, choice.request.fields) == (("4x", "1MiB"), ("C2",))


def test_a_sizing_may_change_the_training(tmp_path):
    spec = small_spec(tmp_path, sizings="[sizings.own]\ntrain = {optimizer = {sparse_lr = 0.5}}\n")
    config = recipe_of(spec, "mf", sizing_of(spec, "own", {}).train)
    assert config.optimizer.sparse_lr == 0.5
    assert config.epochs == recipe_of(spec, "mf").epochs == 2


REFUSED = {
    "sizingz = 1": r"spec.toml: sizingz: there is no such key \(value 1\)",
    "seeds = []": r"seeds: there are 0, expected at least 1",
    'baseline = "unifrom"': r"spec.toml: baseline='unifrom' is not a sizing; sizings: uniform",
    'serve_budgets = ["8x"]': r"serve_budgets: no sizing has the budget '8x'; budgets: 'uniform:8'",
    "threads = 0": r"threads: .* greater than or equal to 1",
}


@pytest.mark.parametrize("line", REFUSED)
def test_the_place_of_a_fault_is_named(line, tmp_path):
    path = write_spec(tmp_path)
    text = path.read_text().replace("seeds = [0, 1]\n", "") if "seeds" in line else path.read_text()
    path.write_text(line + "\n" + text)
    with pytest.raises(ValueError, match=REFUSED[line]):
        read_spec(path)


REFUSED_RECIPES = {
    "epohcs = 3": r"recipes.mf.epohcs: there is no such key",
    "optimizer.sparse_lrr = 1.0": r"mf.optimizer.sparse_lrr: there is no such key",
    "optimizer.sparse_lr = -1.0": r"recipes.mf.optimizer: .*sparse_lr=-1.0",
    "seed = 3": r"recipes.mf.seed is given, but compare sets seed itself",
    '[recipes.b]\npreset = "mff"': r"recipes.b.preset='mff', expected one of dlrm",
    '[recipes."b/c"]\npreset = "mf"': r"recipes: 'b/c' names files; use a name without '/'",
    '[recipes.".."]\npreset = "mf"': r"recipes: '\.\.' names files; use a name without '/'",
}


@pytest.mark.parametrize("text", REFUSED_RECIPES)
def test_a_recipe_that_is_none_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match=REFUSED_RECIPES[text]):
        small_spec(tmp_path, recipe=text)


REFUSED_SIZINGS = {
    'scheme = "poplarity"': r"sizings.s.scheme='poplarity', expected one of uniform",
    'scheme = "popularity"\nalhpa = 0.3': r"sizings.s.alhpa means nothing to the scheme 'popul",
    'scheme = "uniform"\nalpha = 0.3': r"sizings.s.alpha means nothing to the scheme 'uniform'",
    'scheme = "popularity"\nalpha = "x"': r"sizings.s.alpha: Input should be a valid number",
    'scheme = "uniform"\nblocks = "x"': r"sizings.s.blocks: Input should be a valid integer",
    "train = {epohcs = 2}": r"sizings.s.train.epohcs: there is no such key",
    "train = {seed = 2}": r"sizings.s.train.seed is given, but compare sets seed itself",
    'train = {plan = "@wide"}': r"sizings.s.train.plan='@wide' names no warm-up; warm-ups: there",
    'search = "hash"\ntrain = {warm_start = "a"}': r"sizings.s.train.warm_start is given, but a",
    '[warm_ups.w]\nbudgets = ["2x", "4x"]': r"warm_ups.w.budgets names 2; a warm-up is one train",
    '[sizings."@s"]': r"sizings: '@s' reads like a warm-up; use a name without '@' there",
    'file = "a.json"\nblocks = 2': r"sizings.s: a file is a finished plan; leave out blocks",
}


@pytest.mark.parametrize("text", REFUSED_SIZINGS)
def test_a_sizing_that_is_none_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match=REFUSED_SIZINGS[text]):
        small_spec(tmp_path, sizings=f"[sizings.s]\n{text}\n")


@pytest.mark.parametrize("kind", ["recipes", "sizings"])
def test_a_comparison_of_nothing_is_refused(kind, tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text('[recipes.a]\npreset = "mf"\n' if kind == "sizings" else "[sizings.uniform]\n")
    with pytest.raises(ValueError, match=rf"spec.toml: it has no {kind}; give at least one"):
        read_spec(path)


def test_a_missing_file_says_where_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"docs/compare.md"):
        read_spec(tmp_path / "no.toml")
