"""`mixdim size --cluster`: what a plan costs there, refused before it is kept."""

from pathlib import Path

import pytest

from models.tables import Block, FieldStats
from service.__main__ import EXIT_CANNOT_PLAN, EXIT_REJECTED, main
from service.on_cluster import summarise_on, workload_of
from service.sizing import SizingFile
from tests.datasets import write_dataset

ROWS = (40, 7, 3000)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_dataset(folder, num_embeddings=ROWS, rows={"train": 64, "validation": 8, "test": 8})
    return folder


def size(data: Path, *flags: str) -> tuple[int, Path]:
    output = data.parent / "sizing.json"
    return main(["size", str(data), "--output", str(output), *flags]), output


def blocks(*shapes: tuple[int, int]) -> tuple[Block, ...]:
    return tuple(Block(num_embeddings=n, embedding_dim=d, asked_dim=float(d)) for n, d in shapes)


def test_size_shows_what_the_plan_costs_on_a_cluster(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = size(data, "--cluster", "a100x8", "--batch-size", "100", "--ranks", "16")
    assert (code, output.exists()) == (0, True)
    lines = {
        line.split("  ")[0].strip(): line.split() for line in capsys.readouterr().out.splitlines()
    }
    assert lines["ranks"][1] == "16"
    assert lines["fullest rank"][2] == f"{3000 * 17 * 4:,}"
    assert lines["sent, most"][2] == f"{100 * 15 * 16 * 4:,}"
    assert lines["speeds"][1:] == ["data", "sheet,", "not", "measured"]


def test_size_keeps_no_plan_that_cannot_fit(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = data.parent / "small.toml"
    cluster.write_text("num_ranks = 1\nddr_bytes = 100_000\n")
    code, output = size(data, "--cluster", str(cluster))
    message = capsys.readouterr().err
    assert (code, output.exists()) == (EXIT_CANNOT_PLAN, False)
    budget = message.partition("mixdim size --budget ")[2].split("`")[0]
    assert size(data, "--cluster", str(cluster), "--budget", budget)[0] == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ranks", "2"], "--ranks 2 of no cluster; give --cluster"),
        (["--cluster", "local", "--ranks", "0"], "--ranks 0, expected at least 1"),
        (["--cluster", "local", "--batch-size", "0"], "batch_size=0, expected at least 1"),
        (["--cluster", "moon"], "'moon' is neither a cluster nor a file"),
    ],
)
def test_size_refuses_a_cluster_that_makes_no_sense(
    data: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = size(data, *flags)
    assert (code, output.exists()) == (EXIT_REJECTED, False)
    assert message in capsys.readouterr().err


def test_ids_of_list_fields_count_as_often_as_they_occur() -> None:
    fields = {"genres": blocks((10, 4)), "user": blocks((5, 8), (5, 4))}
    sizing = SizingFile(format_version=1, fields=fields, out_dim=8)
    stats = [FieldStats(name="genres", num_embeddings=10, num_lookups=9, pooling_factor=2.5)]
    found = workload_of(sizing, 64, stats)
    assert found.pooling_factors == {"genres": 2.5, "user/0": 1.0, "user/1": 1.0}


def test_more_ranks_hold_less_each() -> None:
    fields = {f"C{i}": blocks((1000, 8)) for i in range(8)}
    sizing = SizingFile(format_version=1, fields=fields, out_dim=8)
    held = [
        summarise_on(sizing, "h100x8", batch_size=64, num_ranks=ranks).max_rank_bytes
        for ranks in (1, 2, 8)
    ]
    assert held == [8 * 36_000, 4 * 36_000, 36_000]
