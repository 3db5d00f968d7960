"""How Prometheus' operator finds the ranks of a job, and what it calls them."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from deploy.kubernetes.command_line import flag_value

INDEX_LABEL: Final = "__meta_kubernetes_pod_label_batch_kubernetes_io_job_completion_index"


def pod_monitor_spec(
    command: Sequence[str], name: str, labels: Mapping[str, str], ports: Sequence[str], nodes: int
) -> dict[str, Any]:
    """Spec of a PodMonitor: every rank, under the labels that the service's discovery gives it.

    Args:
        command: Verb and arguments of the job, whose ``--output`` is the run.
        name: Name of the job.
        labels: Of its pods.
        ports: Names of a pod's ports, local rank 0 first.
        nodes: Pods.
    """
    run = PurePosixPath(flag_value(command, "--output") or name).name
    fixed = [_always("job", name), _always("run", run)]
    return {
        "selector": {"matchLabels": dict(labels)},
        "podMetricsEndpoints": [
            {
                "port": port,
                "interval": "15s",
                "honorLabels": True,  # the rank of a table is its own
                "relabelings": [*fixed, *_ranks(local_rank, len(ports), nodes)],
            }
            for local_rank, port in enumerate(ports)
        ],
    }


def _ranks(local_rank: int, ranks_per_node: int, nodes: int) -> list[dict[str, Any]]:
    """Relabeling cannot add and multiply, so the rank of each pod is spelled out."""
    if nodes == 1:
        return [_always("rank", str(local_rank))]
    return [
        {
            "sourceLabels": [INDEX_LABEL],
            "regex": str(node),
            **_always("rank", str(node * ranks_per_node + local_rank)),
        }
        for node in range(nodes)
    ]


def _always(label: str, value: str) -> dict[str, Any]:
    return {"targetLabel": label, "replacement": value}
