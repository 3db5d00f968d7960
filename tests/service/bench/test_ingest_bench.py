"""The race of ingests: what another library wrote is compared with what ``prepare`` writes."""

import math
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.bench import ingest
from service.bench.harness import RaceConfig
from service.bench.ingest import IngestConfig
from service.bench.ingest_check import check_agreement
from service.bench.peers.ingest_task import DENSE, FIELDS, LABEL, ROWS_FILE
from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.readers.criteo import Criteo
from service.data.readers.raw import write_raw
from service.data.readers.synthetic import Synthetic

MIN_COUNT = 3


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ingest") / "raw.tsv"
    config = PrepareConfig(source=Synthetic(rows=1000, scale=0.001))
    write_raw(config, config.source, path, lambda _: None)
    return path


@pytest.fixture(scope="module")
def expected(raw: Path) -> Path:
    output = raw.parent / "expected"
    source = Criteo(inputs=(raw,))
    fractions = (1.0, 0.0, 0.0)
    prepare(PrepareConfig(source=source, output=output, min_count=MIN_COUNT, fractions=fractions))
    return output


def plain_python(raw: Path, folder: Path) -> pa.Table:
    """A library that reads line by line; gives its rows and writes its values."""
    lines = [line.split("\t") for line in raw.read_text().splitlines()]
    columns = dict(zip((LABEL, *DENSE, *FIELDS), map(list, zip(*lines, strict=True)), strict=True))
    rows = {LABEL: [float(text) for text in columns[LABEL]]}
    for name in DENSE:
        rows[name] = [math.log1p(max(int(text), 0)) if text else -1.0 for text in columns[name]]
    for name in FIELDS:
        counts = Counter(text for text in columns[name] if text)
        often = sorted((-n, value) for value, n in counts.items() if n >= MIN_COUNT)
        ids = {value: number for number, (_, value) in enumerate(often)}
        rows[name] = [ids.get(v, len(ids) + 1) if v else len(ids) for v in columns[name]]
        found = {"value": list(ids), "count": [-negative for negative, _ in often]}
        pq.write_table(pa.table(found), folder / f"{name}.parquet")
    return pa.table(rows)


def test_ids_agree_with_a_library_that_reads_line_by_line(
    raw: Path, expected: Path, tmp_path: Path
) -> None:
    pq.write_table(plain_python(raw, tmp_path), tmp_path / ROWS_FILE)
    check_agreement(tmp_path, expected)


@pytest.mark.parametrize("name", ["label", "I2", "C3"])
def test_one_other_value_is_noticed(raw: Path, expected: Path, tmp_path: Path, name: str) -> None:
    rows = plain_python(raw, tmp_path)
    values = rows[name].to_pylist()
    values[500] = 1 - values[500] if name == "label" else 0 if values[500] else 1
    place = rows.column_names.index(name)
    pq.write_table(rows.set_column(place, name, pa.array(values)), tmp_path / ROWS_FILE)
    with pytest.raises(ValueError, match=rf"{name}: .* than the product"):
        check_agreement(tmp_path, expected)


def test_other_counts_are_noticed(raw: Path, expected: Path, tmp_path: Path) -> None:
    pq.write_table(plain_python(raw, tmp_path), tmp_path / ROWS_FILE)
    values = pq.read_table(tmp_path / "C5.parquet")
    pq.write_table(values.slice(1), tmp_path / "C5.parquet")
    with pytest.raises(ValueError, match=r"field C5: .* has other values"):
        check_agreement(tmp_path, expected)


def test_the_product_and_its_bound_race_without_other_libraries() -> None:
    once = RaceConfig(repeats=1, quiet_seconds=0)
    report = ingest.run(IngestConfig(rows=500, scale=0.001, only=("prepare", "parse"), race=once))
    assert [run.contender for run in report.runs] == ["prepare", "parse"]
    assert all(run.figures["examples_per_second"] > 0 for run in report.runs)


def test_an_unknown_contender_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--only \['spark'\]: no such contenders; choose from"):
        ingest.run(IngestConfig(only=("spark",)))
