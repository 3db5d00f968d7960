"""Options of the benchmarks, readable without torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from models.networks import NETWORKS
from service.bench.harness import RaceConfig
from service.config import Precision
from sharding.constraints import Comms, ShardingType

NetworkName = Literal["dlrm", "deepfm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepConfig:
    """Race the product's training step against its peers."""

    data: Path = Path("data")
    """Dataset folder with single-valued fields and click labels."""

    networks: tuple[NetworkName, ...] = ("dlrm", "deepfm")
    """Networks to race with."""

    only: tuple[str, ...] = ()
    """Contenders to run, such as ``mixdim-fp32``; all by default."""

    batch_size: int = 4096
    """Examples per step."""

    dim: int = 16
    """Width of every table."""

    threads: int = 2
    """Threads that compute."""

    warmup_steps: int = 20
    """Steps before the clock starts."""

    steps: int = 60
    """Steps that are timed in all repetitions but the first."""

    seed: int = 0
    """Seed of weights and of the order of examples."""

    race: RaceConfig = field(default_factory=RaceConfig)
    """Repeats, and patience with other users of the machine."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "warmup_steps", "steps"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}, expected at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """Race the product's loader against a bare read of the same row groups."""

    data: Path = Path("data")
    """Dataset folder."""

    batch_size: int = 4096
    """Examples per batch."""

    dim: int = 16
    """Width of the plan's tables; does not matter to a loader."""

    threads: int = 2
    """Threads that torch and Arrow may use."""

    min_seconds: float = 3.0
    """Epochs are read until this time is over, after one to warm up."""

    race: RaceConfig = field(default_factory=RaceConfig)
    """Repeats, and patience with other users of the machine."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.threads < 1 or self.min_seconds <= 0:
            raise ValueError(
                f"batch_size={self.batch_size}, threads={self.threads}, "
                f"min_seconds={self.min_seconds}; expected at least 1, 1 and more than 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LookupConfig:
    """Race forward and backward of a plan's tables against the memory's bandwidth."""

    data: Path = Path("data")
    """Dataset folder; its training split is what is looked up."""

    sizing: Path | None = None
    """Sizing plan; uniform tables of ``dim`` by default."""

    dim: int = 16
    """Width of uniform tables."""

    batch_size: int = 4096
    """Examples per batch."""

    threads: int = 2
    """Threads that compute."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where the tables are looked up."""

    steps: int = 100
    """Lookups that are timed, after a tenth as many to warm up."""

    write_cluster: Path | None = None
    """Measure tables of many widths and sizes instead, without data, and write how fast this
    machine is to this TOML file, for ``mixdim plan --cluster``."""

    calibration_mebibytes: tuple[int, ...] = (1, 4, 16, 1024)
    """Bytes of the groups of tables that are measured for it, from cache-resident to far beyond."""

    race: RaceConfig = field(default_factory=RaceConfig)
    """Repeats, and patience with other users of the machine."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "steps"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}, expected at least 1")
        if not self.calibration_mebibytes or min(self.calibration_mebibytes) < 1:
            raise ValueError(
                f"calibration_mebibytes={self.calibration_mebibytes}, expected sizes of at least 1"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlansConfig:
    """Race sizing plans and numbers of ranks: examples per second, and bytes between ranks."""

    data: Path = Path("data")
    """Dataset folder that the plans were made for."""

    sizings: tuple[Path, ...] = (Path("sizing.json"),)
    """Sizing plans to race."""

    network: str = "dlrm"
    """Network behind the embeddings, with its default layers."""

    nproc: tuple[int, ...] = (1,)
    """Ranks on this machine, which share its cores; of more than one, the traffic is measured."""

    precisions: tuple[Precision, ...] = ("fp32",)
    """Arithmetic of the dense layers."""

    comms: Comms = "fp32"
    """Numbers that vectors travel between ranks in; their gradients likewise."""

    max_copied_rows: int = 0
    """Tables of at most so many rows are copied to all ranks; others live whole on one."""

    batch_size: int = 4096
    """Examples per rank and step."""

    strong: bool = False
    """Share ``batch_size`` among the ranks instead: the same work for any number of them."""

    warmup_steps: int = 20
    """Steps before the clock starts."""

    steps: int = 60
    """Steps that are timed."""

    race: RaceConfig = field(default_factory=RaceConfig)
    """Repeats, and patience with other users of the machine."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "warmup_steps", "steps"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}, expected at least 1")
        if not self.nproc or min(self.nproc) < 1:
            raise ValueError(f"nproc={self.nproc}, expected numbers of ranks of at least 1")
        if self.strong and any(self.batch_size % ranks for ranks in self.nproc):
            raise ValueError(
                f"batch_size={self.batch_size} cannot be shared among nproc={self.nproc} ranks; "
                f"give a multiple"
            )
        if self.network not in NETWORKS:
            raise ValueError(
                f"network={self.network!r} is not a network; networks: {', '.join(NETWORKS)}"
            )

    def rank_batch_size(self, num_ranks: int) -> int:
        """Examples per rank and step."""
        return self.batch_size // num_ranks if self.strong else self.batch_size


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceOfPeersConfig:
    """Race an epoch of the product against what a user would train with instead."""

    data: Path = Path("data")
    """Dataset folder with single-valued fields and click labels."""

    environments: Path = Path("environments")
    """Folder for the contenders' virtual environments; made where they are missing."""

    sizings: tuple[Path, ...] = ()
    """Sizing plans that the product trains besides uniform tables."""

    networks: tuple[NetworkName, ...] = ("deepfm",)
    """Networks to race with; libraries that lack one sit it out."""

    only: tuple[str, ...] = ()
    """Contenders to run, such as ``mixdim-uniform-bf16``; all by default."""

    batch_size: int = 4096
    """Examples per step."""

    dim: int = 16
    """Width of every table."""

    threads: int = 2
    """Threads that compute."""

    max_seconds: float = 0.0
    """Training that takes longer is cut off and its epoch extrapolated; 0 for whole epochs."""

    later_max_seconds: float = 0.0
    """The same for all repetitions but the first, which scores the test split where it has trained
    a whole epoch."""

    seed: int = 0
    """Seed of weights and of the order of examples."""

    race: RaceConfig = field(default_factory=lambda: RaceConfig(repeats=3))
    """Repeats, and patience with other users of the machine."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "dim", "threads"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}, expected at least 1")
        for name in ("max_seconds", "later_max_seconds"):
            if (limit := getattr(self, name)) < 0:
                raise ValueError(f"{name}={limit}, expected 0 (no limit) or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleConfig:
    """Price a step on Criteo-Terabyte-sized tables by the number of ranks; nothing is trained."""

    cluster: str = "local"
    """Name of a cluster, or file that ``mixdim bench lookup --write-cluster`` wrote; its speeds and
    the memory of a rank count, not its number of ranks."""

    ranks: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    """Numbers of ranks."""

    batch_size: int = 4096
    """Examples per rank and step."""

    strong: bool = False
    """Share ``batch_size`` among the ranks instead: the same work for any number of them."""

    dim: int = 128
    """Width of uniform tables, and of the widest mixed ones."""

    types: tuple[ShardingType, ...] = ("table_wise", "row_wise")
    """Allowed ways of cutting tables, preferred first."""

    plot: Path | None = None
    """PNG or SVG file for a picture."""

    alpha: float = 0.3
    """How strongly the width of mixed tables follows popularity, 0 (not) to 1."""

    flops_per_second: float = 150e9
    """Operations of the layers' matrix products that a rank does in a second; measure it with
    ``mixdim bench step --only dense-bound-fp32``."""

    def __post_init__(self) -> None:
        if not self.ranks or min(self.ranks) < 1 or self.batch_size < max(self.ranks, default=1):
            raise ValueError(
                f"ranks={self.ranks}, batch_size={self.batch_size}; expected ranks of at least 1, "
                f"and an example for each"
            )
        if not self.flops_per_second > 0:
            raise ValueError(f"flops_per_second={self.flops_per_second}, expected more than 0")

    def rank_batch_size(self, num_ranks: int) -> int:
        """Examples per rank and step."""
        return self.batch_size // num_ranks if self.strong else self.batch_size
