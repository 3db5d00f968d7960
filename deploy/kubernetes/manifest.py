"""The objects of one job: what runs, what finds it, what guards it."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import yaml

from deploy.kubernetes.command_line import metrics_ports, pod_command
from deploy.kubernetes.pod import pod_spec
from deploy.kubernetes.scraping import pod_monitor_spec

if TYPE_CHECKING:
    from torchx.specs import Resource

NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # as a Service's: no digit first
MAX_NAME: Final = 63
"""Longest name of a pod that is also its host name, and longest label."""
FINAL_EXIT_CODES: Final = [2, 3]
"""Rejected input, and tables that do not fit: another start would end the same way."""
STOPPED_EXIT_CODE: Final = 143
"""A checkpoint was written because somebody asked for it: no failure."""
LETS_JOIN: Final = MappingProxyType({"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})
"""Without it, torch 2.13's agents wait for each other for ever when a pod joins."""
FAILURES: Final = [
    {
        "action": "FailJob",
        "onExitCodes": {
            "containerName": "mixdim",
            "operator": "In",
            "values": FINAL_EXIT_CODES,
        },
    },
    {
        "action": "Ignore",
        "onExitCodes": {
            "containerName": "mixdim",
            "operator": "In",
            "values": [STOPPED_EXIT_CODE],
        },
    },
    # A drained or preempted node is not the job's fault.
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
]
"""What a pod's end means for the Job."""
KEPT_SECONDS: Final = 7 * 24 * 3600
"""How long an ended Job can be looked at."""
EVERYBODY: Final[Mapping[str, str]] = MappingProxyType({"mixdim": "/shared"})


def manifest(
    command: Sequence[str],
    *,
    name: str,
    resource: "Resource",
    image: str = "mixdim:latest",
    nodes: int = 1,
    min_nodes: int | None = None,
    ranks_per_node: int = 1,
    volumes: Mapping[str, str] = EVERYBODY,
    environment: Mapping[str, str] = MappingProxyType({}),
    max_retries: int = 0,
    grace_seconds: int = 120,
) -> list[dict[str, Any]]:
    """Objects of a job, in the order in which to create them.

    One node runs ``mixdim`` itself, which watches its ranks. Several run torchrun, whose
    rendezvous is in the first pod. A flag ``--metrics-port`` among the arguments opens the ranks'
    ports, and has Prometheus scrape them where its operator is installed.

    Args:
        command: Verb of ``mixdim`` and its arguments, with paths as the pods see them.
        name: Name of the job and of everything that belongs to it.
        resource: What a pod may use.
        image: Container image; pods start ``mixdim`` or ``python`` in it.
        nodes: Pods, each on a machine of its own where there are enough.
        min_nodes: Pods that suffice to start or go on, the first among them; all where it is None.
            A training then needs ``--global-batch-size``.
        ranks_per_node: Ranks in each pod; on GPUs as many as a pod has.
        volumes: Persistent volume claim -> where pods see it; several nodes need ReadWriteMany.
        environment: Environment variables of every rank.
        max_retries: How often the job may fail before it is given up.
        grace_seconds: What a pod gets to write its checkpoint when it is told to stop.

    Raises:
        ValueError: If a name or number cannot be, or a verb cannot run on several nodes.
    """
    fewest = nodes if min_nodes is None else min_nodes
    _check(name, (fewest, nodes), ranks_per_node, max_retries)
    labels = {
        "app.kubernetes.io/name": "mixdim",
        "app.kubernetes.io/component": command[0] if command else "",
        "app.kubernetes.io/instance": name,
    }
    ports = metrics_ports(command, ranks_per_node)
    threads = {"OMP_NUM_THREADS": str(max(1, int(resource.cpu) // ranks_per_node))}
    pod = pod_spec(
        pod_command(command, name, (fewest, nodes), ranks_per_node, grace_seconds),
        image=image,
        resource=resource,
        volumes=volumes,
        environment={**threads, **(LETS_JOIN if fewest < nodes else {}), **environment},
        ports=ports,
    )
    pod |= {"terminationGracePeriodSeconds": grace_seconds, "subdomain": name}
    objects = [_job(name, labels, pod, (fewest, nodes), max_retries)]
    if nodes > 1:
        pod["topologySpreadConstraints"] = [_one_a_machine(labels)]
        objects = [_rendezvous(name, labels), _walls(name, labels, ports), *objects]
    objects.append(_no_disruption(name, labels, fewest))
    if ports:
        objects.append(_monitor(command, name, labels, list(ports), nodes))
    return objects


def to_yaml(objects: Sequence[Mapping[str, Any]]) -> str:
    """Objects as one file for ``kubectl apply -f -``."""
    return "".join(
        yaml.dump(dict(document), Dumper=_Plain, sort_keys=False, width=100, explicit_start=True)
        for document in objects
    )


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice: references are for machines."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _check(name: str, nodes: tuple[int, int], ranks_per_node: int, max_retries: int) -> None:
    fewest, most = nodes
    longest = MAX_NAME - len(f"-{most - 1}")
    if not NAME.fullmatch(name) or len(name) > longest:
        raise ValueError(
            f"name={name!r} cannot be a host name; expected at most {longest} lower-case letters, "
            f"digits and dashes, starting with a letter and not ending with a dash"
        )
    if not 1 <= fewest <= max(1, most):
        raise ValueError(f"min_nodes={fewest}, expected 1 to nodes={most}; try 1")
    least = {"nodes": (most, 1), "ranks_per_node": (ranks_per_node, 1)}
    for what, (value, low) in {**least, "max_retries": (max_retries, 0)}.items():
        if value < low:
            raise ValueError(f"{what}={value}, expected at least {low}; give it as a whole number")


def _object(kind: str, version: str, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "labels": dict(labels)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _job(
    name: str,
    labels: Mapping[str, str],
    pod: Mapping[str, Any],
    nodes: tuple[int, int],
    max_retries: int,
) -> dict[str, Any]:
    fewest, most = nodes
    # The first pod has every step of the run; those that never came have no part in its success.
    done = {"successPolicy": {"rules": [{"succeededIndexes": "0"}]}} if fewest < most else {}
    return {
        **_object("Job", "batch/v1", name, labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": most,
            "parallelism": most,
            **done,
            # A failed start counts once a pod: only when all have failed, the start has.
            "backoffLimit": (max_retries + 1) * most - 1,
            "podReplacementPolicy": "Failed",  # two pods never write one checkpoint
            "podFailurePolicy": {"rules": FAILURES},
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": dict(labels)}, "spec": dict(pod)},
        },
    }


def _rendezvous(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Gives each pod a name; also before it is ready, for ranks meet in order to become that."""
    return {
        **_object("Service", "v1", name, labels),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": dict(labels),
        },
    }


def _walls(name: str, labels: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, Any]:
    """Only the job's own pods reach its ranks: rendezvous, gloo and NCCL ask nobody's name."""
    ingress: list[dict[str, Any]] = [{"from": [{"podSelector": {"matchLabels": dict(labels)}}]}]
    if ports:
        ingress.append({"ports": [{"port": port} for port in ports.values()]})
    return {
        **_object("NetworkPolicy", "networking.k8s.io/v1", name, labels),
        "spec": {
            "podSelector": {"matchLabels": dict(labels)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }


def _monitor(
    command: Sequence[str], name: str, labels: Mapping[str, str], ports: Sequence[str], nodes: int
) -> dict[str, Any]:
    monitor = _object("PodMonitor", "monitoring.coreos.com/v1", name, labels)
    return {**monitor, "spec": pod_monitor_spec(command, name, labels, ports, nodes)}


def _one_a_machine(labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(labels)},
    }


def _no_disruption(name: str, labels: Mapping[str, str], nodes: int) -> dict[str, Any]:
    """Losing one of the pods that it takes stops all; who drains a machine suspends the Job."""
    return {
        **_object("PodDisruptionBudget", "policy/v1", name, labels),
        "spec": {"minAvailable": nodes, "selector": {"matchLabels": dict(labels)}},
    }
