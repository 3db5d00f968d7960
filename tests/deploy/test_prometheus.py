"""A real Prometheus finds the ranks of a real service by asking it, and all queries have data."""

import json
import re
import shutil
import urllib.request
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from deploy.grafana.__main__ import FOLDER
from service.data.dataset import read_dataset_info
from service.distributed import launch
from service.export.config import ExportConfig, Tolerances
from service.export.export import export
from service.sizing import read_sizing, write_sizing
from tests.datasets import rewrite, write_dataset
from tests.deploy.monitored import rules
from tests.deploy.real_model import model_server
from tests.deploy.real_prometheus import WINDOW, prometheus, service, stopped, wait_for
from tests.service.serving.served_runs import make_run as make_raw_run
from tests.service.train.runs import make_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.prometheus,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed"),
]

ENDLESS = {
    "epochs": 100_000,
    "patience": 100_000,
    "batch-size": 64,
    "log-every": 5,
    "checkpoint-every": 20,
}
WIDE = Tolerances(auc=0.2, log_loss=0.2)
"""The served run is too short for its scores to mean anything."""
GRAFANA = {"$__rate_interval": WINDOW, "$__range": "5m"}
"""What Grafana would put there."""
SELECTOR = re.compile(r"\b(?:mixdim[\w:]+|up)(?:\{[^}]*\})?")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A service's folder with data for clicks, for ratings, and with an example that overflows."""
    folder = tmp_path_factory.mktemp("service")
    config = make_run(folder / "made", rows={"train": 20_000, "validation": 2000, "test": 500})
    datasets, sizings = folder / "home" / "datasets", folder / "home" / "sizings"
    datasets.mkdir(parents=True)
    config.data.rename(datasets / "clicks")
    shutil.copytree(datasets / "clicks", datasets / "spoilt")
    rewrite(datasets / "spoilt", overflowing, "train")
    write_dataset(datasets / "ratings", num_embeddings=(40, 30), num_dense=0, rating=True)
    sizing = read_sizing(config.sizing)
    pair = {"C1": sizing.fields["C1"], "C2": (replace(sizing.fields["C1"][0], num_embeddings=30),)}
    for name, plan in (("all", sizing), ("pair", replace(sizing, fields=pair, out_dim=8))):
        (sizings / name).mkdir(parents=True)
        write_sizing(plan, sizings / name / "sizing.json")
    assert read_dataset_info(datasets / "spoilt").splits["train"].num_rows == 20_000
    return folder / "home"


def overflowing(table):
    """The part, with a number that is finite and whose square is not, in its last row."""
    values = table["I2"].to_numpy().copy()
    values[-1] = np.finfo(np.float32).max
    place = table.schema.get_field_index("I2")
    return table.set_column(place, table.schema.field("I2"), pa.array(values))


@pytest.fixture(scope="module")
def served(home):
    with service(home) as running:
        yield running


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A server of a model that is asked all the time, in the folder of Prometheus."""
    folder = tmp_path_factory.mktemp("model")
    run = make_raw_run(folder)
    artifact = folder / "artifact"
    config = ExportConfig(run=run.config.output, output=artifact, tolerance=WIDE)
    launch(export, config, nproc=1, name="export")
    with model_server(tmp_path_factory.mktemp("prometheus"), artifact, run.json_rows) as server:
        yield server


@pytest.fixture(scope="module")
def watching(served, model):
    """Prometheus beside a run of clicks on two ranks, one of ratings, and a model server."""
    train = {"verb": "train", "options": ENDLESS}
    clicks = {"preset": "dlrm", "data": "clicks", "sizing": "all", "ranks_per_node": 2}
    served.ask("jobs", {**train, **clicks, "output": "clicks"})
    ratings = {"preset": "mf", "data": "ratings", "sizing": "pair", "output": "ratings"}
    served.ask("jobs", {**train, **ratings})
    with prometheus(model.path.parent, served) as running:
        wait_for(lambda: running.query('count(up{run=~"clicks|ratings"} == 1) == 3'), 300)
        yield running


def queries():
    """Every query of every panel, as Grafana sends it when everything is chosen."""
    for path in sorted(FOLDER.iterdir()):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"]
                for name, value in GRAFANA.items():
                    query = query.replace(name, value)
                yield f"{path.stem}: {panel['title']}", re.sub(r"\$\w+", ".*", query)


def test_prometheus_finds_the_ranks_by_asking_the_service(served, watching):
    found = {(s["metric"]["run"], s["metric"]["rank"]) for s in watching.query('up{run!=""}')}
    assert found == {("clicks", "0"), ("clicks", "1"), ("ratings", "0")}
    (series,) = watching.query('mixdim_train_steps_total{run="clicks", rank="1"}')
    assert series["metric"]["job"] == "mixdim-train"
    assert series["metric"]["owner"] == "admin"
    assert series["metric"]["job_id"] in {job["id"] for job in served.ask("jobs")["items"]}


def test_every_query_of_every_panel_has_data(watching):
    missing = list(queries())
    assert len(missing) > 60

    def all_have() -> bool:
        missing[:] = [(where, query) for where, query in missing if not watching.query(query)]
        return not missing

    try:
        wait_for(all_have, 300)
    except AssertionError:
        pytest.fail("\n".join(map(str, missing)))


def test_every_rule_is_evaluated_over_data(watching):
    groups = watching.ask("rules")["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    assert len(loaded) == len(rules())
    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}
    asked = {rule["record"] for rule in rules() if "record" in rule}
    asked |= {selector for rule in rules() for selector in SELECTOR.findall(rule["expr"])}
    asked -= {'mixdim_service_requests_total{status=~"5.."}'}  # there are no errors to count
    missing = []

    def all_have() -> bool:
        missing[:] = [query for query in asked if not watching.query(query)]
        return not missing

    try:
        wait_for(all_have, 120)
    except AssertionError:
        pytest.fail("\n".join(missing))


def test_prometheus_finds_the_model_server_in_a_file(model, watching):
    (found,) = watching.query('up{job="mixdim-models"}')
    assert found["metric"]["instance"] == f"127.0.0.1:{model.port}"
    assert {200, 422, 503} <= model.statuses


def test_too_many_rows_and_bad_ones_fire_their_alerts(watching):
    wait_for(lambda: watching.firing("MixdimServingErrors"), 90)
    wait_for(lambda: watching.firing("MixdimServingBadRows"), 90)
    assert not watching.firing("MixdimServingReloadFailed")


def test_an_alert_links_to_its_section_of_a_page_that_everybody_may_read(watching):
    wait_for(lambda: watching.firing("MixdimServingErrors"), 90)
    firing = {found["labels"]["alertname"]: found for found in watching.ask("alerts")["alerts"]}
    link = firing["MixdimServingErrors"]["annotations"]["runbook_url"]
    with urllib.request.urlopen(link, timeout=30) as answer:
        page = answer.read().decode()
    assert f'<h2 id="{link.partition("#")[2]}">MixdimServingErrors</h2>' in page


def test_a_damaged_version_fires_its_alert_and_the_old_one_answers(model, watching, tmp_path):
    good = model.path.resolve()
    damaged = tmp_path / "damaged"
    shutil.copytree(good, damaged)
    with max(damaged.rglob("*"), key=lambda path: path.stat().st_size).open("r+b") as file:
        file.truncate(100)
    model.serve(damaged)
    wait_for(lambda: watching.firing("MixdimServingReloadFailed"), 90)
    assert watching.query("mixdim_serving_model_info")
    model.statuses.clear()
    wait_for(lambda: 200 in model.statuses, 30)
    model.serve(good)
    wait_for(lambda: watching.query('mixdim_serving_reloads_total{outcome="taken"} == 1'), 90)


def test_a_stall_fires_its_alerts_and_ends_them(watching):
    (series,) = watching.query('up{run="clicks", rank="1"}')
    port = int(series["metric"]["instance"].rpartition(":")[2])
    with stopped(port):
        wait_for(lambda: watching.firing("MixdimRankHangs", run="clicks", rank="0"), 90)
        wait_for(lambda: watching.firing("MixdimTrainStuck", run="clicks", rank="0"), 90)
        wait_for(lambda: watching.firing("MixdimRankLost", run="clicks", rank="1"), 90)
        assert not watching.firing("MixdimRankHangs", run="ratings")
    for alert in ("MixdimRankHangs", "MixdimTrainStuck", "MixdimRankLost"):
        wait_for(lambda alert=alert: not watching.firing(alert), 90)


def test_a_loss_that_is_not_a_number_fires_its_alert(served, watching):
    options = {**ENDLESS, "batch-size": 256, "on-nan": "skip", "shuffle": False}
    job = {"verb": "train", "preset": "dcnv2", "data": "spoilt", "sizing": "all"}
    made = served.ask("jobs", {**job, "output": "spoilt", "options": options})
    wait_for(lambda: watching.firing("MixdimNanSkipped", run="spoilt"), 400)
    # After three of them the run gives up, and that is an alert too.
    wait_for(lambda: served.ask(f"jobs/{made['id']}")["state"] == "failed", 400)
    wait_for(lambda: watching.firing("MixdimJobsFail"), 60)


def test_a_model_server_that_is_gone_fires_its_alert(model, watching):
    assert not watching.firing("MixdimServingDown")
    model.process.terminate()
    wait_for(lambda: watching.firing("MixdimServingDown"), 90)
