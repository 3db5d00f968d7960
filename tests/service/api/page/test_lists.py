"""Lists of the page in a real browser, before a service whose jobs are a line of shell."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from service.api.home import Home
from tests.service.api.page.browser import PATIENT_MILLISECONDS, Visit, chromium
from tests.service.api.served import Client, serving
from tests.service.api.things import fill

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENT_MILLISECONDS)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A service with 61 runs, of which one is a real one."""
    home = Home(tmp_path / "home")
    fill(home)
    for number in range(60):
        run = home.path / "runs" / f"run-{number:02}"
        run.mkdir()
        (run / "run.json").write_text("{}")
    with serving(home.path, "exit 3") as served:
        yield served


@pytest.fixture
def visit(client: Client) -> Iterator[Visit]:
    with chromium() as browser:
        found = Visit(browser, str(client.http.base_url).rstrip("/"))
        found.log_in(client.secrets["submitter"])
        yield found
        found.close()


def test_runs_are_found_by_name_and_by_state(visit: Visit) -> None:
    rows = visit.page.locator("tbody tr")
    visit.open("runs")
    expect(rows).to_have_count(50)
    visit.page.get_by_role("link", name="Next page").click()
    expect(rows).to_have_count(11)
    visit.page.get_by_label("Name").fill("run-4")
    visit.page.keyboard.press("Enter")
    expect(rows).to_have_count(10)
    visit.page.get_by_label("State").select_option("failed")
    expect(visit.page.get_by_text("No run matches")).to_be_visible()
    visit.page.get_by_role("link", name="Show all runs").click()
    expect(rows).to_have_count(50)


def test_every_name_can_be_chosen_however_many_there_are(visit: Visit) -> None:
    visit.open("submit/evaluate")
    visit.page.get_by_label("run (needed)").select_option("run-59")


def test_raw_logs_are_sent_and_chosen(visit: Visit, client: Client, tmp_path: Path) -> None:
    client.call("PUT", "/api/v1/uploads/days/day_1.gz", content=b"x")
    (tmp_path / "my day (2).csv").write_bytes(b"1,2")
    (tmp_path / "day_3.csv").write_bytes(b"3")
    visit.open("submit/prepare")
    visit.page.get_by_label("method").select_option("criteo")
    files = [tmp_path / "my day (2).csv", tmp_path / "day_3.csv"]
    visit.page.get_by_label("Send files").set_input_files(files)
    expect(visit.page.get_by_text("Sent: my-day--2-.csv, day_3.csv.")).to_be_visible()
    assert visit.examine() == []
    visit.page.get_by_label("Send files").set_input_files(files[1:])
    expect(visit.page.get_by_text("'day_3.csv' is among the uploads already")).to_be_visible()
    inputs = visit.page.get_by_label("inputs")
    expect(inputs).to_have_values(["day_3.csv", "my-day--2-.csv"])
    inputs.select_option(["days/day_1.gz", "my-day--2-.csv"])
    visit.page.get_by_label("name").fill("chosen")
    visit.page.get_by_role("button", name="Submit").click()
    expect(visit.page.get_by_role("heading", name="chosen")).to_be_visible()
    (job,) = client.get("/jobs?name=chosen")["items"]
    assert sorted(job["request"]["inputs"]) == ["days/day_1.gz", "my-day--2-.csv"]
    kept = client.service.home.path / "uploads" / "my-day--2-.csv"
    assert kept.read_bytes() == b"1,2"
