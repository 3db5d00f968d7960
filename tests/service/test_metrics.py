"""The metrics' names are an interface: dashboards, alerts and people's queries hold on to them."""

import ast
import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.metrics import (
    PORT_TAKEN,
    SCORES,
    EmbeddingMetrics,
    JobCounts,
    ServiceMetrics,
    TrainMetrics,
    peak_memory_bytes,
    start_exporter,
)
from service.metrics.serving import ServingMetrics
from tests.free_ports import free_ports

ROOT = Path(__file__).parents[2]
STATUS = Path("/proc/self/status")
GOLDEN = ROOT / "tests" / "golden" / "metrics.txt"
UNITS = (
    *("total", "seconds", "bytes", "ratio", "info"),
    # Plain numbers, named by what they count.
    *(
        "loss",
        "error",
        "epoch",
        "rows",
        "step",
        "steps",
        "norm",
        "rank",
        "jobs",
        "ranks",
        "followers",
        "fds",
    ),
)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def everything(registry: CollectorRegistry) -> CollectorRegistry:
    """Every metric of the product in one registry, which says that no two have one name."""
    TrainMetrics(registry)
    EmbeddingMetrics(registry)
    ServiceMetrics(registry)
    ServingMetrics(registry, ("C1",))
    registry.register(JobCounts(lambda: {"queued": 3}, lambda: 60.0))
    return registry


@pytest.fixture
def free_port() -> int:
    """A port that is free, and so is the next one."""
    return free_ports(2)


def families(registry: CollectorRegistry) -> Iterator[str]:
    """Lines that declare a metric, without the creation times that the client adds."""
    for line in generate_latest(registry).decode().splitlines():
        if line.startswith("#") and not line.split()[2].endswith("_created"):
            yield line


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        return str(page.read().decode())


def test_names_types_and_help_are_the_recorded_ones(everything: CollectorRegistry) -> None:
    page = "\n".join(families(everything)) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(page)
    assert page == GOLDEN.read_text()


def test_every_name_ends_in_its_unit(everything: CollectorRegistry) -> None:
    names = {line.split()[2] for line in families(everything)}
    assert {name for name in names if not name.endswith(UNITS)} == set()
    assert all(name.startswith("mixdim_") for name in names)


def test_the_page_on_monitoring_explains_every_metric(everything: CollectorRegistry) -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    explained = re.findall(r"^\| `(mixdim_\w+)` \| (\w+)", page, flags=re.MULTILINE)
    declared = [line.split()[2:4] for line in families(everything) if line.startswith("# TYPE")]
    assert sorted(map(list, explained)) == sorted(declared)


def test_no_other_file_declares_a_metric() -> None:
    types = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum", "REGISTRY"}
    found = [
        (path.parent.name, alias.name)
        for package in ("service", "sharding", "models", "deploy")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client")
        for alias in node.names
        if alias.name in types
    ]
    assert {folder for folder, _ in found} == {"metrics"}
    assert "REGISTRY" not in {name for _, name in found}


def test_a_service_that_has_done_nothing_yet_says_so(everything: CollectorRegistry) -> None:
    """A series that begins with its first event is never seen to rise."""
    value = everything.get_sample_value
    assert value("mixdim_service_jobs_ended_total", {"event": "fail"}) == 0
    assert value("mixdim_service_jobs_started_total") == 0


def test_the_queue_is_looked_up_when_somebody_asks(everything: CollectorRegistry) -> None:
    assert everything.get_sample_value("mixdim_service_jobs", {"state": "queued"}) == 3
    assert everything.get_sample_value("mixdim_service_oldest_queued_seconds") == 60


def test_two_runs_in_one_process_do_not_mix() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    TrainMetrics(first).examples.inc(4096)
    TrainMetrics(second)
    assert first.get_sample_value("mixdim_train_examples_total") == 4096
    assert second.get_sample_value("mixdim_train_examples_total") == 0


def test_checkpoint_age_is_the_time_since_the_last_one(registry: CollectorRegistry) -> None:
    now = [1000.0]
    metrics = TrainMetrics(registry, clock=lambda: now[0])
    now[0] += 60
    assert registry.get_sample_value("mixdim_checkpoint_age_seconds") == 60
    metrics.checkpoint_saved()
    now[0] += 5
    assert registry.get_sample_value("mixdim_checkpoint_age_seconds") == 5


def test_every_score_is_shown_under_its_split(registry: CollectorRegistry) -> None:
    metrics = TrainMetrics(registry)
    metrics.set_scores("validation", dict.fromkeys(SCORES, 0.25))
    metrics.set_scores("test", {"auc": 0.75})
    shown = [
        registry.get_sample_value(f"mixdim_eval_{name}", {"split": "validation"})
        for name, _ in SCORES.values()
    ]
    assert shown == [0.25] * len(SCORES)
    assert registry.get_sample_value("mixdim_eval_auc_ratio", {"split": "test"}) == 0.75


def test_a_score_nobody_declared_is_refused(registry: CollectorRegistry) -> None:
    with pytest.raises(KeyError, match="accuracy"):
        TrainMetrics(registry).set_scores("test", {"accuracy": 0.9})


@pytest.mark.skipif(not STATUS.exists(), reason="the oracle is Linux's /proc")
def test_peak_memory_is_the_high_water_mark_of_the_kernel() -> None:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    assert peak_memory_bytes() == pytest.approx(int(line.split()[1]) * 1024, rel=0.05)


def test_exporters_of_one_machine_serve_their_own_ranks(free_port: int) -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    for rank, own in enumerate(registries):
        TrainMetrics(own).table_bytes.labels(table="C1", rank=str(rank)).set(64)
    with (
        start_exporter(registries[0], free_port, local_rank=0) as first,
        start_exporter(registries[1], free_port, local_rank=1) as second,
    ):
        assert (first.port, second.port) == (free_port, free_port + 1)
        assert 'mixdim_table_bytes{rank="0",table="C1"} 64.0' in read(free_port)
        assert 'mixdim_table_bytes{rank="1",table="C1"} 64.0' in read(free_port + 1)


def test_a_closed_exporter_frees_its_port(registry: CollectorRegistry, free_port: int) -> None:
    for _ in range(2):
        exporter = start_exporter(registry, free_port)
        exporter.close()
        exporter.close()
        assert exporter.port is None


def test_port_zero_serves_nothing_on_any_rank(registry: CollectorRegistry) -> None:
    with start_exporter(registry, 0, local_rank=3) as exporter:
        assert exporter.port is None


def test_a_taken_port_is_named(registry: CollectorRegistry, free_port: int) -> None:
    taken = rf"metrics port {free_port} on 127\.0\.0\.1 of local rank 0: .* --metrics-port"
    with start_exporter(registry, free_port), pytest.raises(OSError, match=taken) as raised:
        start_exporter(registry, free_port)
    assert PORT_TAKEN.search(str(raised.value))


@pytest.mark.parametrize(("port", "local_rank"), [(65_535, 1), (-1, 0)])
def test_a_port_that_cannot_be_is_refused(
    registry: CollectorRegistry, port: int, local_rank: int
) -> None:
    with pytest.raises(ValueError, match=r"expected .*65535; try --metrics-port 9400"):
        start_exporter(registry, port, local_rank=local_rank)
