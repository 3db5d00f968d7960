"""Dashboards: their files are those of the code, and they ask only for what there is."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.__main__ import BOARDS, FOLDER, as_json
from deploy.grafana.panels import Board
from tests.deploy.monitored import GRAFANA, METRIC, ROOT, declared_names


@pytest.fixture(params=BOARDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dashboard(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def queries(dashboard: Any) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard.get("templating", {}).get("list", []):
        yield variable["query"]


def test_the_files_are_those_of_the_code(name: str) -> None:
    written = (FOLDER / f"{name}.json").read_text()
    assert written == as_json(BOARDS[name]), "run: make dashboards"


def test_there_are_no_other_files() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(BOARDS)


def test_grafana_can_read_them(dashboard: Any) -> None:
    read = Dashboard.from_json(dashboard)
    assert read.title == dashboard["title"]
    assert len(read.panels or []) == len(dashboard["panels"])


def test_they_ask_only_for_declared_metrics(dashboard: Any) -> None:
    asked = {found for query in queries(dashboard) for found in METRIC.findall(query)}
    assert len(asked) >= 8
    assert asked - declared_names() == set()


def test_no_metric_is_asked_for_by_nobody() -> None:
    """Every metric is on a dashboard, in a rule or in an alert, or named here with the reason."""
    unasked = {
        "mixdim_process_virtual_memory_bytes",  # the client library's; resident memory says more
        "mixdim_process_start_time_seconds",
        "mixdim_process_open_fds",
        "mixdim_process_max_fds",
        "mixdim_eval_mean_squared_error",  # its root is shown
        "mixdim_eval_rows",
    }
    rules = "".join(path.read_text() for path in (ROOT / "deploy" / "prometheus").glob("*.yml"))
    boards = "".join(path.read_text() for path in FOLDER.iterdir())
    asked = set(METRIC.findall(rules + boards))
    families = {
        line.split()[2]
        for line in (ROOT / "tests" / "golden" / "metrics.txt").read_text().splitlines()
        if line.startswith("# TYPE")
    }
    unseen = {name for name in families if not any(a.startswith(name) for a in asked)}
    assert unseen == unasked


def test_every_panel_has_a_description_and_a_place_of_its_own(dashboard: Any) -> None:
    cells = [
        (panel["gridPos"].get("x", 0) + dx, panel["gridPos"].get("y", 0) + dy)
        for panel in dashboard["panels"]
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) == 23, "Grafana's grid has 24 columns"
    assert all(panel["description"] for panel in dashboard["panels"])
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_queries_leave_no_placeholder(dashboard: Any) -> None:
    assert not [query for query in queries(dashboard) if "@" in query]


def test_readers_choose_what_they_see(name: str, dashboard: Any) -> None:
    board: Board = BOARDS[name]
    shown = [variable["name"] for variable in dashboard.get("templating", {}).get("list", [])]
    assert shown == list(board.variables)
    assert shown == {"jobs": [], "serving": ["instance"]}.get(name, ["job", "run", "rank"])


def test_they_find_their_data_source(dashboard: Any) -> None:
    provisioned = GRAFANA / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(provisioned.read_text())["datasources"]
    used = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert used == {source["uid"]}


def test_grafana_looks_where_compose_mounts_them() -> None:
    provider = GRAFANA / "provisioning" / "dashboards" / "mixdim.yml"
    (folder,) = yaml.safe_load(provider.read_text())["providers"]
    grafana = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["grafana"]
    assert f"../deploy/grafana/dashboards:{folder['options']['path']}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder['options']['path']}/training.json"
