"""The image and what runs beside it: in order for the tools that read them, and for each other."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.api.config import ServiceConfig
from service.api.database import DATABASE

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
BIN = Path(sys.executable).parent
COMPOSE = sorted(DOCKER.glob("compose*.yaml"))
LAID_OVER = ["compose.gpu.yaml", "compose.model.yaml"]
FILES = [[path.name] for path in COMPOSE if path.name not in LAID_OVER]
FILES += [["compose.yaml", name] for name in LAID_OVER]
GIVEN = {
    **{"MIXDIM_DATA": "/data", "MIXDIM_SIZING": "/sizing.json", "MIXDIM_ARTIFACT": "clicks"},
    "PATH": "/usr/bin:/bin",
}


def services(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text())["services"]
    return found


def options(command: list[str]) -> dict[str, str]:
    pairs = (word[2:].partition("=") for word in command if word.startswith("--"))
    return {name: value for name, _, value in pairs}


def checked(*command: str, **more: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def instructions() -> list[tuple[str, str]]:
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", "")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0].isupper()]
    return [(name, rest) for name, rest in lines]


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    assert checked(str(BIN / "hadolint"), str(DOCKER / "Dockerfile")) == ""


def test_the_image_has_no_entry_point_and_no_root() -> None:
    found = instructions()
    assert "ENTRYPOINT" not in {name for name, _ in found}  # TorchX passes a shell as the command
    assert [rest for name, rest in found if name == "USER"] == ["10001:10001"]
    assert found[-1] == ("CMD", '["mixdim", "--help"]')


def test_whoever_builds_the_image_can_pin_what_it_is_made_from() -> None:
    found = instructions()
    assert ("ARG", "DIGEST=") in found
    images = {rest.split()[0] for name, rest in found if name == "FROM"}
    stages = {rest.split()[-1] for name, rest in found if name == "FROM"}
    assert images - stages == {"${BASE}${DIGEST:+@$DIGEST}"}


def test_what_the_dockerfile_copies_reaches_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if "!" in line}
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    own = {path.split("/")[0] for paths in copied for path in paths if "--from" not in paths[0]}
    assert own == sent


def test_compose_files_follow_the_specification() -> None:
    check = str(BIN / "check-jsonschema")
    checked(check, "--builtin-schema", "vendor.compose-spec", *map(str, COMPOSE))


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
@pytest.mark.parametrize("files", FILES, ids="+".join)
def test_compose_reads_them(files: list[str]) -> None:
    flags = [flag for name in files for flag in ("-f", str(DOCKER / name))]
    checked("docker-compose", *flags, "config", "--quiet", env=GIVEN)


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_ports_are_open_on_this_machine_only_and_mounted_files_exist(path: Path) -> None:
    for service in services(path.name).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        mounts = [mount.split(":")[0] for mount in service.get("volumes", [])]
        assert all((DOCKER / mount).exists() for mount in mounts if mount.startswith("."))


@pytest.mark.parametrize("name", ["compose.yaml", "compose.training.yaml", "compose.model.yaml"])
def test_nothing_of_ours_may_write_its_root_or_gain_rights(name: str) -> None:
    every = services(name).values()
    ours = [one for one in every if one.get("image", "").startswith("mixdim")]
    assert ours
    for service in ours:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_a_container_that_is_stopped_has_time_for_the_checkpoints_of_its_jobs() -> None:
    service = services("compose.yaml")["service"]
    given = options(service["command"])
    assert given.keys() >= {"end-jobs"}
    assert ServiceConfig(grace_seconds=float(given["grace-seconds"])).grace_seconds == 120
    assert service["stop_grace_period"] == "3m"


def test_prometheus_is_told_of_the_model_server_where_it_looks_for_them() -> None:
    found = services("compose.model.yaml")
    (mount,) = found["prometheus"]["volumes"]
    source, target, _ = mount.split(":")
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    looked_for = [
        pattern
        for job in config["scrape_configs"]
        for files in job.get("file_sd_configs", [])
        for pattern in files["files"]
    ]
    assert [Path(target).match(f"/etc/prometheus/{pattern}") for pattern in looked_for] == [True]
    ((address,),) = (group["targets"] for group in yaml.safe_load((DOCKER / source).read_text()))
    host, _, port = address.partition(":")
    assert options(found[host]["command"])["port"] == port


def test_everybody_who_keeps_records_keeps_them_in_the_same_place() -> None:
    found = services("compose.yaml")
    socket = "records-socket:/var/run/postgresql"
    assert found["database"]["network_mode"] == "none"
    assert socket in found["database"]["volumes"]
    for name in ("service", "token"):
        assert found[name]["environment"][DATABASE].endswith("?host=/var/run/postgresql")
        assert socket in found[name]["volumes"]


def test_prometheus_finds_the_token_that_was_made_for_it() -> None:
    config = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    (place,) = set(re.findall(r"credentials_file: (\S+)", config))
    found = services("compose.yaml")
    assert found["token"]["command"][-1].endswith("> /tokens/token")
    assert "tokens:/tokens" in found["token"]["volumes"]
    mount = f"tokens:{place.removesuffix('/token')}:ro"
    assert mount in found["prometheus"]["volumes"]
    assert found["prometheus"]["network_mode"] == "service:service"  # ranks are on its loopback


def test_prometheus_scrapes_every_rank_of_a_training_that_is_alone() -> None:
    given = options(services("compose.training.yaml")["train"]["command"])
    first, ranks = int(given["metrics-port"]), int(given["nproc"])
    config = yaml.safe_load((DOCKER / "prometheus.training.yml").read_text())
    (job,) = config["scrape_configs"]
    targets = [(static["targets"], static["labels"]["rank"]) for static in job["static_configs"]]
    assert targets == [([f"train:{first + rank}"], str(rank)) for rank in range(ranks)]
    assert given["metrics-host"] == "0.0.0.0"


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize("name", ["compose.yaml", "compose.training.yaml"])
def test_prometheus_reads_its_configuration(name: str, tmp_path: Path) -> None:
    for mount in services(name)["prometheus"]["volumes"]:
        source, target, *_ = mount.split(":")
        if source.startswith("."):
            text = (DOCKER / source).read_text()
            (tmp_path / Path(target).name).write_text(text.replace("/etc/prometheus/secrets", "."))
    (tmp_path / "token").write_text("token")
    checked("promtool", "check", "config", str(tmp_path / "prometheus.yml"))


@pytest.mark.parametrize("name", ["compose.yaml", "compose.training.yaml"])
def test_grafana_finds_dashboards_and_prometheus(name: str) -> None:
    grafana = ROOT / "deploy" / "grafana"
    provider = yaml.safe_load((grafana / "provisioning/dashboards/mixdim.yml").read_text())
    source = yaml.safe_load((grafana / "provisioning/datasources/prometheus.yml").read_text())
    (folder,), (data,) = provider["providers"], source["datasources"]
    found = services(name)
    place = folder["options"]["path"]
    assert f"../deploy/grafana/dashboards:{place}:ro" in found["grafana"]["volumes"]
    home = found["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (grafana / "dashboards" / Path(home).relative_to(place)).is_file()
    host = found["prometheus"].get("network_mode", "service:prometheus").partition(":")[2]
    known = {host, *found[host].get("networks", {}).get("default", {}).get("aliases", [])}
    assert data["url"].removeprefix("http://").removesuffix(":9090") in known
