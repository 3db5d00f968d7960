"""The benchmark of checkpoints measures every way in this process, small."""

import pytest

from service.bench.checkpoint import WAYS, measure
from service.bench.checkpoint_options import CheckpointConfig


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_every_way_moves_its_bytes_and_leaves_nothing(way, tmp_path):
    config = CheckpointConfig(folder=tmp_path, mebibytes=(1,))
    figures = measure(config, 1, way[2], 0)
    assert figures["bytes_per_second"] * figures["seconds"] > (1 << 20) - 1
    assert figures.get("stall_seconds", 0) <= figures["seconds"]
    assert list(tmp_path.iterdir()) == []


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"mebibytes=\(0,\)"):
        CheckpointConfig(mebibytes=(0,))
