"""What a job is: a verb of ``mixdim`` with its arguments, and the machines that it asks for.

Components, launchers, the plain `torchrun` line, the Slurm script and the Kubernetes manifest all
start from a `Job`, so that they say the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

DISTRIBUTED: Final = frozenset({"train", "evaluate"})
"""Verbs whose ranks an elastic agent starts, on any number of machines; others are one process."""
RESUMABLE: Final = frozenset({"train", "search"})
"""Verbs that take --resume: go on where there is something, begin where there is nothing."""
SAY_HOW: Final = frozenset({"--resume", "--no-resume", "--overwrite"})
"""Flags that say what becomes of what is there: where one is given, none is added."""
VERBS: Final = ("prepare", "size", "search", "train", "evaluate", "export", "compare", "bench")
"""Verbs that are worth a machine of their own."""
MAX_PORT: Final = 65_535

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Job:
    """A verb with its arguments, and the machines that it asks for.

    Attributes:
        verb: Verb of ``mixdim``, such as train.
        arguments: What follows the verb on the command line, one string an argument.
        name: Name that people see: lower-case letters, digits and dashes.
        nodes: Machines.
        min_nodes: Machines that suffice to start or go on; `nodes` where it is None. A training
            then needs ``--global-batch-size``, for it counts where it stands in global batches.
        ranks_per_node: Ranks on each machine.
        host: Named resources of a machine, see `deploy.resources`.
        image: Container image, for schedulers that use one.
        mounts: What containers mount, in TorchX' form.
        environment: Environment variables of every rank.
        max_retries: How often the scheduler starts a failed job again, and the elastic agent its
            ranks; training and searches then go on from where they were.
    """

    verb: str
    arguments: tuple[str, ...] = ()
    name: str = "mixdim"
    nodes: int = 1
    min_nodes: int | None = None
    ranks_per_node: int = 1
    host: str = "cpu-small"
    image: str = "mixdim:latest"
    mounts: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    max_retries: int = 0

    @property
    def is_distributed(self) -> bool:
        """Whether an elastic agent starts its ranks."""
        return self.verb in DISTRIBUTED

    @property
    def fewest_nodes(self) -> int:
        """Machines that suffice."""
        return self.nodes if self.min_nodes is None else self.min_nodes

    @property
    def node_range(self) -> str:
        """Machines as torchrun takes them: ``2``, or ``1:2`` where one suffices."""
        is_elastic = self.fewest_nodes < self.nodes
        return f"{self.fewest_nodes}:{self.nodes}" if is_elastic else str(self.nodes)

    @property
    def metrics_port(self) -> int:
        """Port that the first rank of a machine serves metrics on; 0 for none."""
        words = " ".join(self.arguments).replace("=", " ").replace("_", "-").split()
        if "--metrics-port" not in words[:-1]:
            return 0
        port = words[words.index("--metrics-port") + 1]
        return int(port) if port.isdecimal() else 0

    @property
    def metrics_ports(self) -> dict[str, int]:
        """Names and numbers of the ports that the ranks of one machine serve metrics on."""
        first = self.metrics_port
        return {f"metrics-{rank}": first + rank for rank in range(self.ranks_per_node) if first}

    @property
    def words(self) -> tuple[str, ...]:
        """The verb and its arguments, so that a start after a failure goes on."""
        goes_on = self.max_retries > 0 and self.verb in RESUMABLE
        is_open = goes_on and SAY_HOW.isdisjoint(self.arguments)
        return (self.verb, *self.arguments, *(["--resume"] if is_open else []))


def parse_nodes(text: str) -> tuple[int, int]:
    """Fewest and most machines of ``2`` or ``1:2``.

    Raises:
        ValueError: If it is neither.
    """
    fewest, _, most = text.rpartition(":")
    if not (most.isdecimal() and (not fewest or fewest.isdecimal())):
        raise ValueError(f"nodes={text!r}, expected a number, or MIN:MAX; try 1:2")
    return int(fewest or most), int(most)


def check(job: Job) -> None:
    """Refuse a job that no scheduler could run.

    Raises:
        ValueError: If a value makes no sense, or the verb cannot use several machines.
    """
    if job.verb not in VERBS:
        raise ValueError(f"{job.verb!r} is not a verb that can be a job; verbs: {', '.join(VERBS)}")
    if not _NAME.fullmatch(job.name):
        raise ValueError(
            f"name={job.name!r}, expected at most 63 lower-case letters, digits and dashes "
            f"in between; try mixdim-{job.verb}"
        )
    for name in job.environment:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(
                f"environment variable {name!r}, expected letters, digits and underscores, and no "
                f"digit first"
            )
    for name, least in {"nodes": 1, "ranks_per_node": 1, "max_retries": 0}.items():
        if (value := getattr(job, name)) < least:
            raise ValueError(f"{name}={value}, expected at least {least}; try {least}")
    if not 1 <= job.fewest_nodes <= job.nodes:
        raise ValueError(f"min_nodes={job.min_nodes}, expected 1 to nodes={job.nodes}; try 1")
    words = {word.partition("=")[0].replace("_", "-") for word in job.arguments}
    if job.verb == "train" and job.fewest_nodes < job.nodes and "--global-batch-size" not in words:
        raise ValueError(
            f"nodes={job.node_range}: train would refuse to go on with another number of ranks in "
            f"the middle of an epoch, where its global batch changes; give --global-batch-size, a "
            f"multiple of the ranks of every number of machines"
        )
    if job.nodes > 1 and not job.is_distributed:
        raise ValueError(
            f"nodes={job.nodes}: {job.verb} runs on one machine, on several only "
            f"{', '.join(sorted(DISTRIBUTED))}; leave nodes at 1"
        )
    if job.metrics_port + job.ranks_per_node - 1 > MAX_PORT:
        raise ValueError(
            f"metrics_port={job.metrics_port} leaves no ports for {job.ranks_per_node} ranks, "
            f"expected at most {MAX_PORT + 1 - job.ranks_per_node}; try 9400"
        )
