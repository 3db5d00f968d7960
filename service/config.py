"""What a training run is: one dataclass, read from presets, files and flags, kept in run.json."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from models.embeddings.choices import Embeddings, MixedChoice
from models.embeddings.pruning import PrunedChoice
from models.networks import DLRMNetwork, Network
from models.tables import SparseOptimizer
from service.loggers.base import LoggerName
from sharding.constraints import ShardingConfig

_STRICT = ConfigDict(extra="forbid")  # a typo is an error, at any depth

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "tf32", "bf16"]
Schedule = Literal["plateau", "cosine", "linear", "constant"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """How weights move."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    sparse: SparseOptimizer = "rowwise_adagrad"
    """Optimizer of the tables. Its state counts in the budget. Fused into the backward pass, except
    for amsgrad anywhere and adam on CPUs, whose tables are dense: a copy a rank, all rows move."""

    sparse_lr: float = 0.05
    """Learning rate of the tables."""

    dense_lr: float = 1e-3
    """Learning rate of Adam for everything but the tables."""

    eps: float = 1e-8
    """Added to the denominators of Adagrad and Adam."""

    schedule: Schedule = "plateau"
    """How both rates change: plateau drops them when validation stops improving; cosine and linear
    take them to 0 over the run's epochs, which is best where their number is known (biased MF on
    MovieLens 1M, 12 epochs: .004 of MSE)."""

    plateau_factor: float = 0.1
    """Both rates are multiplied by this when validation stops improving; in (0, 1)."""

    plateau_patience: int = 0
    """Validations without improvement that are tolerated before the rates drop; more than there
    will be keeps the rates."""

    def __post_init__(self) -> None:
        for name in ("sparse_lr", "dense_lr", "eps"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name}={value}, expected a positive number; try 0.001")
        if not 0 < self.plateau_factor < 1:
            raise ValueError(
                f"plateau_factor={self.plateau_factor}, expected in (0, 1); try 0.1, or a large "
                f"plateau_patience to keep the rates"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Train one model on one dataset with one sizing plan."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    data: Path = Path("data")
    """Dataset folder written by ``mixdim prepare``."""

    sizing: Path = Path("sizing.json")
    """Sizing plan written by ``mixdim size``."""

    output: Path = Path("runs/last")
    """Run folder; must not hold another run unless --resume or --overwrite."""

    nproc: int = 1
    """Ranks to start on this machine; ignored under torchrun and TorchX, which start their own."""

    max_restarts: int = 3
    """How often all ranks are started again, from the last checkpoint, after one was lost; for the
    ranks that ``nproc`` starts, if they are several. Rejected input is never tried again."""

    network: Annotated[Network, Field(discriminator="kind")] = field(default_factory=DLRMNetwork)
    """Network behind the embeddings, with its layer sizes; the preset chooses which."""

    embeddings: Annotated[Embeddings, Field(discriminator="kind")] = field(
        default_factory=MixedChoice
    )
    """What looks ids up: the tables of the sizing plan, or a method's own."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How weights move."""

    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    """Where tables may live."""

    plan: Path | None = None
    """Sharding plan written by ``mixdim plan``; placed anew by default."""

    l2: float = 0.0
    """Penalty on the squared norm of every looked-up, projected vector, mean over examples; 0 for
    none. On ratings 0.05 to 0.1, or half of it with ``l2_growth`` 0.25 (biased MF on MovieLens
    1M); clicks need far less or none."""

    l2_bias: float | None = None
    """The same for the biases of mf and dotbias, the first element of a vector; as ``l2`` if
    None."""

    l2_growth: float = 0.0
    """How the penalty rises along a vector: times ``1 + l2_growth * sqrt(k)`` for element ``k``.
    0.25 with l2 0.0375 against 0 with l2 0.075 is worth .004 of MSE (biased MF of width 32 on
    MovieLens 1M), and sorts directions, so that narrow tables keep the strongest."""

    l2_power: float = 0.5
    """A lookup of an id that training looks up c times counts ``c ** -l2_power``, scaled to mean
    1: 0 regularises rows as often as they are read, 1 all rows alike. 0.5 is worth .014 of MSE over
    0 (biased MF on MovieLens 1M)."""

    l2_fields: Mapping[str, float] = field(default_factory=dict)
    """Factors that multiply both penalties, by field; 1 where not named."""

    warm_start: Path | None = None
    """Run folder of a wide training of this dataset, whose vectors tables and projections start
    from; see docs/spectral.md."""

    warm_columns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Columns of the warm-up's vectors that the tables of fields keep, ascending, for all fields of
    the plan; by default narrow tables start from a truncated SVD."""

    clip: tuple[float, float] | None = None
    """Lowest and highest rating that is predicted; scores are of clipped predictions, the loss is
    not. None clips nothing. The scale of the ratings is worth .0006 of MSE on MovieLens 1M."""

    epochs: int = 1
    """Passes over the training split, at most."""

    batch_size: int = 4096
    """Examples per rank and step; the global batch is ``batch_size`` times the ranks."""

    global_batch_size: int = 0
    """Examples per step over all ranks, which share them evenly, instead of ``batch_size``: stays
    the same where the number of ranks may change, as with ``--nodes 1:2``. 0 for ``batch_size``."""

    max_steps: int = 0
    """Stop after this many steps; 0 for no limit."""

    patience: int = 2
    """Validations without improvement before training stops early."""

    validate_every: int = 0
    """Steps between validations; 0 validates after each epoch."""

    checkpoint_every: int = 1000
    """Steps between checkpoints; there is one after each validation as well. 0 for none between."""

    checkpoint_async: bool = True
    """Write checkpoints beside the training, from a copy of tables and optimizer in host memory;
    if not, training waits and nothing is copied."""

    keep_checkpoints: int = 2
    """Checkpoints kept besides the best one."""

    seed: int = 0
    """Seed of weights, order of examples and splits of work."""

    shuffle: bool = True
    """Read the training split in an order of its own every epoch."""

    projection_init: Literal["prefix", "orthogonal", "xavier", "identity"] = "prefix"
    """Start of the learned projections of narrow tables: the first coordinates of the wide ones, a
    random rotation, or random weights. prefix (identity is its old name) has learned best: biased
    MF on MovieLens 1M at the bytes of uniform 4, test MSE .745 to .767 against .778 for orthogonal.
    For a truncated SVD give ``warm_start``."""

    table_init: Literal["rows", "xavier"] = "rows"
    """Bound of the uniform start of a table: ``sqrt(1/n)``, TorchRec's and DLRM's, or
    ``sqrt(6/(n+d))``. A larger start has learned worse (.74 against .72, biased MF)."""

    table_init_rows: Literal["table", "field"] = "table"
    """Whose rows are that ``n``: the table's own, or its whole field's, so that cutting a field
    into blocks leaves its start as it was. On MovieLens 1M field is better for NCF with ``xavier``
    (.78 against .81) and worse for factorizations (.002 to .004)."""

    pooling: Literal["sum", "mean"] = "sum"
    """How list-valued fields are pooled."""

    device: Device = "auto"
    """Where to train; auto takes the GPU of the rank where there is one."""

    precision: Precision = "fp32"
    """Arithmetic of the dense layers; bf16 keeps fp32 weights, tf32 rounds the factors of fp32
    products to 10 bits (GPU only). Tables are always fp32."""

    matmul: Literal["auto", "mkl", "onednn"] = "auto"
    """CPU library of the fp32 matrix products; auto measures once and takes the faster."""

    hang_timeout: float = 600.0
    """Seconds without progress on any rank until stacks are written and the job ends with exit code
    4; a checkpoint may take twice as long. 0 to wait for ever. Keep it above the slowest step."""

    on_nan: Literal["stop", "skip"] = "stop"
    """What to do about a loss that is not a number: stop; or take up the last checkpoint, go on
    behind the batch that it comes from, and halve both rates, three times at most."""

    log_every: int = 50
    """Steps between lines of the log and of metrics.jsonl."""

    metrics_port: int = 0
    """Prometheus port of local rank 0, the next ranks follow; 0 serves no metrics."""

    metrics_host: str = "127.0.0.1"
    """Address the metrics are served on; 0.0.0.0 inside a container."""

    log_to: tuple[LoggerName, ...] = ()
    """Where figures go besides metrics.jsonl: tensorboard (RUN/tensorboard), mlflow (what the
    environment variable MLFLOW_TRACKING_URI names, or mlruns beside RUN)."""

    profile: int = 0
    """Steps after the first ten that torch's profiler records, on the first rank, into profile.json
    (a Chrome trace) and profile.txt of the run folder; 0 for none. It slows those steps."""

    resume: bool = False
    """Go on from the run folder's last checkpoint; starts anew where there is none."""

    resume_from: Path | None = None
    """Run folder whose last checkpoint this run goes on from, in a folder of its own: with another
    sizing plan, other fields, or a dataset whose vocabularies have grown; see docs/train.md."""

    resume_data: Path | None = None
    """Where the dataset of the run ``resume_from`` is now, if it is not where it was; only read
    where this run has another."""

    overwrite: bool = False
    """Delete what the run folder holds."""

    @property
    def is_regularised(self) -> bool:
        """Whether vectors are penalised."""
        return bool(self.l2 or self.l2_bias)

    def __post_init__(self) -> None:
        for name in ("nproc", "epochs", "batch_size", "patience", "log_every", "keep_checkpoints"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}, expected at least 1")
        amounts = ("max_steps", "validate_every", "checkpoint_every", "seed", "metrics_port")
        more = ("max_restarts", "profile", "hang_timeout", "global_batch_size")
        for name in (*amounts, *more):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name}={value}, expected 0 or more")
        if self.seed >= 1 << 63:
            raise ValueError(f"seed={self.seed}, expected a number of 63 bits; try 0")
        for name in ("l2", "l2_bias", "l2_growth"):
            if (penalty := getattr(self, name)) is not None and not 0 <= penalty < math.inf:
                raise ValueError(f"{name}={penalty}, expected 0 or more; try 0.05")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip={self.clip}, expected the lowest rating before the highest")
        if not 0 <= self.l2_power <= 1:
            raise ValueError(f"l2_power={self.l2_power}, expected in [0, 1]; try 0.5")
        if wrong := {name: ratio for name, ratio in self.l2_fields.items() if not ratio >= 0}:
            raise ValueError(f"l2_fields={wrong}, expected factors of 0 or more")
        if self.warm_columns and self.warm_start is None:
            raise ValueError("--warm-columns of no run; give --warm-start as well")
        if self.resume_from is not None and self.warm_start is not None:
            raise ValueError(
                "--resume-from and --warm-start both say what tables start from; give one of them"
            )
        self._check_start()
        if self.resume and self.overwrite:
            raise ValueError("--resume and --overwrite contradict each other; give one of them")

    def _check_start(self) -> None:
        kind, other = self.embeddings.kind, self.resume_from or self.warm_start
        starts = {"mixed"} if self.resume_from is not None else {"mixed", "pruned"}
        if other is not None and kind not in starts:
            raise ValueError(
                f"embeddings of kind {kind!r} cannot start from {other}: only the tables of a "
                f"sizing plan (kind 'mixed') do; leave it out"
            )
        if isinstance(self.embeddings, PrunedChoice) and self.embeddings.thresholds and not other:
            raise ValueError(
                "embeddings of kind 'pruned' have zeros where the weights of another run are "
                "small; give that run: --warm-start"
            )
