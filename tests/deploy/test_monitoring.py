"""Dashboard, alerts and containers: they parse, and they name only what exists."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.metrics import TrainMetrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
COMPOSE = ROOT / "docker" / "compose.yaml"
METRIC = re.compile(r"\bmixdim_\w+")


@pytest.fixture(scope="module")
def declared() -> set[str]:
    """Names that a query may use: of the samples, not of the families."""
    registry = CollectorRegistry()
    metrics = TrainMetrics(registry)
    metrics.table_bytes.labels("C1", "0")
    metrics.unknown_ids.labels("C1")
    metrics.set_scores("test", {"auc": 1, "log_loss": 0, "ne": 0, "calibration": 1, "rmse": 0})
    return {sample.name for family in registry.collect() for sample in family.samples}


@pytest.fixture(scope="module")
def dashboard() -> Any:
    return json.loads((GRAFANA / "dashboard.json").read_text())


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load(COMPOSE.read_text())


def queries(dashboard: Any) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        yield variable["query"]["query"]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_dashboard_asks_only_for_declared_metrics(dashboard: Any, declared: set[str]) -> None:
    asked = {name for query in queries(dashboard) for name in METRIC.findall(query)}
    assert len(asked) > 10
    assert asked - declared == set()


def test_alerts_ask_only_for_declared_metrics(declared: set[str]) -> None:
    asked = {name for rule in alerts() for name in METRIC.findall(rule["expr"])}
    assert len(asked) > 5
    assert asked - declared == set()


def test_every_alert_says_what_to_do() -> None:
    assert all({"summary", "action"} <= rule["annotations"].keys() for rule in alerts())


def test_every_panel_has_a_description_and_a_place_of_its_own(dashboard: Any) -> None:
    cells = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in dashboard["panels"]
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24, "Grafana's grid has 24 columns"
    assert all(panel["description"] for panel in dashboard["panels"])
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_the_dashboard_finds_its_data_source(dashboard: Any) -> None:
    provisioned = GRAFANA / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(provisioned.read_text())["datasources"]
    used = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert used == {source["uid"]}


def test_grafana_looks_where_compose_mounts_the_dashboard(compose: Any) -> None:
    provider = GRAFANA / "provisioning" / "dashboards" / "mixdim.yml"
    (folder,) = yaml.safe_load(provider.read_text())["providers"]
    mounts = compose["services"]["grafana"]["volumes"]
    assert any(f":{folder['options']['path']}/dashboard.json" in mount for mount in mounts)


def test_prometheus_scrapes_every_rank_that_compose_starts(compose: Any) -> None:
    train = compose["services"]["train"]["command"]
    options = dict(option[2:].split("=") for option in train if "=" in option)
    first, ranks = int(options["metrics-port"]), int(options["nproc"])
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (static,) = job["static_configs"]
    assert static["targets"] == [f"train:{first + rank}" for rank in range(ranks)]
    assert options["metrics-host"] == "0.0.0.0"


def test_compose_opens_ports_on_this_machine_only(compose: Any) -> None:
    ports = [port for service in compose["services"].values() for port in service["ports"]]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_files_that_compose_mounts_exist(compose: Any) -> None:
    mounts = [m for service in compose["services"].values() for m in service["volumes"]]
    own = [mount.split(":")[0] for mount in mounts if mount.startswith("..")]
    assert len(own) == 3
    assert all((COMPOSE.parent / path).exists() for path in own)


def test_the_image_has_no_entry_point_and_no_root() -> None:
    instructions = [
        line.split(maxsplit=1)
        for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines()
        if line and line[0].isupper()
    ]
    names = [instruction[0] for instruction in instructions]
    assert "ENTRYPOINT" not in names  # TorchX passes a shell as the command
    users = [rest for name, rest in instructions if name == "USER"]
    assert users[-1:] == ["10001"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    for file in (PROMETHEUS / "alerts.yml", Path(__file__).with_name("alerts_test.yml")):
        shutil.copy(file, tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
