"""A job as Kubernetes objects: valid in every version, and worth what its fields promise."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.kubernetes import manifest, to_yaml
from deploy.kubernetes.command_line import flag_value
from deploy.resources import find_resource

Objects = dict[str, dict[str, Any]]

OLDEST, NEWEST = "1.31", "1.37"
TRAIN = ("train", "dlrm", "--data", "/shared/data", "--output", "/shared/runs/a")
alone = partial(manifest, TRAIN, name="a", resource=find_resource("cpu-small"))
together = partial(alone, nodes=3, ranks_per_node=4)


def by_kind(objects: list[dict[str, Any]]) -> Objects:
    return {thing["kind"]: thing for thing in objects}


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = by_kind(objects)["Job"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def arguments(objects: list[dict[str, Any]]) -> list[str]:
    return list(container(objects)["args"])


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_version_of_kubernetes_takes_the_objects(version: str) -> None:
    objects = together(max_retries=2, environment={"A": "b"})
    assert len(objects) == 4
    for thing in objects:
        kubernetes_validate.validate(thing, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_a_job_that_goes_on_with_fewer_nodes_is_done_when_its_first_pod_is(version: str) -> None:
    objects = together(min_nodes=1)
    for thing in objects:
        kubernetes_validate.validate(thing, version, strict=True)
    job = by_kind(objects)["Job"]["spec"]
    assert (job["completions"], job["parallelism"]) == (3, 3)
    assert job["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    assert by_kind(objects)["PodDisruptionBudget"]["spec"]["minAvailable"] == 1
    assert "--nnodes=1:3" in arguments(objects)
    joins = {"name": "TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "value": "1"}
    assert joins in container(objects)["env"]
    assert joins not in container(together())["env"]
    assert "successPolicy" not in by_kind(together(min_nodes=3))["Job"]["spec"]


def test_an_unknown_field_would_be_noticed() -> None:
    job = copy.deepcopy(by_kind(alone())["Job"])
    job["spec"]["template"]["spec"]["containers"][0]["securityContext"]["runAsRoot"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, NEWEST, strict=True)


def test_a_file_of_objects_reads_back_as_they_were() -> None:
    objects = together()
    text = to_yaml(objects)
    assert list(yaml.safe_load_all(text)) == objects
    assert "&id" not in text


def test_one_node_runs_the_command_as_a_person_would() -> None:
    assert container(alone())["command"] == ["mixdim"]
    assert arguments(alone()) == [*TRAIN, "--resume"]
    assert arguments(alone(ranks_per_node=2))[-2:] == ["--nproc", "2"]
    assert by_kind(alone()).keys() == {"Job", "PodDisruptionBudget"}


def test_several_nodes_meet_in_the_first_pod() -> None:
    objects = together()
    words = arguments(objects)
    assert "--rdzv-endpoint=a-0.a:29400" in words
    assert {"--nnodes=3", "--nproc-per-node=4"} <= set(words)
    assert words[words.index("-m") :] == ["-m", "service", *TRAIN, "--resume"]
    job, service = by_kind(objects)["Job"]["spec"], by_kind(objects)["Service"]
    assert job["template"]["spec"]["subdomain"] == service["metadata"]["name"] == "a"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= job["template"]["metadata"]["labels"].items()
    assert (job["completions"], job["parallelism"]) == (3, 3)


def test_rejected_input_is_not_tried_again_and_a_stop_is_no_failure() -> None:
    job = by_kind(together(max_retries=2))["Job"]["spec"]
    actions = {
        code: rule["action"]
        for rule in job["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {}).get("values", [])
    }
    assert actions == {2: "FailJob", 3: "FailJob", 143: "Ignore"}
    assert job["backoffLimit"] == 8  # three starts of three pods that fail are nine failures
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # or exit codes are not looked at


def test_what_may_be_restarted_goes_on_and_never_contradicts_the_caller() -> None:
    assert arguments(alone())[-1] == "--resume"
    again = manifest([*TRAIN, "--overwrite"], name="a", resource=find_resource("cpu-small"))
    assert "--resume" not in arguments(again)
    size = manifest(["size", "/shared/data"], name="a", resource=find_resource("cpu-small"))
    assert arguments(size) == ["size", "/shared/data"]


def test_a_pod_can_write_its_volumes_and_its_scratch_and_nothing_else() -> None:
    pod = by_kind(alone(volumes={"logs": "/logs"}))["Job"]["spec"]["template"]["spec"]
    (inside,) = pod["containers"]
    assert inside["securityContext"]["readOnlyRootFilesystem"] is True
    assert inside["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    mounts = {mount["mountPath"]: mount["name"] for mount in inside["volumeMounts"]}
    assert mounts.keys() == {"/logs", "/tmp", "/dev/shm"}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts.values())


def test_ranks_with_metrics_are_scraped_on_every_port() -> None:
    watched = partial(manifest, [*TRAIN, "--metrics-port=9400"], name="a")
    objects = watched(nodes=2, ranks_per_node=2, resource=find_resource("gpu-1"))
    ports = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
    assert ports == {"metrics-0": 9400, "metrics-1": 9401}
    endpoints = by_kind(objects)["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert [endpoint["port"] for endpoint in endpoints] == list(ports)
    assert flag_value(arguments(objects), "--metrics-host") == "0.0.0.0"
    assert "PodMonitor" not in by_kind(together())


def test_every_rank_is_scraped_under_its_own_number() -> None:
    watched = [*TRAIN, "--metrics-port=9400"]
    objects = manifest(
        watched, name="a", nodes=2, ranks_per_node=2, resource=find_resource("gpu-1")
    )
    endpoints = by_kind(objects)["PodMonitor"]["spec"]["podMetricsEndpoints"]
    ranks = {
        (rule["regex"], endpoint["port"]): rule["replacement"]
        for endpoint in endpoints
        for rule in endpoint["relabelings"]
        if rule["targetLabel"] == "rank"
    }
    assert ranks == {
        ("0", "metrics-0"): "0",
        ("0", "metrics-1"): "1",
        ("1", "metrics-0"): "2",
        ("1", "metrics-1"): "3",
    }


def test_gpus_and_cores_are_those_of_the_host() -> None:
    inside = container(manifest(TRAIN, name="a", ranks_per_node=8, resource=find_resource("gpu-8")))
    assert inside["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert inside["resources"]["limits"] == inside["resources"]["requests"]
    assert {"name": "OMP_NUM_THREADS", "value": "12"} in inside["env"]


def test_kubernetes_replaces_nothing_in_an_argument() -> None:
    objects = manifest(["size", "$(HOME)/$$x"], name="a", resource=find_resource("cpu-small"))
    assert arguments(objects) == ["size", "$$(HOME)/$$$$x"]


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "2b", "a" * 62, ""])
def test_a_name_that_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be a host name; expected at most 61"):
        alone(name=name)


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(ValueError, match="nodes=2, but size runs on one"):
        manifest(["size", "data"], name="a", nodes=2, resource=find_resource("cpu-small"))
    with pytest.raises(ValueError, match=r"command=\['--data'\] has no verb"):
        manifest(["--data"], name="a", resource=find_resource("cpu-small"))
    with pytest.raises(ValueError, match="min_nodes=4, expected 1 to nodes=3; try 1"):
        together(min_nodes=4)
    with pytest.raises(ValueError, match="ranks_per_node=0, expected at least 1"):
        alone(ranks_per_node=0)


def test_describing_a_job_needs_nothing_of_ours() -> None:
    folder = Path(__file__).parents[2] / "deploy" / "kubernetes"
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    assert "import torch\n" not in sources
    assert "from service" not in sources
