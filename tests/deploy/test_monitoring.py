"""Rules and alerts: they parse, and they name only what exists."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.runbook import PAGE, as_html
from tests.deploy.monitored import METRIC, PROMETHEUS, ROOT, declared_names, rules

RUNBOOK = ROOT / "docs" / "runbook.md"


@pytest.fixture(scope="module")
def declared() -> set[str]:
    return declared_names()


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def sections() -> dict[str, str]:
    """Sections of the runbook by their heading."""
    _, *parts = re.split(r"^## (.*)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_rules_ask_only_for_declared_metrics(declared: set[str]) -> None:
    asked = {name for rule in rules() for name in METRIC.findall(rule["expr"])}
    assert len(asked) > 30
    assert asked - declared == set()


def test_every_alert_says_what_to_do_and_where_to_read_on() -> None:
    for name, rule in alerts().items():
        assert {"summary", "action"} <= rule["annotations"].keys()
        page = "{{ $externalLabels.mixdim_url }}/page/runbook.html"
        assert rule["annotations"]["runbook_url"] == f"{page}#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_runbook_has_one_section_an_alert() -> None:
    assert list(sections()) == list(alerts())
    parts = ("**Means**", "**First look**", "**Commands**", "**Ends**")
    for name, text in sections().items():
        assert [text.count(f"- {part} ") for part in parts] == [1, 1, 1, 1], name


def test_the_page_that_alerts_link_to_is_the_runbook() -> None:
    page = PAGE.read_text()
    assert page == as_html(RUNBOOK.read_text()), "run: make dashboards"
    headings = set(re.findall(r'<h2 id="(\w+)">', page))
    assert headings == {name.lower() for name in alerts()}


def test_the_runbook_points_only_to_its_own_sections() -> None:
    targets = set(re.findall(r"\]\(#(\w+)\)", RUNBOOK.read_text()))
    assert targets <= {name.lower() for name in sections()}


def test_the_page_on_monitoring_lists_every_alert() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    assert re.findall(r"^\| \[`(\w+)`\]\(runbook\.md#\w+\) \|", page, re.MULTILINE) == list(
        alerts()
    )


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_rules_and_alerts_do_what_they_should(tmp_path: Path) -> None:
    tests = Path(__file__).with_name("rules_test.yml")
    for file in (PROMETHEUS / "rules.yml", PROMETHEUS / "alerts.yml", tests):
        shutil.copy(file, tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", tests.name], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_firing() -> None:
    tested = Path(__file__).with_name("rules_test.yml").read_text()
    assert set(re.findall(r'alertname="(\w+)"', tested)) == set(alerts())
