"""What a pod starts: ``mixdim`` itself on one node, an elastic agent of torchrun on several."""

from collections.abc import Sequence
from typing import Final

SEVERAL_NODES: Final = frozenset({"train", "evaluate"})
"""Verbs whose ranks may be on several machines."""
RENDEZVOUS_PORT: Final = 29400
AGENT_SECONDS: Final = 10
"""What an agent needs of a pod's grace time for itself."""
AGENT: Final = (
    '[ "$NODE_RANK" = 0 ] && host=1 || host=0; exec python -m service.torchrun '
    '--rdzv-conf="is_host=$host,read_timeout=600" "$@"'
)
"""The first pod holds the rendezvous without asking DNS, which may not know it yet."""


def pod_command(
    command: Sequence[str], name: str, nodes: tuple[int, int], ranks_per_node: int, grace: int
) -> dict[str, list[str]]:
    """What a container's ``command`` and ``args`` are.

    Args:
        command: Verb of ``mixdim`` and its arguments.
        name: Name of the job; its first pod is ``NAME-0.NAME``.
        nodes: Pods that suffice, the first among them, and pods that there may be.
        ranks_per_node: Ranks in each pod.
        grace: Seconds that the pod gets to end when it is told to.

    Raises:
        ValueError: If the verb cannot run on several nodes, or there is none.
    """
    verb, *arguments = command or [""]
    fewest, most = nodes
    if not verb or verb.startswith("-"):
        raise ValueError(f"command={list(command)!r} has no verb; begin with one, such as train")
    if most > 1 and verb not in SEVERAL_NODES:
        raise ValueError(f"nodes={most}, but {verb} runs on one; expected nodes=1")
    if verb == "train" and not {"--resume", "--overwrite"} & set(arguments):
        arguments.append("--resume")  # a pod that was evicted is started again
    if flag_value(command, "--metrics-port") and not flag_value(command, "--metrics-host"):
        arguments += ["--metrics-host", "0.0.0.0"]  # Prometheus is not in this pod
    if most == 1:
        if ranks_per_node > 1 and not flag_value(command, "--nproc"):
            arguments += ["--nproc", str(ranks_per_node)]
        return {"command": ["mixdim"], "args": _literal([verb, *arguments])}
    agent = [
        f"--nnodes={most if fewest == most else f'{fewest}:{most}'}",
        f"--nproc-per-node={ranks_per_node}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={name}-0.{name}:{RENDEZVOUS_PORT}",
        f"--rdzv-id={name}",
        "--local-addr=$(POD_IP)",
        "--max-restarts=0",  # the Job starts pods again, on other machines where it must
        f"--shutdown-timeout={max(1, grace - AGENT_SECONDS)}",
    ]
    return {
        "command": ["sh", "-c", AGENT, "agent"],
        "args": [*agent, *_literal(["-m", "service", verb, *arguments])],
    }


def metrics_ports(command: Sequence[str], ranks_per_node: int) -> dict[str, int]:
    """Names and numbers of the ports that ``--metrics-port`` has the ranks of a pod open."""
    first = int(flag_value(command, "--metrics-port") or 0)
    return {f"metrics-{rank}": first + rank for rank in range(ranks_per_node)} if first else {}


def flag_value(command: Sequence[str], flag: str) -> str | None:
    """What a flag was given, as ``--flag value`` or ``--flag=value``; None if it was not."""
    for index, word in enumerate(command):
        if word == flag and index + 1 < len(command):
            return command[index + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


def _literal(arguments: Sequence[str]) -> list[str]:
    """Arguments that reach the process as they are: Kubernetes replaces ``$(X)`` and ``$$``."""
    return [argument.replace("$", "$$") for argument in arguments]
