"""What a plan must know of the machines: ranks, memory and bandwidths, as plain numbers."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict

from sharding.constraints import Kernel

GIB: Final = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Equal ranks on equal hosts.

    Speeds only rank one placement against another; memory decides what fits.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    num_ranks: int = 1
    """Processes of the job; on GPUs one a device."""

    ranks_per_host: int = 8
    """Ranks that share a host and its fast links; fewer where ``num_ranks`` is smaller."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where tables live."""

    hbm_bytes: int = 0
    """Device memory of one rank; GPUs only."""

    ddr_bytes: int = 16 * GIB
    """Host memory of one rank: the host's, divided by its ranks."""

    reserve_ratio: float = 0.15
    """Share of the memory left to batches, activations and the dense layers' work space."""

    memory_bytes_per_second: float = 20e9
    """Bandwidth of the memory the tables live in, one rank."""

    lookup_seconds: float = 0.0
    """Seconds of an id's forward, backward and update besides its row's bytes, at any width."""

    miss_seconds: float = 0.0
    """Seconds that an id takes longer where its row is not in a cache."""

    cache_bytes: int = 0
    """Part of a table that stays in a cache; the rest is missed. 0: every lookup misses."""

    cache_bytes_per_second: float = 200e9
    """Bandwidth of rows that are in a cache."""

    call_seconds: float = 0.0
    """Seconds of a rank's step that no table causes: starting the lookup and its backward pass."""

    intra_host_bytes_per_second: float = 2e9
    """Bandwidth between two ranks of a host, one direction."""

    inter_host_bytes_per_second: float = 1.25e9
    """Bandwidth of a rank to other hosts, one direction."""

    source: str = "described, not measured"
    """Where the speeds are from, for whoever reads a prediction."""

    def __post_init__(self) -> None:
        for name in ("num_ranks", "ranks_per_host"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"cluster: {name}={value}, expected at least 1")
        self._check_speeds()
        if not 0 <= self.reserve_ratio < 1:
            raise ValueError(
                f"cluster: reserve_ratio={self.reserve_ratio}, expected in [0, 1); try 0.15"
            )
        memory = "hbm_bytes" if self.device == "cuda" else "ddr_bytes"
        if (value := getattr(self, memory)) < 1:
            raise ValueError(
                f"cluster: device={self.device!r} and {memory}={value}; "
                f"give the memory of one rank in bytes"
            )
        if self.num_ranks > self.ranks_per_host and self.num_ranks % self.ranks_per_host:
            raise ValueError(
                f"cluster: num_ranks={self.num_ranks} does not fill hosts of "
                f"ranks_per_host={self.ranks_per_host}; use a multiple"
            )

    def _check_speeds(self) -> None:
        for name in ("memory", "cache", "intra_host", "inter_host"):
            field = f"{name}_bytes_per_second"
            if not (value := getattr(self, field)) > 0:
                raise ValueError(f"cluster: {field}={value}, expected a positive number")
        for field in ("lookup_seconds", "miss_seconds", "cache_bytes", "call_seconds"):
            if not (value := getattr(self, field)) >= 0:
                raise ValueError(f"cluster: {field}={value}, expected 0 or more")

    @property
    def local_size(self) -> int:
        """Ranks on one host."""
        return min(self.ranks_per_host, self.num_ranks)

    @property
    def num_hosts(self) -> int:
        """Hosts that the ranks fill."""
        return self.num_ranks // self.local_size

    def memory_field(self, kernel: Kernel) -> Literal["hbm_bytes", "ddr_bytes"]:
        """Name of the memory that tables live in.

        Raises:
            ValueError: If the kernel needs a GPU and the cluster has none.
        """
        if kernel != "fused" and self.device == "cpu":
            raise ValueError(
                f"kernel={kernel!r} keeps tables in host memory for GPUs, but the cluster's "
                f"device='cpu'; use kernel='fused'"
            )
        return "hbm_bytes" if self.device == "cuda" and kernel == "fused" else "ddr_bytes"

    def table_bytes(self, kernel: Kernel) -> int:
        """Memory of one rank that tables and their optimizer state may fill."""
        memory_bytes: int = getattr(self, self.memory_field(kernel))
        return int(memory_bytes * (1 - self.reserve_ratio))

    @property
    def device_bytes(self) -> int:
        """Memory of one rank's device that tables or their cache may share with other layers."""
        memory_bytes = self.hbm_bytes if self.device == "cuda" else self.ddr_bytes
        return int(memory_bytes * (1 - self.reserve_ratio))


def local(num_ranks: int = 1, device: Literal["cpu", "cuda"] = "cpu") -> Cluster:
    """Ranks on this machine, which share its memory."""
    host_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    hbm_bytes = 0
    if device == "cuda":
        import torch

        hbm_bytes = torch.cuda.get_device_properties(0).total_memory
    return Cluster(
        num_ranks=num_ranks,
        ranks_per_host=num_ranks,
        device=device,
        hbm_bytes=hbm_bytes,
        ddr_bytes=host_bytes // num_ranks,
        source="a guess; `mixdim bench lookup --write-cluster FILE` measures this machine",
    )


def _gpus(hbm_gib: int, memory: float, nvlink: float, network: float) -> Callable[[], Cluster]:
    return lambda: Cluster(
        num_ranks=8,
        ranks_per_host=8,
        device="cuda",
        hbm_bytes=hbm_gib * GIB,
        ddr_bytes=128 * GIB,
        memory_bytes_per_second=memory,
        intra_host_bytes_per_second=nvlink,
        inter_host_bytes_per_second=network,
        source="data sheet, not measured",
    )


CLUSTERS: Final[Mapping[str, Callable[[], Cluster]]] = MappingProxyType(
    {
        "local": local,
        "a100x8": _gpus(79, 2.0e12, 300e9, 25e9),
        "h100x8": _gpus(79, 3.35e12, 450e9, 50e9),
        "h200x8": _gpus(139, 4.8e12, 450e9, 50e9),
    }
)
"""Clusters by name: data-sheet figures, links in one direction, one network card a GPU."""
