"""Kustomize bases and overlays: rendered by kubectl, valid, and equal to what code describes."""

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from torchx.specs import Resource

from deploy.kubernetes import manifest, to_yaml
from deploy.kubernetes.__main__ import ABOUT, COMMAND, example
from tests.deploy.monitors import SPECS, monitor_faults

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(path.parent for path in KUBERNETES.glob("*/overlays/*/kustomization.yaml"))
NEWEST = "1.37"
OLDEST_MINOR = 24
"""Of kubectl: older ones have a kustomize without components and labels."""


@functools.cache
def kubectl_minor() -> int:
    """Minor version of kubectl; 0 where there is none."""
    if not shutil.which("kubectl"):
        return 0
    asked = ["kubectl", "version", "--client", "--output=json"]
    said = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return int(re.match(r"\d+", said["clientVersion"]["minor"])[0])  # type: ignore[index]


@functools.cache
def rendered(folder: Path) -> list[dict[str, Any]]:
    if kubectl_minor() < OLDEST_MINOR:
        pytest.skip(f"needs kubectl 1.{OLDEST_MINOR} or newer, for its kustomize")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def ordered(thing: Any) -> Any:
    """The same, with what has a name sorted by it: a patch puts what it changes first."""
    if isinstance(thing, dict):
        return {key: ordered(value) for key, value in thing.items()}
    if isinstance(thing, list) and all(isinstance(item, dict) and "name" in item for item in thing):
        return sorted(map(ordered, thing), key=lambda item: item["name"])
    return [ordered(item) for item in thing] if isinstance(thing, list) else thing


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(thing["kind"], thing["metadata"]["name"]): ordered(thing) for thing in objects}


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: "-".join(path.parts[-3::2]))
def test_kubernetes_takes_every_overlay(folder: Path) -> None:
    objects = rendered(folder)
    assert len(objects) >= 5
    for thing in objects:
        if thing["kind"] in SPECS:
            assert monitor_faults(thing) == []
        else:
            kubernetes_validate.validate(thing, NEWEST, strict=True)


def test_a_field_that_the_operator_does_not_have_would_be_noticed() -> None:
    (monitor,) = (thing for thing in example() if thing["kind"] == "PodMonitor")
    endpoint = monitor["spec"]["podMetricsEndpoints"][0]
    endpoint |= {"honourLabels": True, "interval": 15}
    assert monitor_faults(monitor) == [
        "PodMonitor.spec.podMetricsEndpoints[0].interval is 15, expected str",
        "PodMonitor.spec.podMetricsEndpoints[0].honourLabels is not known",
    ]


def test_the_training_in_the_repository_is_what_its_command_prints() -> None:
    kept = (KUBERNETES / "training" / "base" / "training.yaml").read_text()
    assert kept == ABOUT + to_yaml(example())


@pytest.mark.parametrize(
    ("overlay", "image", "resource"),
    [
        ("cpu", "mixdim:latest", Resource(cpu=16, gpu=0, memMB=64 * 1024)),
        ("gpu", "mixdim:cuda", Resource(cpu=24, gpu=2, memMB=192 * 1024)),
    ],
)
def test_an_overlay_is_the_job_that_the_function_describes(
    overlay: str, image: str, resource: Resource
) -> None:
    options = {"name": "mixdim-train", "nodes": 2, "ranks_per_node": 2, "max_retries": 3}
    described = manifest(COMMAND, image=image, resource=resource, **options)  # type: ignore[arg-type]
    assert by_name(rendered(KUBERNETES / "training" / "overlays" / overlay)) == by_name(described)


@pytest.mark.parametrize(
    ("overlay", "name"),
    [("service/cpu", "mixdim"), ("service/gpu", "mixdim"), ("model/cpu", "mixdim-model")],
)
def test_servers_may_do_as_little_as_a_job(overlay: str, name: str) -> None:
    objects = by_name(rendered(KUBERNETES / overlay.replace("/", "/overlays/")))
    server = objects["Deployment", name]["spec"]["template"]["spec"]
    (job,) = (thing for thing in example() if thing["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    for word in ("automountServiceAccountToken", "enableServiceLinks", "shareProcessNamespace"):
        assert server[word] is pod[word]
    assert server["securityContext"] == pod["securityContext"]
    (inside,), (outside,) = server["containers"], pod["containers"]
    assert inside["securityContext"] == outside["securityContext"]
    assert inside["resources"]["limits"] == inside["resources"]["requests"]
    walled = objects["NetworkPolicy", name]["spec"]["podSelector"]["matchLabels"]
    labels = objects["Deployment", name]["spec"]["template"]["metadata"]["labels"]
    assert walled == labels
    assert objects["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"] == labels


def test_a_model_server_only_reads_the_volume() -> None:
    objects = by_name(rendered(KUBERNETES / "model" / "overlays" / "cpu"))
    (container,) = objects["Deployment", "mixdim-model"]["spec"]["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert mounts == {"mixdim": True, "tmp": False}
    threads = [item for item in container["env"] if item["name"] == "THREADS"]
    assert [item["valueFrom"]["resourceFieldRef"]["resource"] for item in threads] == ["limits.cpu"]
    assert container["resources"]["limits"]["cpu"] == "1"  # which a request's parsing shares


def test_pods_of_a_model_are_scaled_drained_and_watched_under_the_names_that_others_use() -> None:
    objects = by_name(rendered(KUBERNETES / "model" / "overlays" / "cpu"))
    scaled = objects["HorizontalPodAutoscaler", "mixdim-model"]["spec"]
    target = scaled["scaleTargetRef"]
    assert (target["kind"], target["name"]) in objects
    assert "replicas" not in objects["Deployment", "mixdim-model"]["spec"]  # the autoscaler's
    assert objects["PodDisruptionBudget", "mixdim-model"]["spec"]["maxUnavailable"] == 1
    labels = objects["Deployment", "mixdim-model"]["spec"]["template"]["metadata"]["labels"]
    monitor = objects["ServiceMonitor", "mixdim-model"]["spec"]
    assert objects["Service", "mixdim-model"]["metadata"]["labels"] == labels
    assert monitor["selector"]["matchLabels"] == labels
    config = yaml.safe_load((KUBERNETES.parent / "prometheus" / "prometheus.yml").read_text())
    assert {job["job_name"] for job in config["scrape_configs"]} >= {
        relabeling["replacement"]
        for endpoint in monitor["endpoints"]
        for relabeling in endpoint["relabelings"]
    }
