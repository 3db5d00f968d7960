"""What one replica of a job may use: the named hosts of the components.

A platform team adds hosts of its own through TorchX's entry point ``torchx.named_resources``;
those answer to their names here too.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from torchx import specs

GIB: Final = 1024  # TorchX counts memory in MiB

RESOURCES: Final[Mapping[str, specs.Resource]] = MappingProxyType(
    {
        "cpu-small": specs.Resource(cpu=2, gpu=0, memMB=8 * GIB),
        "cpu-large": specs.Resource(cpu=16, gpu=0, memMB=64 * GIB),
        "gpu-1": specs.Resource(cpu=12, gpu=1, memMB=96 * GIB),
        "gpu-8": specs.Resource(cpu=96, gpu=8, memMB=768 * GIB),
    }
)


def find_resource(host: str) -> specs.Resource:
    """Resource of a named host: ours, or one that is registered with TorchX.

    Raises:
        ValueError: If nobody knows the name.
    """
    if host in RESOURCES:
        return RESOURCES[host]
    if host in specs.named_resources:
        return specs.named_resources[host]
    raise ValueError(
        f"host={host!r} is neither one of {', '.join(RESOURCES)} nor registered with TorchX; "
        f"name one of these or register it under torchx.named_resources"
    )
