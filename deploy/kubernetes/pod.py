"""A pod that may do little: no root, no capabilities, no writable image, no token."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torchx.specs import Resource

USER: Final = 10001
"""User and group that the image runs as."""
SHARED_MEMORY_RATIO: Final = 4
"""Memory over what ``/dev/shm`` may take of it; NCCL and loaders exchange data there."""
UNPRIVILEGED: Final = MappingProxyType(
    {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
)
INDEX: Final = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def pod_spec(
    command: Mapping[str, Sequence[str]],
    *,
    image: str,
    resource: "Resource",
    volumes: Mapping[str, str],
    environment: Mapping[str, str],
    ports: Mapping[str, int],
) -> dict[str, Any]:
    """Spec of a pod with one container ``mixdim``.

    Args:
        command: The container's ``command`` and ``args``.
        image: Container image.
        resource: What the pod asks for, which is also all that it gets.
        volumes: Persistent volume claim -> where the pod sees it.
        environment: Environment variables.
        ports: Names and numbers of open ports.
    """
    scratch: dict[str, tuple[str, dict[str, str]]] = {
        "tmp": ("/tmp", {}),
        "shared-memory": ("/dev/shm", {"medium": "Memory", "sizeLimit": _shared_memory(resource)}),
    }
    mounts = {**volumes, **{name: path for name, (path, _) in scratch.items()}}
    container = {
        "name": "mixdim",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        **{key: list(words) for key, words in command.items()},
        "env": _environment(environment),
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "resources": _resources(resource),
        "securityContext": dict(UNPRIVILEGED),
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }
    return {
        "restartPolicy": "Never",  # the Job decides, by exit code
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # Signals reach mixdim at any moment, and somebody buries its dead: it is not process 1.
        "shareProcessNamespace": True,
        "securityContext": _user(),
        "containers": [container],
        "volumes": [
            *({"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in volumes),
            *({"name": name, "emptyDir": options} for name, (_, options) in scratch.items()),
        ],
    }


def _user() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _environment(own: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        _field("NODE_RANK", INDEX),
        _field("POD_IP", "status.podIP"),
        {"name": "HOME", "value": "/tmp"},
        *({"name": name, "value": value} for name, value in own.items()),
    ]


def _shared_memory(resource: "Resource") -> str:
    return f"{int(resource.memMB) // SHARED_MEMORY_RATIO}Mi"


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _resources(resource: "Resource") -> dict[str, dict[str, str]]:
    amounts = {"cpu": str(int(resource.cpu)), "memory": f"{int(resource.memMB)}Mi"}
    if resource.gpu > 0:
        amounts["nvidia.com/gpu"] = str(int(resource.gpu))
    # Equal, so that nobody is evicted for what others take.
    return {"requests": amounts, "limits": dict(amounts)}
