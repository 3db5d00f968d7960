"""TorchX components: the verbs of ``mixdim`` as jobs for one machine, Slurm or Kubernetes.

    torchx run -s local_cwd deploy/components.py:train --data DATA --sizing SIZING --output RUN

A component only describes a command line, so submitting works where torch is not installed. Its
docstring is the page that ``torchx run ... -- --help`` shows.
"""

from torchx import specs
from torchx.components import dist

from deploy.resources import find_resource

MAX_PORT = 65_535


def train(
    *args: str,
    data: str,
    sizing: str,
    output: str,
    preset: str = "dlrm",
    nnodes: int = 1,
    nproc_per_node: int = 2,
    host: str = "cpu-small",
    image: str = "mixdim:latest",
    mounts: str = "",
    metrics_port: int = 0,
    metrics_host: str = "127.0.0.1",
    max_retries: int = 0,
    name: str = "mixdim-train",
) -> specs.AppDef:
    """Train a model on one or several nodes, one rank per process.

    Args:
        args: further flags of `mixdim train`, such as --epochs 3
        data: dataset folder written by `mixdim prepare`, as the job sees it
        sizing: sizing plan written by `mixdim size`, as the job sees it
        output: run folder, on storage that all nodes share
        preset: preset or file to start from
        nnodes: number of machines
        nproc_per_node: ranks on each machine; on GPU hosts one per GPU
        host: resources of a machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX
        image: container image; ignored by the schedulers local_cwd and slurm
        mounts: what containers mount, such as type=bind,src=/data,dst=/data,readonly
        metrics_port: Prometheus port of local rank 0, the next ranks follow; 0 for none
        metrics_host: address the metrics are served on; 0.0.0.0 inside containers
        max_retries: how often the scheduler starts a failed job again, from its last checkpoint
        name: name of the job
    """
    command = ["train", preset, "--data", data, "--sizing", sizing, "--output", output]
    if metrics_port:
        command += ["--metrics-port", str(metrics_port), "--metrics-host", metrics_host]
    if max_retries:
        command += ["--resume"]
    resource = find_resource(host)
    app = dist.ddp(
        *command,
        *args,
        m="service",
        name=f"/{name}",
        image=image,
        cpu=resource.cpu,
        gpu=resource.gpu,
        memMB=resource.memMB,
        j=f"{nnodes}x{nproc_per_node}",
        env={"OMP_NUM_THREADS": str(max(1, resource.cpu // nproc_per_node))},
        mounts=mounts.split(",") if mounts else None,
        max_retries=max_retries,
    )
    (role,) = app.roles
    role.name = "train"
    role.port_map |= metrics_ports(metrics_port, nproc_per_node)
    return app


def metrics_ports(first: int, nproc_per_node: int) -> dict[str, int]:
    """Names of the ports that the ranks of one machine serve metrics on.

    Raises:
        ValueError: If the last rank's port does not exist.
    """
    if not first:
        return {}
    if first + nproc_per_node - 1 > MAX_PORT:
        raise ValueError(
            f"metrics_port={first} leaves no ports for {nproc_per_node} ranks, expected at most "
            f"{MAX_PORT + 1 - nproc_per_node}; try 9400"
        )
    return {f"metrics-{rank}": first + rank for rank in range(nproc_per_node)}
