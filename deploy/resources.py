"""What one replica of a job may use: the named hosts of the components.

They are registered with TorchX, for whom a host is a function. A platform team adds hosts of its
own through the same entry point, ``torchx.named_resources``; those answer to their names here too.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from torchx import specs

GIB: Final = 1024  # TorchX counts memory in MiB


def cpu_small() -> specs.Resource:
    """Two cores: a laptop's share, and every test's."""
    return specs.Resource(cpu=2, gpu=0, memMB=8 * GIB)


def cpu_large() -> specs.Resource:
    """A machine for ingest, sizing and training without GPUs."""
    return specs.Resource(cpu=16, gpu=0, memMB=64 * GIB)


def gpu_1() -> specs.Resource:
    """One GPU and its share of a machine."""
    return specs.Resource(cpu=12, gpu=1, memMB=96 * GIB)


def gpu_8() -> specs.Resource:
    """A whole machine of eight GPUs."""
    return specs.Resource(cpu=96, gpu=8, memMB=768 * GIB)


RESOURCES: Final[Mapping[str, Callable[[], specs.Resource]]] = MappingProxyType(
    {"cpu-small": cpu_small, "cpu-large": cpu_large, "gpu-1": gpu_1, "gpu-8": gpu_8}
)


def find_resource(host: str) -> specs.Resource:
    """Resource of a named host: ours, or one that is registered with TorchX.

    Raises:
        ValueError: If nobody knows the name.
    """
    if host in RESOURCES:
        return RESOURCES[host]()
    if host in specs.named_resources:
        return specs.named_resources[host]
    raise ValueError(
        f"host={host!r} is neither one of {', '.join(RESOURCES)} nor registered with TorchX; "
        f"name one of these or register it under torchx.named_resources"
    )
