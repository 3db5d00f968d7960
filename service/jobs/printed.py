"""The same job for people who start it without us: as plain texts that other tools take."""

import shlex
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from deploy import kubernetes, slurm
from deploy.command import RENDEZVOUS_PORT, environment, flags, verb_command
from deploy.job import Job, check
from deploy.kubernetes.manifest import EVERYBODY
from deploy.resources import find_resource

Options = Mapping[str, str]


def torchrun_line(job: Job, _options: Options) -> str:
    """The line to run on each machine."""
    check(job)
    cores = find_resource(job.host).cpu
    variables = [f"{k}={shlex.quote(v)}" for k, v in environment(job, cores).items()]
    own = shlex.join(verb_command(job))
    if not job.is_distributed:
        return f"{' '.join(variables)} {own}\n"
    line = f"torchrun {flags(job, f'HOST:{RENDEZVOUS_PORT}', job.name)} {own}"
    machines = f"on each of {job.nodes} machines; HOST is the first of them"
    note = f"# {machines}\n" if job.nodes > 1 else ""
    return f"{note}{' '.join(variables)} {line}\n"


def slurm_script(job: Job, options: Options) -> str:
    """The script for sbatch."""
    known = {name: value for name, value in options.items() if name in slurm.OPTIONS}
    return slurm.script(job, options=known)


def kubernetes_manifest(job: Job, _options: Options) -> str:
    """The objects for ``kubectl apply -f -``; needs neither Volcano nor an operator.

    Raises:
        ValueError: If something is mounted that is no volume.
    """
    check(job)
    objects = kubernetes.manifest(
        job.words,
        name=job.name,
        resource=find_resource(job.host),
        image=job.image,
        nodes=job.nodes,
        min_nodes=job.fewest_nodes,
        ranks_per_node=job.ranks_per_node,
        environment=job.environment,
        max_retries=job.max_retries,
        volumes=dict(map(_claim, job.mounts)) or EVERYBODY,
    )
    return kubernetes.to_yaml(objects)


def _claim(mount: str) -> tuple[str, str]:
    """Persistent volume claim and path of a mount."""
    parts = dict(part.partition("=")[::2] for part in mount.split(","))
    if parts.get("type") != "volume" or not {"src", "dst"} <= parts.keys():
        raise ValueError(
            f"mount {mount!r}: pods mount persistent volume claims; give "
            f"type=volume,src=CLAIM,dst=/path"
        )
    return parts["src"], parts["dst"]


FORMS: Final[Mapping[str, Callable[[Job, Options], str]]] = MappingProxyType(
    {"torchrun": torchrun_line, "slurm": slurm_script, "kubernetes": kubernetes_manifest}
)


def printed(forms: str, job: Job, options: Options) -> str:
    """A job in one of `FORMS`, or in all of them, one below the other."""
    if forms in FORMS:
        return FORMS[forms](job, options)
    return "\n".join(f"# ==== {name}\n{form(job, options)}" for name, form in FORMS.items())
