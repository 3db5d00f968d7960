"""Who races against the product, and what their environments hold."""

from dataclasses import dataclass
from typing import Final

from service.bench.options import NetworkName

TORCH: Final = ("torch==2.13.0", "numpy", "pyarrow")
"""The product's torch, so that libraries are compared and not releases of torch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """A contender that is not the product."""

    name: str
    about: str
    module: str
    """Script in this package that trains, or ingests."""
    environment: str
    """Name of its environment; contenders of one library share theirs."""
    installs: tuple[tuple[str, ...], ...]
    """Arguments of ``pip install``."""
    variant: str = "default"
    networks: tuple[NetworkName, ...] = ("dlrm", "deepfm")
    """Networks that it has, where it trains."""


_TORCHREC: Final = (
    (*TORCH, "fbgemm-gpu-cpu==1.8.0", "tensordict", "torchmetrics==1.0.3", "tqdm", "iopath"),
    ("--no-deps", "torchrec==1.8.0"),  # alone it would bring CUDA kernels over the CPU's
    ("psutil", "pyre-extensions", "typing-extensions"),
)

PEERS: Final = (
    Peer(
        name="deepctr",
        about="DeepCTR-Torch 0.3.0, its own fit",
        module="deepctr",
        environment="deepctr",
        installs=((*TORCH, "deepctr-torch==0.3.0", "requests"),),
        networks=("deepfm",),
    ),
    Peer(
        name="fuxictr",
        about="FuxiCTR 2.3.10, its own loader and fit",
        module="fuxi",
        environment="fuxictr",
        installs=((*TORCH, "polars<2", "fuxictr==2.3.10"),),
        networks=("deepfm",),
    ),
    Peer(
        name="torch-stacked",
        about="plain PyTorch loop, one stacked table, fused Adam",
        module="loops",
        environment="torch",
        installs=(TORCH,),
        variant="stacked",
    ),
    Peer(
        name="torch-bags",
        about="plain PyTorch loop, 26 sparse bags, SparseAdam",
        module="loops",
        environment="torch",
        installs=(TORCH,),
        variant="bags",
    ),
    Peer(
        name="torchrec",
        about="TorchRec 1.8.0 by its own planner, one rank",
        module="dmp",
        environment="torchrec",
        installs=_TORCHREC,
    ),
)

INGEST_PEERS: Final = (
    Peer(
        name="polars",
        about="Polars 2.1.0: read_csv, group_by, join, write_parquet",
        module="polars_ingest",
        environment="polars",
        installs=(("polars==2.1.0",),),
    ),
)
