"""Sizing plans are raced on two ranks, and the bytes that travel are those of their widths."""

from pathlib import Path

import pytest

from models.sizing import Uniform
from service.bench import plans
from service.bench.harness import RaceConfig
from service.bench.options import PlansConfig
from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.readers.synthetic import Synthetic
from service.sizing import write_sizing
from service.sizing_request import SizingRequest, size_dataset

ONCE = RaceConfig(repeats=1, quiet_seconds=0)
BATCH = 512


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans") / "data"
    source = Synthetic(rows=24_000, scale=0.001)
    prepare(PrepareConfig(source=source, output=folder, threads=1), lambda progress: None)
    for dim in (4, 16):
        sizing = size_dataset(folder, SizingRequest(scheme=Uniform(dim=dim)))
        write_sizing(sizing, folder / f"uniform-{dim}.json")
    return folder


@pytest.mark.dist
def test_measured_traffic_grows_with_the_widths(data: Path) -> None:
    files = tuple(data / f"uniform-{dim}.json" for dim in (4, 16))
    config = PlansConfig(
        data=data, sizings=files, nproc=(2,), batch_size=BATCH, warmup_steps=2, steps=8, race=ONCE
    )
    report = plans.run(config)
    narrow, wide = (
        report.spread(f"fp32, 2 ranks/{file.stem}", "traffic_bytes_per_step").median  # type: ignore[union-attr]
        for file in files
    )
    # Half of the vectors cross from each of two ranks, forward, and their gradients come back;
    # what else travels (ids, the network's gradients) hardly depends on the width.
    more = 2 * BATCH * 26 * (16 - 4) * 4
    assert narrow > 0
    assert wide - narrow > 0.8 * more


def test_too_short_an_epoch_is_refused(data: Path) -> None:
    config = PlansConfig(data=data, sizings=(data / "uniform-4.json",), steps=10_000)
    with pytest.raises(ValueError, match=r"expected warmup_steps \+ steps = 10020"):
        plans.run(config)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="network='dlmr' is not a network; networks: dlrm"):
        PlansConfig(network="dlmr")
