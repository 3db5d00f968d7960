"""A job as TorchX describes it, for whichever of its schedulers."""

import shlex
from dataclasses import replace
from typing import Final

from torchx import specs
from torchx.util.types import to_dict

from deploy.command import RENDEZVOUS_PORT, agent, environment, verb_command
from deploy.job import Job, check, parse_nodes
from deploy.resources import find_resource

FIRST_MACHINE: Final = f"$${{{specs.macros.rank0_env}:=localhost}}"
"""Where the rendezvous is, in the words of the shell. Each scheduler has an environment variable
of its own for it; AWS Batch sets it on all machines but the first."""


def app(
    job: Job, *, python: str = "", rendezvous_port: int = RENDEZVOUS_PORT, role: str = ""
) -> specs.AppDef:
    """Describe a job.

    Args:
        job: The job.
        python: Interpreter that has mixdim; empty for commands that are on the path.
        rendezvous_port: Port of the first machine where ranks on several machines meet.
        role: Name of its only role; the verb by default.

    Raises:
        ValueError: If the job asks for what cannot be.
    """
    check(job)
    resource = find_resource(job.host)
    entrypoint, *args = _command(job, python, rendezvous_port)
    return specs.AppDef(
        name=job.name,
        roles=[
            specs.Role(
                name=role or job.verb,
                image=job.image,
                min_replicas=job.fewest_nodes if job.fewest_nodes < job.nodes else None,
                num_replicas=job.nodes,
                max_retries=job.max_retries,
                resource=resource,
                mounts=specs.parse_mounts(",".join(job.mounts).split(",")) if job.mounts else [],
                env={name: _as_is(value) for name, value in environment(job, resource.cpu).items()},
                port_map={"c10d": rendezvous_port, **job.metrics_ports},
                entrypoint=entrypoint,
                args=args,
            )
        ],
    )


def ranks(verb: str, words: tuple[str, ...], nodes: str, nproc_per_node: int, name: str) -> Job:
    """A job of several ranks, on as many machines as ``2`` or ``1:2`` says."""
    fewest, most = parse_nodes(nodes)
    return Job(verb, words, name, nodes=most, min_nodes=fewest, ranks_per_node=nproc_per_node)


def on(job: Job, host: str, image: str, mounts: str, env: str, max_retries: int) -> specs.AppDef:
    """Describe a job on machines that are given in the words of TorchX' command line."""
    return app(
        replace(
            job,
            host=host,
            image=image,
            mounts=(mounts,) if mounts else (),
            environment=to_dict(env),
            max_retries=max_retries,
        )
    )


def given(flag: str, value: str) -> tuple[str, ...]:
    """A flag with its value; nothing if the value is empty."""
    return (f"--{flag}", value) if value else ()


def _command(job: Job, python: str, port: int) -> list[str]:
    """What a machine starts. A shell finds out where the first one is, and passes the rest on."""
    words = verb_command(job, python)
    if not job.is_distributed:
        return [words[0], *map(_as_is, words[1:])]
    started = agent(job, f"{FIRST_MACHINE}:{port}", specs.macros.app_id, python)
    return ["bash", "-c", f"{started} {_as_is(shlex.join(words))}"]


def _as_is(text: str) -> str:
    """Text that TorchX' macros leave alone."""
    return text.replace("$", "$$")
