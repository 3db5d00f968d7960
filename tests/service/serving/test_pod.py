"""The pod that serves a model on Kubernetes, run the way a kubelet would."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.deploy.real_prometheus import wait_for
from tests.free_ports import free_ports
from tests.kubelet import expanded

ROOT = Path(__file__).parents[3]
DEPLOYMENT = ROOT / "deploy" / "kubernetes" / "model" / "base" / "deployment.yaml"


def status(url: str, body: object = None) -> int:
    """Of what is answered; 0 for nothing."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_pod_answers_its_probes_scores_rows_and_ends_when_told(fp32, served_run, tmp_path):
    pod = yaml.safe_load(DEPLOYMENT.read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    artifact, port = tmp_path / "shared" / "artifacts" / "clicks", free_ports()
    artifact.parent.mkdir(parents=True)
    artifact.symlink_to(fp32)
    given = {item["name"]: item.get("value", "1") for item in container["env"]}  # one core
    assert given["ARTIFACT"] == "/shared/artifacts/clicks"
    words = expanded(container["command"], given | {"ARTIFACT": str(artifact)})
    assert words[0] == "mixdim"
    (listened,) = container["ports"]
    here = {f"--port={listened['containerPort']}": f"--port={port}"}
    here |= {"--host=0.0.0.0": "--host=127.0.0.1"}
    assert set(words) >= set(here)
    environment = {**os.environ, **given, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "service", *(here.get(w, w) for w in words[1:])]
    process = subprocess.Popen(command, env=environment)
    try:
        probes = ["startupProbe", "readinessProbe", "livenessProbe"]
        for place in [container[probe]["httpGet"]["path"] for probe in probes]:
            wait_for(lambda place=place: status(f"http://127.0.0.1:{port}{place}") == 200, 120)
        rows = {"rows": served_run.json_rows[:2]}
        assert status(f"http://127.0.0.1:{port}/predict", rows) == 200
        process.send_signal(signal.SIGTERM)
        patience = pod["terminationGracePeriodSeconds"] - 5  # the preStop hook's
        assert process.wait(patience) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait(60)


@pytest.mark.parametrize("name", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_probe_asks_the_port_that_the_server_listens_on(name):
    (container,) = yaml.safe_load(DEPLOYMENT.read_text())["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert container[name]["httpGet"]["port"] == port["name"]
