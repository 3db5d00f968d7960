"""What an operator can set of the service."""

from dataclasses import dataclass, field
from pathlib import Path

from service.jobs.local import LOG_BYTES

MAX_PORT = 65_535


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a user, a token or a request may take."""

    running_per_user: int = 4
    """Jobs of a user that run at a time; others wait."""

    gpus_per_user: int = 8
    """GPUs that the running jobs of a user hold at a time."""

    waiting_per_user: int = 100
    """Jobs of a user that wait; one more is refused."""

    local_jobs: int = 4
    """Jobs that run on this machine at a time."""

    requests_per_second: float = 50.0
    """Requests of one token, or of one address without a token, in the long run."""

    burst: int = 200
    """Requests that may come at once before that holds."""

    body_bytes: int = 1 << 20
    """Largest body of a request, other than a raw file."""

    upload_bytes: int = 16 << 30
    """Largest raw file that is sent to the service; larger ones the operator puts there."""

    log_bytes: int = LOG_BYTES
    """What the log of a job of this machine grows to; of what is beyond only the end is kept."""

    followers_per_user: int = 20
    """Logs that a user follows at a time."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name}={value}, expected more than 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceConfig:
    """Serve trainings over HTTP."""

    home: Path = Path("mixdim-home")
    """Folder of datasets, sizings, runs, frontiers, artifacts, uploads and jobs."""

    host: str = "127.0.0.1"
    """Address to listen on; leave it, and let a proxy with TLS listen to others."""

    port: int = 8080
    """Port to listen on."""

    schedulers: tuple[str, ...] = ("local",)
    """Where jobs may run; the first one where a request names none."""

    scheduler_options: tuple[str, ...] = ()
    """Options of schedulers, as in ``slurm.partition=batch kubernetes.queue=default``."""

    python: str = ""
    """Interpreter that has mixdim on Slurm's nodes; the one on their path by default."""

    mounts: tuple[str, ...] = ()
    """What containers mount, in TorchX' form; the home among it, where it is here."""

    images: tuple[str, ...] = ("mixdim:latest",)
    """Container images that a request may name; the first one where it names none."""

    metrics_ports: tuple[int, int] = (9400, 9899)
    """First and last port that ranks of jobs serve their metrics on."""

    grace_seconds: float = 60.0
    """What a cancelled job of this machine gets to write its checkpoint."""

    end_jobs: bool = False
    """Whether jobs of this machine write their checkpoints and end when the service is told to
    stop. They go on without it otherwise, which they cannot where a container ends with it."""

    poll_seconds: float = 0.5
    """Time between two looks at the jobs."""

    limits: Limits = field(default_factory=Limits)
    """What a user may take."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= MAX_PORT:
            raise ValueError(f"port={self.port}, expected 0 to {MAX_PORT}; try 8080")
        first, last = self.metrics_ports
        if not 0 < first <= last <= MAX_PORT:
            raise ValueError(f"metrics_ports={first} {last}, expected the first before the last")
        if not self.schedulers or not self.images:
            raise ValueError("schedulers and images need at least one name each")
        for name in ("grace_seconds", "poll_seconds"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name}={value}, expected more than 0")
