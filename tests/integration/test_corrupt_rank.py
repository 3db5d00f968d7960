"""A part that is damaged on one machine only ends the job of all ranks, and soon."""

import os
import shutil
import time

import pytest

from service.config import TrainConfig
from service.data.part_file import PartFile
from service.distributed import launch
from service.train.loop import train
from tests.service.train.runs import make_run

PART = "validation/part-00002.parquet"


def train_with_a_bad_disk(config: TrainConfig) -> object:
    """Train; the second rank has another copy of the data."""
    if os.environ["RANK"] == "1":
        open_part = PartFile.__init__
        PartFile.__init__ = lambda self, folder, part, schema: open_part(
            self, folder.parent / "bad", part, schema
        )
    return train(config)


@pytest.mark.dist
def test_one_corrupt_rank_stops_all_by_name_and_keeps_the_checkpoints(tmp_path):
    config = make_run(tmp_path, checkpoint_every=10)
    shutil.copytree(tmp_path / "data", tmp_path / "bad")
    content = bytearray((tmp_path / "bad" / PART).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bad" / PART).write_bytes(content)
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"bad/validation/part-00002.parquet, row group \d+ "):
        launch(train_with_a_bad_disk, config, nproc=2, name="corrupt", max_restarts=3)
    assert time.monotonic() - start < 120
    steps = [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    assert steps[-1] == "step-00000010"
