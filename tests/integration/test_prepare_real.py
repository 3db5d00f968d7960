"""Real logs against plain Python; the files are the developer's own copies, never in the tree."""

import csv
import gzip
import re
from pathlib import Path

import pytest

from service.data.dataset import read_dataset_info
from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.readers.avazu import Avazu
from service.data.readers.criteo import DENSE, FIELDS, Criteo
from service.data.readers.movielens import Movielens
from tests.service.data.ingest_oracle import RawRow, assert_prepared, random_split, read_split

REAL = Path(__file__).parents[3] / "shared" / "data"
CRITEO = REAL / "criteo" / "train_head_10000.txt.gz"
AVAZU = REAL / "avazu" / "train_head_9999.csv.gz"
ML_1M = REAL / "movielens" / "ml-1m_ratings.dat.gz"
ML_100K = REAL / "movielens" / "ml-100k_u.data.gz"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL.name}")

# 21 October 2014 was a Tuesday.
AVAZU_TIME = {"14102100": {"hour": ["00"], "weekday": ["2"]}}


def one(value: str) -> list[str]:
    return [value] if value else []


def side_table(name: str) -> dict[str, list[str]]:
    lines = (ML_1M.parent / name).read_text(encoding="latin-1").splitlines()
    return {line.split("::")[0]: line.split("::") for line in lines}


def test_criteo(tmp_path):
    with gzip.open(CRITEO, "rt") as lines:
        raw = [line.rstrip("\n").split("\t") for line in lines]
    rows = [
        RawRow(
            index=index,
            label=float(values[0]),
            dense=dict(zip(DENSE, values[1:14], strict=True)),
            fields=dict(zip(FIELDS, map(one, values[14:]), strict=True)),
        )
        for index, values in enumerate(raw)
    ]
    source = Criteo(inputs=(CRITEO,))
    prepare(PrepareConfig(source=source, output=tmp_path / "out", min_count=4))
    info = assert_prepared(tmp_path / "out", rows, min_count=4)
    assert (info.num_rows, info.num_rejects) == (10_000, 0)


def test_avazu(tmp_path):
    with gzip.open(AVAZU, "rt") as lines:
        raw = list(csv.DictReader(lines))
    rows = [
        RawRow(
            index=index,
            label=float(values["click"]),
            dense={},
            fields=AVAZU_TIME[values["hour"]]
            | {name: one(v) for name, v in values.items() if name not in ("id", "click", "hour")},
        )
        for index, values in enumerate(raw)
    ]
    prepare(PrepareConfig(source=Avazu(inputs=(AVAZU,)), output=tmp_path / "out"))
    info = assert_prepared(tmp_path / "out", rows, min_count=2)
    assert (info.num_rows, info.num_rejects, len(info.fields)) == (9_999, 0, 23)


def ratings_1m() -> list[list[str]]:
    with gzip.open(ML_1M, "rt") as lines:
        return [line.rstrip("\n").split("::") for line in lines]


def test_movielens_1m_with_its_side_tables(tmp_path):
    users = side_table("ml-1m_users.dat")
    items = side_table("ml-1m_movies.dat")
    raw = ratings_1m()[:40_000]
    start = tmp_path / "ratings.dat"
    start.write_text("".join("::".join(values) + "\n" for values in raw))
    rows = [
        RawRow(
            index=index,
            label=float(rating),
            dense={},
            fields={
                "user_id": [user],
                "item_id": [item],
                "gender": [users[user][1]],
                "age": [users[user][2]],
                "occupation": [users[user][3]],
                "zip": [users[user][4]],
                "genres": items[item][2].split("|"),
                "release_year": [items[item][1][-5:-1]],
            },
        )
        for index, (user, item, rating, _) in enumerate(raw)
    ]
    folder = ML_1M.parent
    source = Movielens(
        ratings=start, users=folder / "ml-1m_users.dat", items=folder / "ml-1m_movies.dat"
    )
    prepare(PrepareConfig(source=source, output=tmp_path / "out", min_count=5))
    assert_prepared(tmp_path / "out", rows, min_count=5)


def test_movielens_1m_whole(tmp_path):
    raw = ratings_1m()
    genres = {item: row[2].split("|") for item, row in side_table("ml-1m_movies.dat").items()}
    train = [values for i, values in enumerate(raw) if random_split(i) == "train"]
    config = PrepareConfig(source=Movielens(ratings=ML_1M), output=tmp_path / "out")
    info = prepare(config)
    assert (info.num_rows, info.num_rejects, info.task) == (1_000_209, 0, "rating")
    mean = sum(int(values[2]) for values in train) / len(train)
    assert info.splits["train"].label_mean == pytest.approx(mean, rel=1e-12)
    stats = {field.stats.name: field for field in info.fields}
    assert stats["user_id"].num_distinct == len({values[0] for values in train})
    assert stats["item_id"].num_distinct == len({values[1] for values in train})
    assert stats["genres"].stats.num_lookups == sum(len(genres[values[1]]) for values in train)


def test_movielens_100k_as_clicks_split_by_time(tmp_path, caplog):
    with gzip.open(ML_100K, "rt") as lines:
        raw = [line.rstrip("\n").split("\t") for line in lines]
    times = sorted(int(values[3]) for values in raw)
    source = Movielens(ratings=ML_100K, click_threshold=4)
    info = prepare(PrepareConfig(source=source, output=tmp_path / "out", split="time"))
    test = read_split(tmp_path / "out", info, "test")
    cut = times[-test.num_rows]
    latest = [float(int(values[2]) >= 4) for values in raw if int(values[3]) >= cut]
    assert test["label"].to_pylist() == latest
    assert abs(test.num_rows - 10_000) < 50 and not caplog.records
    genres = next(field for field in info.fields if field.stats.name == "genres")
    assert genres.is_list and genres.num_distinct == 18
    assert info.task == "click"


def test_half_of_movielens_1m_has_no_time_and_that_is_said(tmp_path, caplog):
    config = PrepareConfig(source=Movielens(ratings=ML_1M), output=tmp_path / "out", split="time")
    info = prepare(config)
    assert re.search(r"51% of the rows share timestamp 0", caplog.text)
    assert info == read_dataset_info(tmp_path / "out")
    assert info.splits["train"].num_rows == pytest.approx(800_000, rel=0.01)


def test_avazu_of_a_single_hour_cannot_be_split_by_time(tmp_path):
    config = PrepareConfig(source=Avazu(inputs=(AVAZU,)), output=tmp_path / "out", split="time")
    with pytest.raises(ValueError, match="a split by time is of no use here: 1 distinct times"):
        prepare(config)
    assert list(tmp_path.iterdir()) == []
