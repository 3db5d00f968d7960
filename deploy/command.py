"""The command line of a job on one machine: the verb alone, or torchrun with the verb's ranks.

Whoever starts a job puts in where the first machine is and how the job is called, in its own
shell's words; everything else is the same under every scheduler.
"""

import shlex
from typing import Final

from deploy.job import Job

GRACE_SECONDS: Final = 120
"""What ranks get to write a checkpoint after SIGTERM, where the scheduler allows it."""
RENDEZVOUS_PORT: Final = 29_500


def command(job: Job, *, endpoint: str, run_id: str, python: str = "") -> str:
    """Shell command that every machine of a job runs.

    Args:
        job: The job.
        endpoint: HOST:PORT of the first machine, as the shell takes it; one machine needs none.
        run_id: What identifies the job, the same after another start, as the shell takes it.
        python: Interpreter that has mixdim; empty for the commands that are on the path.
    """
    own = shlex.join(verb_command(job, python))
    return f"{agent(job, endpoint, run_id, python)} {own}" if job.is_distributed else own


def agent(job: Job, endpoint: str, run_id: str, python: str = "") -> str:
    """The torchrun of a machine up to the program that it starts, as the shell takes it.

    It is ours, which ends with the exit code of the rank that failed first.
    """
    return f"{shlex.quote(python or 'python')} -m service.torchrun {flags(job, endpoint, run_id)}"


def flags(job: Job, endpoint: str, run_id: str) -> str:
    """What torchrun is told, as the shell takes it."""
    place = endpoint if job.nodes > 1 else "localhost:0"  # port 0 takes a free one
    return (
        f"--nnodes={job.node_range} --nproc-per-node={job.ranks_per_node} "
        f"--max-restarts={job.max_retries} --shutdown-timeout={GRACE_SECONDS} "
        f"--rdzv-backend=c10d --rdzv-endpoint={place} --rdzv-id={run_id}"
    )


def verb_command(job: Job, python: str = "") -> list[str]:
    """The verb with its arguments: what torchrun starts, or the whole command without ranks."""
    if job.is_distributed:
        return ["-m", "service", *job.words]
    return [*([python, "-m", "service"] if python else ["mixdim"]), *job.words]


def environment(job: Job, cores: int) -> dict[str, str]:
    """Environment variables of every rank; those of the job win.

    Args:
        job: The job.
        cores: Cores of a machine, which its ranks share.
    """
    own = {"OMP_NUM_THREADS": str(max(1, cores // job.ranks_per_node))}
    if job.fewest_nodes < job.nodes:
        # Without it, torch 2.13's agents wait for each other for ever when a machine joins.
        own["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return own | dict(job.environment)
