"""`mixdim explain`: every table's figures, where it lives, and what another plan changes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.tables import Block
from service.__main__ import EXIT_CANNOT_PLAN, EXIT_REJECTED, main
from service.sizing import SizingFile, sizing_bytes, write_sizing
from tests.datasets import write_dataset

ROWS = (40, 7, 3000)
Shapes = dict[str, tuple[tuple[int, int], ...]]
OLD: Shapes = {"C1": ((40, 16),), "C2": ((7, 4),), "C3": ((1000, 16), (2000, 8))}
NEW: Shapes = {"C1": ((40, 16),), "C2": ((7, 16),), "C3": ((3000, 4),)}


def write(path: Path, shapes: Shapes, **changes: Any) -> Path:
    fields = {
        name: tuple(Block(num_embeddings=n, embedding_dim=d, asked_dim=d - 0.5) for n, d in blocks)
        for name, blocks in shapes.items()
    }
    reasons = {"C1": "popular"}
    sizing = SizingFile(format_version=1, fields=fields, out_dim=16, reasons=reasons, **changes)
    write_sizing(sizing, path)
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write(tmp_path / "old.json", OLD)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return write(tmp_path / "new.json", NEW)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_dataset(folder, num_embeddings=ROWS, rows={"train": 64, "validation": 8, "test": 8})
    return folder


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["explain", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(capsys, *arguments, "--json"))
    return found


def words(text: str, first: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [first])


def test_a_line_has_ids_rows_widths_bytes_and_the_reason(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, old)
    assert words(text, "C1") == ["C1", "40", "40", "15.5", "16", "2,560", "160", "0", "popular"]
    weights, state, projection = 2000 * 8 * 4, 2000 * 4, 8 * 16 * 12
    figures = [f"{x:,}" for x in (2000, 2000, 7.5, 8, weights, state, projection)]
    assert words(text, "C3/1") == ["C3/1", *figures]


def test_bytes_of_the_lines_add_up_to_the_training_bytes(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, old)
    lines, totals = found["tables"], found["totals"]
    assert sum(line["total_bytes"] for line in lines) == totals["training_bytes"]
    assert totals["embedding_params"] == sum(n * d for blocks in OLD.values() for n, d in blocks)


def test_packed_and_hashed_tables_show_what_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "packed.json"
    block = Block(num_embeddings=10, embedding_dim=1, asked_dim=0.7, hashed_ids=90)
    write_sizing(SizingFile(format_version=1, fields={"C1": (block,)}, out_dim=4), path)
    (line,) = as_json(capsys, path)["tables"]
    assert (line["num_ids"], line["num_embeddings"], line["embedding_dim"]) == (100, 10, 1)
    assert (line["stored_rows"], line["stored_dim"]) == (3, 4)


def test_without_data_there_is_no_column_of_coverage(
    old: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "coverage" not in printed(capsys, old)
    assert "coverage" in printed(capsys, old, "--data", data)


def test_blocks_share_the_lookups_of_their_field(
    old: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((data / "dataset.json").read_text())
    c3 = next(f for f in record["fields"] if f["stats"]["name"] == "C3")["stats"]
    c3 |= {"num_lookups": 100, "frequency_curve": [[500, 60], [1000, 80], [3000, 100]]}
    (data / "dataset.json").write_text(json.dumps(record))
    lines = {line["name"]: line for line in as_json(capsys, old, "--data", data)["tables"]}
    assert lines["C3/0"]["lookup_ratio"] == pytest.approx(0.8)
    assert lines["C3/1"]["lookup_ratio"] == pytest.approx(0.2)
    assert lines["C1"]["lookup_ratio"] == 1


def test_blocks_of_a_field_that_is_never_looked_up_have_no_share(
    old: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = json.loads((data / "dataset.json").read_text())
    info["fields"][2]["stats"] |= {"num_lookups": 0, "frequency_curve": [[1, 0], [3000, 0]]}
    (data / "dataset.json").write_text(json.dumps(info))
    lines = as_json(capsys, old, "--data", data)["tables"]
    assert [line["lookup_ratio"] for line in lines] == [1.0, 1.0, None, None]


def test_a_cluster_tells_where_tables_live(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, old, "--cluster", "local", "--ranks", "2")
    assert "table_wise on 0" in text
    assert "table_wise on 1" in text


def test_a_sharding_plan_tells_the_same(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sharding = old.parent / "sharding.json"
    flags = ["--ranks", "2", "--types", "row_wise", "--output", str(sharding)]
    assert main(["plan", "--sizing", str(old), *flags]) == 0
    capsys.readouterr()
    places = [line["placement"] for line in as_json(capsys, old, "--sharding", sharding)["tables"]]
    assert places == ["row_wise on 0-1"] * 4


def test_the_difference_is_sorted_by_bytes_and_sums_to_that_of_the_plans(
    old: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, old, new)["difference"]
    changes = {line["field"]: line["change_bytes"] for line in found["changed"]}
    assert list(changes) == ["C3", "C2"]
    assert abs(changes["C3"]) > abs(changes["C2"])
    totals = found["new_totals"]["training_bytes"] - found["old_totals"]["training_bytes"]
    assert sum(changes.values()) == totals
    assert found["unchanged"] == ["C1"]


def test_the_difference_shows_widths_rows_and_bytes(
    old: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, old, new)
    assert "16 8 -> 4" in text
    assert "1,000 2,000 -> 3,000" in text
    assert "unchanged: 1 field(s) of 2,720 bytes" in text
    before, after = 1000 * 68 + 2000 * 36 + 8 * 16 * 12, 3000 * 20 + 4 * 16 * 12
    assert f"{before:,} -> {after:,}" in text


def test_fields_of_one_plan_only_are_named(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "other.json", {"C1": OLD["C1"], "C9": ((5, 4),)})
    text = printed(capsys, old, other)
    assert "only in the first plan: C2, C3" in text
    assert "only in the second plan: C9" in text


def test_a_plan_against_itself_changes_nothing(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, old, old)["difference"]
    assert (found["changed"], found["unchanged"]) == ([], ["C1", "C2", "C3"])


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    assert main(["explain", *map(str, arguments)]) == code
    return capsys.readouterr().err


def test_a_placement_of_other_tables_is_refused(
    old: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sharding = old.parent / "sharding.json"
    assert main(["plan", "--sizing", str(new), "--output", str(sharding)]) == 0
    message = refused(capsys, EXIT_REJECTED, old, "--sharding", sharding)
    assert "table 'C2': placed as 7 x 16, but this sizing stores it as 7 x 4" in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sharding", "s.json", "--cluster", "local"], "give one of them"),
        (["--cluster", "local", "--ranks", "0"], "--ranks 0, expected at least 1"),
        (["--cluster", "nowhere"], "'nowhere' is neither a cluster nor a file"),
        (["--data", "nowhere"], "nowhere"),
        (["."], ". is a folder, expected a sizing plan such as sizing.json; give the file that"),
    ],
)
def test_what_makes_no_sense_is_refused(
    old: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, EXIT_REJECTED, old, *flags)


def test_a_cluster_without_room_exits_with_the_number_that_would_do(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = old.parent / "small.toml"
    cluster.write_text("num_ranks = 1\nddr_bytes = 10_000\n")
    message = refused(capsys, EXIT_CANNOT_PLAN, old, "--cluster", cluster)
    assert "give every rank" in message


def test_it_answers_without_torch(old: Path) -> None:
    code = "import sys; from service.__main__ import main; main(sys.argv[1:]); "
    code += "sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "explain", str(old), "--cluster", "local"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_totals_are_those_of_the_sizing(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from service.sizing import read_sizing

    cost = sizing_bytes(read_sizing(old))
    text = printed(capsys, old)
    for figure in (cost.embedding_params, cost.training_bytes, cost.serving_bytes):
        assert f"{figure:,}" in text
