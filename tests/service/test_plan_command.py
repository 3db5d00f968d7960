"""`mixdim plan`: the file it writes, what it prints, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from models.tables import Block
from service.__main__ import EXIT_CANNOT_PLAN, EXIT_REJECTED, main
from service.sharding_file import (
    find_cluster,
    read_sharding,
    write_cluster,
    write_sharding,
)
from service.sizing import SizingFile, write_sizing
from sharding.cluster import CLUSTERS, local
from sharding.constraints import ShardingConfig
from sharding.cost import Workload
from sharding.placement import Placement
from sharding.placing import place
from sharding.report import report
from tests.sharding.tables import table

SHAPES = {"C1": (40_000, 16), "C2": (7, 4), "C3": (3000, 8)}


@pytest.fixture
def sizing(tmp_path: Path) -> Path:
    path = tmp_path / "sizing.json"
    fields = {
        name: (Block(num_embeddings=rows, embedding_dim=dim, asked_dim=float(dim)),)
        for name, (rows, dim) in SHAPES.items()
    }
    write_sizing(SizingFile(format_version=1, fields=fields, out_dim=16), path)
    return path


def plan(sizing: Path, *flags: str) -> int:
    output = str(sizing.parent / "sharding.json")
    return main(["plan", "--sizing", str(sizing), "--output", output, *flags])


def test_the_file_holds_the_placement_that_the_planner_made(sizing: Path) -> None:
    assert plan(sizing, "--ranks", "2", "--types", "row_wise") == 0
    read = read_sharding(sizing.parent / "sharding.json")
    tables = {x.name: (x.num_embeddings, x.embedding_dim) for x in read.tables}
    assert (read.num_ranks, tables) == (2, SHAPES)
    assert {x.sharding_type for x in read.tables} == {"row_wise"}


def test_the_table_shows_bytes_of_every_rank(
    sizing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(sizing, "--ranks", "2", "--optimizer", "sgd") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    ranks = {words[0]: words[3] for words in lines if words[:1] in (["0"], ["1"])}
    assert sorted(ranks.values()) == ["2,560,000", "96,112"]


def test_a_cache_on_the_device_is_shown_beside_the_tables(
    sizing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--cluster", "h100x8", "--kernel", "fused_uvm_caching", "--cache-load-factor", "0.1"]
    assert plan(sizing, *flags) == 0
    shown = capsys.readouterr().out
    assert "cache bytes" in shown
    # 40,000 rows: 4,000 slots of 16 floats, a key and a time; 4 bytes a row
    assert f"{4000 * (16 * 4 + 16) + 40_000 * 4:,}" in shown
    read = read_sharding(sizing.parent / "sharding.json")
    assert {(x.kernel, x.cache_load_factor) for x in read.tables} == {("fused_uvm_caching", 0.1)}


def test_a_thousand_ranks_are_not_listed_one_by_one(
    sizing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(sizing, "--cluster", "a100x8", "--ranks", "1024") == 0
    shown = capsys.readouterr().out
    assert "and 1,008 more ranks" in shown
    assert len(shown.splitlines()) < 60


def test_a_prediction_says_where_its_speeds_are_from(
    sizing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(sizing, "--cluster", "h100x8") == 0
    assert "data sheet, not measured" in capsys.readouterr().out


def other(sizing: Path, dim: int) -> str:
    path = sizing.parent / f"uniform-{dim}.json"
    fields = {
        name: (Block(num_embeddings=rows, embedding_dim=dim, asked_dim=float(dim)),)
        for name, (rows, _) in SHAPES.items()
    }
    write_sizing(SizingFile(format_version=1, fields=fields, out_dim=dim), path)
    return str(path)


def test_plans_side_by_side_have_a_line_each_and_write_nothing(
    sizing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(sizing, "--against", other(sizing, 4), other(sizing, 64), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(name).name for name in found] == [
        "sizing.json",
        "uniform-4.json",
        "uniform-64.json",
    ]
    rows = sum(rows for rows, _ in SHAPES.values())
    assert [each["total_bytes"] for each in found.values()][1:] == [rows * 20, rows * 260]
    assert not (sizing.parent / "sharding.json").exists()


def test_a_plan_that_does_not_fit_is_shown_beside_those_that_do(
    sizing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = sizing.parent / "small.toml"
    cluster.write_text("num_ranks = 1\nddr_bytes = 4_000_000\n")
    assert plan(sizing, "--cluster", str(cluster), "--against", other(sizing, 64)) == 0
    shown = capsys.readouterr()
    assert "needs 1" in shown.out
    assert "uniform-64.json: table 'C1' needs 9.9 MiB" in shown.err
    both = [other(sizing, 64), other(sizing, 128)]
    arguments = ["plan", "--sizing", both[0], "--cluster", str(cluster), "--against", both[1]]
    assert main(arguments) == EXIT_CANNOT_PLAN


def test_packed_tables_are_planned_as_they_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "packed.json"
    block = Block(num_embeddings=1001, embedding_dim=1, asked_dim=1.0)
    write_sizing(SizingFile(format_version=1, fields={"C1": (block,)}, out_dim=4), path)
    assert plan(path, "--ranks", "2") == 0
    (placed,) = read_sharding(tmp_path / "sharding.json").tables
    assert (placed.num_embeddings, placed.embedding_dim) == (251, 4)


def test_a_written_cluster_is_read_back_the_same(tmp_path: Path) -> None:
    cluster = replace(CLUSTERS["h200x8"](), lookup_seconds=1.5e-8, source='2 x "EPYC"\n')
    write_cluster(cluster, tmp_path / "new" / "c.toml")
    assert find_cluster(str(tmp_path / "new" / "c.toml")) == cluster


def test_json_is_the_file(sizing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(sizing, "--ranks", "2", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((sizing.parent / "sharding.json").read_text())
    assert printed["report"]["bytes"] == sum(rows * (dim * 4 + 4) for rows, dim in SHAPES.values())


def test_what_cannot_fit_exits_with_the_number_that_would(
    sizing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = sizing.parent / "small.toml"
    cluster.write_text("num_ranks = 2\nddr_bytes = 1_000_000\n")
    assert plan(sizing, "--cluster", str(cluster), "--types", "table_wise") == EXIT_CANNOT_PLAN
    message = capsys.readouterr().err
    assert "table 'C1' needs 2.6 MiB" in message
    assert not (sizing.parent / "sharding.json").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.toml", "num_ranks = 3\nddr_bytes = 5"), ("c.json", '{"num_ranks": 3, "ddr_bytes": 5}')],
)
def test_clusters_are_read_from_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    cluster = find_cluster(str(tmp_path / name))
    assert (cluster.num_ranks, cluster.ddr_bytes) == (3, 5)
    assert find_cluster(str(tmp_path / name), num_ranks=6).num_ranks == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_rank = 3", "num_rank: there is no such key"),
        ("num_ranks = 0", "num_ranks=0, expected at least 1"),
        ("num_ranks", "is not TOML"),
    ],
)
def test_a_wrong_cluster_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        find_cluster(str(path))


def test_an_unknown_cluster_is_refused(sizing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(sizing, "--cluster", "h100") == EXIT_REJECTED
    assert "'h100' is neither a cluster nor a file; clusters: local" in capsys.readouterr().err


@pytest.fixture
def sharding(tmp_path: Path) -> Path:
    workload, config = Workload(batch_size=8), ShardingConfig(types=("column_wise",))
    tables = [table(name, *shape) for name, shape in SHAPES.items()]
    placement = place(tables, local(2), config, workload)
    path = tmp_path / "sharding.json"
    write_sharding(placement, path, report(placement, local(2), workload))
    assert read_sharding(path) == placement
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"num_columns": 8', '"num_columns": 4', "table 'C1'"),
        ('"rank": 1', '"rank": 5', "rank 5, but there are num_ranks=2"),
        ('"sharding_type": "column_wise"', '"sharding_type": "diagonal"', "'diagonal'"),
        ('"format_version": 1', '"format_version": 9', "format_version=9, expected 1"),
    ],
)
def test_a_changed_file_is_refused_by_name_and_value(
    sharding: Path, old: str, new: str, message: str
) -> None:
    sharding.write_text(sharding.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_sharding(sharding)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make it with `mixdim plan`"):
        read_sharding(tmp_path / "sharding.json")


def test_a_placement_survives_json(sharding: Path) -> None:
    adapter, placement = TypeAdapter(Placement), read_sharding(sharding)
    assert adapter.validate_json(adapter.dump_json(placement)) == placement
