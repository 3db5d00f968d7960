"""Every benchmark runs end to end on a small dataset and compares like with like."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.sizing import Uniform
from models.tables import Block, FieldStats, SizingPlan
from service.bench import loader, lookup, step
from service.bench.harness import RaceConfig
from service.bench.options import LoaderConfig, LookupConfig, StepConfig
from service.bench.plain import PlainDeepFM, PlainDLRM
from service.bench.trainers import ENTRANTS, ConstantFields, DirectTables, StackedTable
from service.commands.bench import main
from service.data.batch import FeatureBuilder
from service.data.dataset import read_dataset_info
from service.data.examples import Columns
from service.data.ingest.options import PrepareConfig
from service.data.ingest.prepare import prepare
from service.data.readers.synthetic import Synthetic
from service.sizing import SizingFile, write_sizing

ONCE = RaceConfig(repeats=1, quiet_seconds=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "data"
    source = Synthetic(rows=3000, scale=0.001)
    prepare(PrepareConfig(source=source, output=folder, threads=1), lambda progress: None)
    return folder


def step_config(data: Path, **options: object) -> StepConfig:
    small = {"batch_size": 128, "warmup_steps": 2, "steps": 3, "threads": 1, "race": ONCE}
    return StepConfig(data=data, **{**small, **options})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["dlrm", "deepfm"])
def test_all_contenders_train_and_all_but_the_bounds_are_scored(data: Path, network: str) -> None:
    report = step.run(step_config(data, networks=(network,)))
    for contender in report.contenders:
        assert report.spread(contender.name, "examples_per_second").median > 0
        scored = report.spread(contender.name, "auc")
        assert (scored is None) == contender.is_bound


def test_the_command_measures_the_product_and_writes_what_it_shows(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "step.json"
    flags = f"step --data {data} --networks dlrm --only mixdim-fp32 dense-bound-fp32".split()
    flags += f"--batch-size 128 --steps 2 --warmup-steps 2 --output {output}".split()
    assert main([*flags, "--repeats", "1", "--quiet-seconds", "0"]) == 0
    found = json.loads(output.read_text())
    shown = capsys.readouterr().out
    assert list(found["contenders"]) == ["dlrm/mixdim-fp32", "dlrm/dense-bound-fp32"]
    assert all(name in shown for name in found["contenders"])
    assert 0 < found["contenders"]["dlrm/mixdim-fp32"]["figures"]["auc"]["median"] < 1


def test_help_answers_without_torch() -> None:
    """`mixdim bench --help` must not wait for torch."""
    code = """
import sys
from service.commands.bench import main
try:
    main(["--help"])
except SystemExit:
    sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("ingest", "loader", "lookup", "step"))


def test_an_unknown_contender_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match=r"--only \['tensorflow'\]: no such contenders"):
        step.run(step_config(data, only=("tensorflow",)))


def test_too_short_an_epoch_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="expected warmup_steps=200 and steps=3"):
        step.run(step_config(data, networks=("dlrm",), only=("torch-stacked",), warmup_steps=200))


def test_a_missing_dataset_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mixdim prepare"):
        step.run(step_config(tmp_path))


def test_the_loader_reads_as_many_examples_as_a_bare_read(data: Path) -> None:
    config = LoaderConfig(data=data, batch_size=256, threads=1, min_seconds=0.1, race=ONCE)
    info = read_dataset_info(data)
    readers = (loader._in_order, loader._shuffled, loader._row_groups)
    rows = {read.__name__: sum(read(config, info)) for read in readers}
    assert set(rows.values()) == {info.splits["train"].num_rows}
    names = [run.contender for run in loader.run(config).runs]
    assert names == ["loader", "loader-shuffled", "row-groups"]


def test_lookups_are_measured_beside_the_memory(data: Path) -> None:
    config = LookupConfig(data=data, batch_size=128, threads=1, steps=3, race=ONCE)
    report = lookup.run(config)
    bound = report.spread("memory", "examples_per_second")
    kernel = report.spread("fbgemm", "examples_per_second")
    assert bound is not None
    assert kernel is not None
    assert 0 < kernel.median < bound.median


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_lookups_on_a_gpu_stay_below_its_memory(data: Path) -> None:
    config = LookupConfig(data=data, batch_size=1024, device="cuda", dim=128, steps=20, race=ONCE)
    report = lookup.run(config)
    rates = {name: report.spread(name, "examples_per_second") for name in ("fbgemm", "memory")}
    assert all(rate is not None for rate in rates.values())
    assert rates["fbgemm"].median < rates["memory"].median  # type: ignore[union-attr]
    assert report.spread("fbgemm", "hbm_bytes").median > 0  # type: ignore[union-attr]


def test_traffic_of_a_lookup_is_five_rows_and_two_numbers_of_state(data: Path) -> None:
    info = read_dataset_info(data)
    traffic = lookup.bytes_per_example(info, Uniform(dim=16)(info.field_stats))
    assert traffic == pytest.approx(26 * (5 * 16 + 2) * 4)


def plan_of(rows: tuple[int, ...], dim: int) -> SizingPlan:
    fields = [FieldStats(name=f"f{i}", num_embeddings=n, num_lookups=n) for i, n in enumerate(rows)]
    return Uniform(dim=dim)(fields)


def test_the_peers_look_up_the_rows_that_the_ids_name() -> None:
    plan = plan_of((5, 3), 4)
    ids = torch.tensor([[4, 0, 1], [2, 1, 0]], dtype=torch.int32)
    columns = Columns(
        labels=torch.zeros(3).numpy(),
        dense=torch.zeros(3, 1).numpy(),
        ids=ids.numpy(),
        lists=(),
    )
    features = FeatureBuilder(plan)(columns)
    stacked, direct = StackedTable(plan), DirectTables(plan)
    for name, table, weights in (
        ("stacked", stacked, stacked.bag.weight.split([5, 3])),
        ("direct", direct, direct.kernel.split_embedding_weights()),
    ):
        expected = torch.cat([weights[0][ids[0].long()], weights[1][ids[1].long()]], dim=1)
        torch.testing.assert_close(table(features).side_by_side, expected, msg=name)


@pytest.mark.parametrize("network", ["dlrm", "deepfm"])
def test_the_peers_network_computes_what_the_products_does(network: str) -> None:
    from models.networks import NETWORKS

    plan = plan_of((5, 3, 7), 8)
    ours = NETWORKS[network]().build(ConstantFields(plan, 6), 4)
    peer = {"dlrm": PlainDLRM, "deepfm": PlainDeepFM}[network](3, 8, 4)
    pairs = zip(sorted_by_shape(ours), sorted_by_shape(peer), strict=True)
    for mine, theirs in pairs:
        theirs.data.copy_(mine)
    features = FeatureBuilder(plan)(
        Columns(
            labels=torch.zeros(6).numpy(),
            dense=torch.zeros(6, 4).numpy(),
            ids=torch.zeros(3, 6, dtype=torch.int32).numpy(),
            lists=(),
        )
    )
    dense = torch.randn(6, 4)
    expected = ours(dense, features)
    torch.testing.assert_close(peer(dense, ours.embeddings.fields), expected)


def sorted_by_shape(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The layers in the order in which both networks define them."""
    return [p for name, p in network.named_parameters() if not name.startswith("embeddings.")]


def test_contenders_have_names_of_their_own_and_peers_use_nothing_of_the_product() -> None:
    names = [entrant.name for entrant in ENTRANTS]
    assert len(set(names)) == len(names)
    peers = {"torch-stacked", "fbgemm-direct"}
    assert not any(entrant.keeps_memory for entrant in ENTRANTS if entrant.name in peers)


def test_packed_and_hashed_tables_are_looked_up_as_they_are_stored(
    data: Path, tmp_path: Path
) -> None:
    info = read_dataset_info(data)
    fields = {
        stats.name: (
            Block(
                num_embeddings=-(-stats.num_embeddings // 2),
                hashed_ids=stats.num_embeddings // 2,
                embedding_dim=1,
                asked_dim=1.0,
            ),
        )
        for stats in info.field_stats
    }
    sizing = SizingFile(format_version=1, fields=fields, out_dim=4)
    write_sizing(sizing, tmp_path / "sizing.json")
    config = LookupConfig(data=data, sizing=tmp_path / "sizing.json", batch_size=128, steps=2)
    figures = lookup._run_kernel(config, info, sizing.plan, 0)
    assert figures["examples_per_second"] > 0
    assert lookup.bytes_per_example(info, sizing.plan) == pytest.approx(26 * (5 * 4 + 2) * 4)
