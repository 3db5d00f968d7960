"""A grown dataset against a dictionary of its values, and a run that goes on with it."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.networks import FMNetwork
from service.data.dataset import read_dataset_info, write_dataset_info
from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.readers.table import OwnTable
from service.distributed import launch
from service.resize.report import report
from service.resize.resume import read_resize
from service.train.evaluate_run import EvaluateConfig, evaluate_run
from service.train.loop import train
from service.vocabulary_change import check_same_ids, id_changes
from service.warm_up import TABLES
from tests.service.resize.stored_runs import alone, everything, resize, run_of, store, vectors
from tests.service.warm_runs import Sizes

SCHEMA = 'label = "y"\ndense = ["d"]\ncategorical = ["a", "b"]\n'


def write_log(folder: Path, name: str, *, values: range, seed: int, num_lines: int = 600) -> Path:
    """Prepare a log whose field ``a`` has values of one to five letters, some of them missing."""
    rng = random.Random(seed)
    lines = ["y,d,a,b"]
    for _ in range(num_lines):
        value = min(rng.choice(values), rng.choice(values))
        text = "" if rng.random() < 0.05 else f"{'v' * (value % 9 + 1)}{value}"
        lines.append(f"{rng.randint(0, 1)},{rng.random():.3f},{text},{rng.choice('xyz')}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "schema.toml").write_text(SCHEMA)
    source = OwnTable(inputs=(folder / f"{name}.csv",), schema=folder / "schema.toml")
    prepare(PrepareConfig(source=source, output=folder / name, min_count=2, threads=1))
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a later one that has lost some of its values and has others."""
    path = tmp_path_factory.mktemp("grown")
    write_log(path, "data", values=range(40), seed=1)
    write_log(path, "later", values=range(10, 70), seed=2)
    return path


def meanings(data: Path, field: str) -> list[str]:
    """What every id stands for."""
    info = next(f for f in read_dataset_info(data).fields if f.stats.name == field)
    values = pq.read_table(data / "vocab" / f"{field}.parquet")["value"].to_pylist()
    values[info.missing_id], values[info.unknown_id] = "<missing>", "<unknown>"
    return values


def changes(old: Path, new: Path):
    return id_changes(old, new, ["a", "b"], old_sha256=read_dataset_info(old).content_sha256)


def test_every_id_is_found_by_its_value(folder):
    old, new = meanings(folder / "data", "a"), meanings(folder / "later", "a")
    found = changes(folder / "data", folder / "later")["a"]
    unknown = old.index("<unknown>")
    expected = [old.index(value) if value in old else unknown for value in new]
    assert found.before(0, len(new))[0].tolist() == expected
    assert found.before(0, len(new))[1].tolist() == [value not in old for value in new]
    assert found.num_new == len(set(new) - set(old)) > 5
    assert found.num_dropped == len(set(old) - set(new)) > 5
    assert found.before(3, 5)[0].tolist() == expected[3:5]


def test_the_same_dataset_is_not_looked_through(folder):
    found = changes(folder / "data", folder / "data")
    assert all(change.is_same and not change.num_new for change in found.values())


def plan(folder: Path, name: str, sizes: Sizes, data: str, **more: object):
    config = run_of(folder, name, sizes, 8, network=FMNetwork(), **more)
    return replace(config, data=folder / data)


def test_a_run_goes_on_with_a_grown_dataset_value_by_value(folder):
    num_old, num_new = (len(meanings(folder / data, "a")) for data in ("data", "later"))
    num_b = len(meanings(folder / "data", "b"))
    old = plan(folder, "old", {"a": [(6, 8, 0), (num_old - 6, 4, 0)], "b": [(num_b, 8, 0)]}, "data")
    alone(store, old)
    sizes: Sizes = {"a": [(9, 8, 0), (num_new - 9, 8, 0)], "b": [(num_b, 8, 0)]}
    new = plan(folder, "new", sizes, "later", resume_from=old.output)
    found = report(read_resize(new))
    alone(resize, new)

    was = dict(zip(meanings(folder / "data", "a"), vectors(old)["a"], strict=True))
    for value, vector in zip(meanings(folder / "later", "a"), vectors(new)["a"], strict=True):
        np.testing.assert_allclose(vector, was.get(value, was["<unknown>"]), atol=1e-6)
    key = TABLES.replace("model.", "optimizer.state.", 1)
    sums = [everything(new)[f"{key}a/{part}.weight.sum"] for part in (0, 1)]
    is_new = [value not in was for value in meanings(folder / "later", "a")]
    assert (np.concatenate(sums).any(axis=1) == ~np.array(is_new)).all()
    assert "new ids as out of vocabulary" in found.tables[0].what
    assert "ids of the field dropped" in found.tables[0].what
    assert "epoch 0 from its start: the dataset is another" in found.position
    assert not found.is_exact


def test_a_dataset_whose_ids_mean_other_values_is_refused(folder, tmp_path, caplog):
    old, new = folder / "data", folder / "later"
    known = read_dataset_info(old)

    def check(old: Path, new: Path) -> None:
        check_same_ids(old, new, ["a", "b"], old_sha256=known.content_sha256)

    check(tmp_path / "gone", old)
    shutil.copytree(old, tmp_path / "other")
    changed = replace(known, splits={**known.splits, "test": known.splits["train"]})
    write_dataset_info(changed, tmp_path / "other")
    check(old, tmp_path / "other")
    assert not caplog.messages
    with pytest.raises(ValueError, match=r"field 'a': ids mean other values in .*later than"):
        check(old, new)
    check(tmp_path / "gone", new)
    assert "is another dataset than the run was trained on, which is no longer in" in caplog.text


def test_a_run_that_goes_on_with_more_data_knows_where_it_will_end(folder, tmp_path, capsys):
    more = write_log(tmp_path, "more", values=range(40), seed=3, num_lines=1200)
    sizes: Sizes = {f: [(len(meanings(folder / "data", f)), 8, 0)] for f in ("a", "b")}
    old = replace(plan(folder, "short", sizes, "data"), epochs=1, output=tmp_path / "short")
    before = launch(train, old, nproc=1, name="short")
    sizes = {f: [(len(meanings(more, f)), 8, 0)] for f in ("a", "b")}
    longer = replace(plan(tmp_path, "longer", sizes, "more"), patience=9, log_every=1)
    longer = replace(longer, resume_from=old.output)
    after = launch(train, longer, nproc=1, name="longer")
    assert after.steps == 3 * before.steps, "one epoch of each"
    assert f"step {after.steps}/{after.steps} " in capsys.readouterr().err


def test_a_run_neither_goes_on_nor_is_scored_with_ids_of_other_values(folder, tmp_path):
    turned = shutil.copytree(folder / "data", tmp_path / "turned")
    info = read_dataset_info(turned)
    write_dataset_info(replace(info, splits={**info.splits, "test": info.splits["train"]}), turned)
    table = pq.read_table(turned / "vocab" / "a.parquet")
    pq.write_table(table.take([1, 0, *range(2, len(table))]), turned / "vocab" / "a.parquet")
    sizes: Sizes = {f: [(len(meanings(turned, f)), 8, 0)] for f in ("a", "b")}
    config = replace(plan(folder, "turned", sizes, "data"), epochs=1, output=tmp_path / "run")
    launch(train, config, nproc=1, name="first")
    again = replace(config, data=turned, epochs=2, resume=True)
    refused = r"field 'a': ids mean other values in .*turned than in .*data, .* --resume-from"
    with pytest.raises(ValueError, match=refused):
        launch(train, again, nproc=1, name="again")
    with pytest.raises(ValueError, match=refused):
        evaluate_run(EvaluateConfig(run=config.output, data=turned))


def test_a_dataset_that_is_gone_or_changed_is_asked_for(folder, tmp_path):
    old, new = folder / "data", folder / "later"
    sha256 = read_dataset_info(old).content_sha256
    with pytest.raises(ValueError, match=r"no longer there: .* --resume-data FOLDER"):
        id_changes(tmp_path / "gone", new, ["a"], old_sha256=sha256)
    with pytest.raises(ValueError, match=r"another one, too: .* --resume-data FOLDER"):
        id_changes(new, new, ["a"], old_sha256=sha256)
    shutil.copytree(old, tmp_path / "old")
    assert id_changes(tmp_path / "old", new, ["a"], old_sha256=sha256)["a"].num_new
    (tmp_path / "old" / "vocab" / "a.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"vocab/a.parquet does not exist"):
        id_changes(tmp_path / "old", new, ["a"], old_sha256=sha256)


def test_other_dense_columns_are_refused(folder, tmp_path):
    (tmp_path / "schema.toml").write_text('label = "y"\ncategorical = ["a", "b"]\n')
    shutil.copy(folder / "later.csv", tmp_path / "log.csv")
    source = OwnTable(inputs=(tmp_path / "log.csv",), schema=tmp_path / "schema.toml")
    prepare(PrepareConfig(source=source, output=tmp_path / "other", threads=1))
    with pytest.raises(ValueError, match=r"dense columns \[\] .* only fields may come and go"):
        changes(folder / "data", tmp_path / "other")
