"""The page in a real browser, before a real service that runs real jobs."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from playwright.sync_api import Browser, expect

from service.api.asked import Verb
from tests.service.api.page.browser import (
    DESKTOP,
    PATIENT_MILLISECONDS,
    PHONE,
    Visit,
    chromium,
)
from tests.service.api.page.served import Served, served

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENT_MILLISECONDS)

SECONDS = 600
TRAIN_MILLISECONDS = 1000.0 * SECONDS
LONG = {"batch-size": 64, "epochs": 500, "log-every": 5, "patience": 10**6}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With a dataset and two plans of it."""
    with served(tmp_path_factory.mktemp("service") / "home") as found:
        found.let_in("ada", "submitter")
        found.let_in("vera", "viewer")
        made_up = {"rows": 20_000, "scale": 0.001}
        found.run("ada", verb="prepare", method="synthetic", name="clicks", options=made_up)
        for budget in ("2x", "8x"):
            plan = {"data": "clicks", "budget": budget, "options": {"scheme": "popularity"}}
            found.run("ada", verb="size", name=f"pop-{budget}", **plan)
        yield found


@pytest.fixture(scope="module")
def runs(service: Served) -> tuple[str, str]:
    """Two trainings that have ended."""
    jobs = []
    for sizing, rate in (("pop-2x", 0.05), ("pop-8x", 0.1)):
        options = {"max-steps": 60, "validate-every": 10, "optimizer.sparse-lr": rate}
        plan = {"preset": "smoke", "data": "clicks", "sizing": sizing, "options": options}
        plan |= {"name": f"{sizing}-run", "ranks_per_node": 2}
        jobs.append(service.submit("ada", verb="train", **plan))
    states = [service.wait(job, user="ada")["state"] for job in jobs]
    assert states == ["succeeded", "succeeded"]
    return "pop-2x-run", "pop-8x-run"


@pytest.fixture(scope="module")
def frontier(service: Served) -> str:
    """A comparison of two methods, as its command leaves it."""
    score = {"sd": 0.002, "half_width": 0.003, "n": 3}
    points = [
        {
            **{"recipe": "fm", "sizing": sizing, "budget": budget, "dtype": "", "metric": "auc"},
            "figures": {"training_bytes": num_bytes, "serving_bytes": num_bytes / 2},
            "scores": {"auc": {"mean": 0.7 + num_bytes / 1e7, **score}},
            "widths": {"C1": [4], "C2": [8, 4]},
        }
        for sizing in ("uniform", "popularity")
        for budget, num_bytes in (("4x", 250_000), ("2x", 500_000))
    ]
    path = service.home / "frontiers" / "methods" / "frontier.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(points))
    return "methods"


@pytest.fixture
def visit(browser: Browser, service: Served) -> Iterator[Visit]:
    found = Visit(browser, service.address)
    yield found
    found.close()


def test_only_a_good_token_comes_in(visit: Visit, service: Served) -> None:
    visit.page.goto(service.address)
    visit.page.get_by_label("Access token").fill("wrong")
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("alert")).to_contain_text("not accepted")
    visit.log_in(service.tokens["ada"])
    visit.page.get_by_role("button", name="Log out").click()
    expect(visit.page.get_by_label("Access token")).to_be_visible()
    visit.open("runs")
    expect(visit.page.get_by_label("Access token")).to_be_visible()


def test_a_submitted_training_is_watched_to_its_end(visit: Visit, service: Served) -> None:
    visit.log_in(service.tokens["ada"])
    page = visit.page
    page.get_by_role("link", name="Submit a job").click()
    page.get_by_label("preset").select_option("smoke")
    page.get_by_label("data (needed)").select_option("clicks")
    page.get_by_label("sizing").select_option("pop-2x")
    page.get_by_label("name").fill("watched")
    page.get_by_label("max-steps").fill("60")
    page.get_by_label("validate-every").fill("10")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="watched")).to_be_visible()
    expect(page.locator("h1 .badge")).to_have_text("running", timeout=TRAIN_MILLISECONDS)
    expect(page.locator(".curve").first).to_be_visible(timeout=TRAIN_MILLISECONDS)
    page.get_by_role("tab", name="Log").click()
    expect(page.locator("log-view pre")).to_contain_text("step ", timeout=TRAIN_MILLISECONDS)
    expect(page.locator("h1 .badge")).to_have_text("succeeded", timeout=TRAIN_MILLISECONDS)
    expect(page.locator("log-view [role=status]")).to_contain_text("complete")
    page.get_by_role("tab", name="Curves").click()
    expect(page.locator("line-chart").nth(1).locator(".curve circle")).to_have_count(6)
    page.get_by_role("tab", name="Tables").click()
    expect(page.locator("tbody tr")).to_have_count(26)
    page.get_by_role("tab", name="Placement").click()
    expect(page.get_by_role("heading", name="Rank 0")).to_be_visible()
    page.get_by_role("link", name="watched").click()
    scores = service.call("runs/watched", user="ada")["scores"]
    expect(page.locator(".tiles")).to_contain_text(f"{scores['auc']:.4f}")


def test_a_training_is_cancelled(visit: Visit, service: Served) -> None:
    plan = {"preset": "smoke", "data": "clicks", "sizing": "pop-2x", "options": LONG}
    job = service.submit("ada", verb="train", name="endless", **plan)
    visit.log_in(service.tokens["ada"])
    visit.page.get_by_role("link", name="endless").click()
    badge = visit.page.locator("h1 .badge")
    expect(badge).to_have_text("running", timeout=TRAIN_MILLISECONDS)
    visit.page.get_by_role("button", name="Cancel").click()
    expect(badge).to_have_text("cancelled", timeout=TRAIN_MILLISECONDS)
    assert service.call(f"jobs/{job}", user="ada")["state"] == "cancelled"
    expect(visit.page.get_by_role("button", name="Retry")).to_be_visible()


def test_two_runs_are_compared(visit: Visit, service: Served, runs: tuple[str, str]) -> None:
    visit.log_in(service.tokens["vera"])
    visit.open("runs")
    for name in runs:
        visit.page.get_by_label(f"compare {name}").check()
    visit.page.get_by_role("link", name="Compare").click()
    page = visit.page
    one, two = (service.call(f"runs/{name}", user="vera")["scores"]["auc"] for name in runs)
    row = page.get_by_role("row", name="AUC")
    for shown in (f"{one:.4f}", f"{two:.4f}", f"{abs(two - one):.4f}"):
        expect(row).to_contain_text(shown)
    expect(page.locator("line-chart").first.locator(".curve")).to_have_count(2)
    different = page.get_by_role("row", name="optimizer.sparse_lr")
    expect(different.locator("mark")).to_have_count(2)
    expect(page.get_by_role("row", name="optimizer.schedule")).to_have_count(0)
    page.get_by_label("Also what is the same").check()
    expect(page.get_by_role("row", name="optimizer.schedule")).to_have_count(1)


def test_a_point_of_a_frontier_leads_to_its_run(
    visit: Visit, service: Served, runs: tuple[str, str], frontier: str
) -> None:
    visit.log_in(service.tokens["vera"])
    visit.open("frontiers")
    visit.page.get_by_role("link", name="clicks").click()
    point = visit.page.locator("frontier-chart a.mark").first
    point.focus()
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("h1")).to_contain_text("-run")
    visit.open(f"frontiers/of/{frontier}")
    visit.page.get_by_role("row").filter(has_text="popularity").first.get_by_role("link").click()
    expect(visit.page.get_by_role("heading", name="popularity, 4x")).to_be_visible()


def test_a_refused_value_is_shown_at_its_field(visit: Visit, service: Served) -> None:
    visit.log_in(service.tokens["ada"])
    visit.open("submit/train")
    visit.page.get_by_label("data (needed)").select_option("clicks")
    visit.page.get_by_label("sizing").select_option("pop-2x")
    visit.page.get_by_label("epochs").fill("many")
    visit.page.keyboard.press("Enter")
    field = visit.page.get_by_label("epochs")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    expect(visit.page.locator("#field-options-epochs-wrong")).to_contain_text("options.epochs")
    expect(field).to_have_value("many")


def test_a_viewer_can_only_look(visit: Visit, service: Served, runs: tuple[str, str]) -> None:
    visit.log_in(service.tokens["vera"])
    expect(visit.page.get_by_role("link", name="Submit a job")).to_have_count(0)
    visit.page.get_by_role("link", name=runs[0]).first.click()
    expect(visit.page.locator("h1")).to_contain_text(runs[0])
    expect(visit.page.locator(".actions button")).to_have_count(0)


def test_everything_is_reached_by_keyboard(
    visit: Visit, service: Served, runs: tuple[str, str]
) -> None:
    visit.log_in(service.tokens["vera"])
    visit.open(f"runs/{runs[0]}")
    keys = visit.page.keyboard
    visit.page.reload()
    visit.page.locator(".tabs").wait_for()
    keys.press("Tab")
    expect(visit.page.get_by_text("Skip to the content")).to_be_focused()
    keys.press("Enter")
    visit.page.get_by_role("tab", name="Curves").focus()
    keys.press("ArrowRight")
    expect(visit.page.get_by_role("tab", name="Tables")).to_have_attribute("aria-selected", "true")
    keys.press("ArrowLeft")
    visit.page.locator(".plot").first.focus()
    keys.press("Home")
    expect(visit.page.locator(".readout").first).to_contain_text("at 5")


def test_a_chart_is_a_table_too(visit: Visit, service: Served, runs: tuple[str, str]) -> None:
    visit.log_in(service.tokens["vera"])
    visit.open(f"runs/{runs[0]}")
    chart = visit.page.locator("line-chart").first
    chart.get_by_text("Values as a table").click()
    lines = service.call(f"runs/{runs[0]}/metrics?kind=train", user="vera")["items"]
    expect(chart.locator("tbody tr")).to_have_count(len(lines))
    expect(chart.locator("tbody tr").last).to_contain_text(f"{lines[-1]['loss']:.4f}")


def test_the_page_comes_back_when_the_service_does(visit: Visit, service: Served) -> None:
    visit.log_in(service.tokens["vera"])
    visit.page.route("**/api/v1/jobs*", lambda route: route.abort())
    expect(visit.page.locator("#lost")).to_contain_text("does not answer")
    visit.page.unroute("**/api/v1/jobs*")
    expect(visit.page.locator("#lost")).to_be_empty()


def test_a_file_of_a_run_is_saved(visit: Visit, service: Served, runs: tuple[str, str]) -> None:
    visit.log_in(service.tokens["vera"])
    visit.open(f"runs/{runs[0]}/files")
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("button", name="Save result.json").click()
    original = service.home / "runs" / runs[0] / "result.json"
    assert Path(saved.value.path()).read_bytes() == original.read_bytes()


@pytest.mark.parametrize(
    ("size", "scheme"), [*product((DESKTOP, PHONE), ("light", "dark"))], ids=str
)
def test_every_view_is_accessible_and_fits(
    browser: Browser,
    service: Served,
    runs: tuple[str, str],
    frontier: str,
    size: tuple[int, int],
    scheme: str,
) -> None:
    visit = Visit(browser, service.address, size, scheme)
    job = service.call(f"runs/{runs[0]}", user="vera")["job"]
    of_job = [f"jobs/{job}/{tab}" for tab in ("curves", "tables", "placement", "log", "history")]
    of_run = [f"runs/{runs[0]}/{tab}" for tab in ("curves", "config", "files")]
    lists = [
        "jobs",
        "jobs?state=failed",
        "runs",
        "frontiers",
        "nowhere",
        "jobs/j0000000000000000000",
    ]
    points = [f"frontiers/of/{frontier}/0", "frontiers/on/clicks", f"compare/{runs[0]}/{runs[1]}"]
    forms = [f"submit/{verb}" for verb in get_args(Verb)]
    visit.page.goto(service.address)
    visit.page.get_by_label("Access token").wait_for()
    faults = {"login": visit.examine()}
    visit.log_in(service.tokens["ada"])
    for view in [*lists, *of_job, *of_run, *points, *forms]:
        visit.open(view)
        visit.page.wait_for_timeout(300)
        faults[view] = visit.examine()
    assert {view: found for view, found in faults.items() if found} == {}
    visit.close()


def test_pure_functions_keep_their_promises_in_a_browser(visit: Visit, service: Served) -> None:
    checks = Path(__file__).with_name("checks.js").read_text()
    local = checks.replace("../../../../service/api/page/", "./")
    script = {"body": local, "content_type": "text/javascript"}
    visit.page.route("**/page/checks.js", lambda route: route.fulfill(**script))
    visit.page.goto(service.address)
    faults = visit.page.evaluate(
        """async () => {
          const { checks } = await import("./page/checks.js");
          return Object.entries(checks).map(([name, check]) => {
            try { check(); return null; } catch (error) { return `${name}: ${error}`; }
          }).filter(Boolean);
        }"""
    )
    assert faults == []
