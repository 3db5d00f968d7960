"""TorchX components: the verbs of ``mixdim`` as jobs for one machine, Slurm, Kubernetes and others.

    torchx run -s local_cwd mixdim.train --data DATA --sizing SIZING --output RUN

A component only describes a command line, so submitting works where torch is not installed. Its
docstring is the page that ``torchx run mixdim.train --help`` shows. All take a machine (``host``,
``image``, ``mounts``, ``env``) and ``max_retries``; what stands after ``--`` goes to the verb.
"""

from torchx import specs

from deploy.app import given, on, ranks
from deploy.job import Job

IMAGE = "mixdim:latest"


def prepare(
    *args: str,
    source: str,
    output: str,
    host: str = "cpu-small",
    image: str = IMAGE,
    mounts: str = "",
    env: str = "",
    max_retries: int = 0,
    name: str = "mixdim-prepare",
) -> specs.AppDef:
    """Turn raw logs into a dataset folder: Parquet parts, vocabularies, statistics.

    Args:
        args: raw files, then flags of `mixdim prepare`, such as day_0.gz --min-count 10
        source: criteo, avazu, movielens, table or synthetic
        output: dataset folder to write, as the job sees it
        host: resources of the machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX
        image: container image; ignored by the schedulers local_cwd and slurm
        mounts: what containers mount, such as type=bind,src=/data,dst=/data,readonly
        env: environment variables of the job, such as TZ=UTC,LANG=C
        max_retries: how often the scheduler starts a failed job again
        name: name of the job
    """
    words = (source, *args, "--output", output)
    job = Job("prepare", words, name)
    return on(job, host, image, mounts, env, max_retries)


def size(
    *args: str,
    data: str,
    output: str,
    scheme: str = "popularity",
    budget: str = "",
    host: str = "cpu-small",
    image: str = IMAGE,
    mounts: str = "",
    env: str = "",
    max_retries: int = 0,
    name: str = "mixdim-size",
) -> specs.AppDef:
    """Decide how wide every embedding table is, under a budget in bytes.

    Args:
        args: further flags of `mixdim size`, such as --base-dim 32
        data: dataset folder written by `mixdim prepare`, as the job sees it
        output: sizing plan to write
        scheme: rule that says how wide: uniform, fastai, popularity, hash, file or spectral
        budget: bytes that are never exceeded, such as 512MiB, or 4x; none by default
        host: resources of the machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX
        image: container image; ignored by the schedulers local_cwd and slurm
        mounts: what containers mount, such as type=bind,src=/data,dst=/data,readonly
        env: environment variables of the job, such as TZ=UTC,LANG=C
        max_retries: how often the scheduler starts a failed job again
        name: name of the job
    """
    words = (data, "--output", output, "--scheme", scheme, *given("budget", budget), *args)
    job = Job("size", words, name)
    return on(job, host, image, mounts, env, max_retries)


def search(
    *args: str,
    method: str,
    data: str,
    output: str,
    preset: str = "dlrm",
    budget: str = "",
    nproc: int = 1,
    host: str = "cpu-small",
    image: str = IMAGE,
    mounts: str = "",
    env: str = "",
    max_retries: int = 0,
    name: str = "mixdim-search",
) -> specs.AppDef:
    """Find the width of every table by training, on the ranks of one machine.

    Args:
        args: further flags of `mixdim search METHOD`, such as --epochs 3
        method: search to run; `mixdim search` lists them
        data: dataset folder written by `mixdim prepare`, as the job sees it
        output: folder of the search, its plan among the files
        preset: preset or file to start from
        budget: bytes that the plan never exceeds, such as 512MiB, or 4x
        nproc: ranks of its trainings; on GPU hosts one per GPU
        host: resources of the machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX
        image: container image; ignored by the schedulers local_cwd and slurm
        mounts: what containers mount, such as type=bind,src=/data,dst=/data,readonly
        env: environment variables of the job, such as TZ=UTC,LANG=C
        max_retries: how often the scheduler starts a failed job again, to go on where it was
        name: name of the job
    """
    places = (method, preset, "--data", data, "--output", output, "--nproc", str(nproc))
    words = (*places, *given("budget", budget), *args)
    job = Job("search", words, name)
    return on(job, host, image, mounts, env, max_retries)


def train(
    *args: str,
    data: str,
    sizing: str,
    output: str,
    preset: str = "dlrm",
    nnodes: str = "1",
    nproc_per_node: int = 2,
    metrics_port: int = 0,
    metrics_host: str = "127.0.0.1",
    host: str = "cpu-small",
    image: str = IMAGE,
    mounts: str = "",
    env: str = "",
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
        nnodes: number of machines; MIN:MAX goes on with fewer, such as 1:2
        nproc_per_node: ranks on each machine; on GPU hosts one per GPU
        metrics_port: Prometheus port of local rank 0, the next ranks follow; 0 for none
        metrics_host: address the metrics are served on; 0.0.0.0 inside containers
        host: resources of a machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX
        image: container image; ignored by the schedulers local_cwd and slurm
        mounts: what containers mount, such as type=bind,src=/data,dst=/data,readonly
        env: environment variables of every rank, such as NCCL_DEBUG=INFO
        max_retries: how often the scheduler starts a failed job again, from its last checkpoint
        name: name of the job
    """
    words = (preset, "--data", data, "--sizing", sizing, "--output", output, *args)
    if metrics_port:
        words = (*words, "--metrics-port", str(metrics_port), "--metrics-host", metrics_host)
    job = ranks("train", words, nnodes, nproc_per_node, name)
    return on(job, host, image, mounts, env, max_retries)


def evaluate(
    *args: str,
    run: str,
    data: str = "",
    split: str = "test",
    nnodes: str = "1",
    nproc_per_node: int = 1,
    host: str = "cpu-small",
    image: str = IMAGE,
    mounts: str = "",
    env: str = "",
    max_retries: int = 0,
    name: str = "mixdim-evaluate",
) -> specs.AppDef:
    """Score a run's checkpoint: AUC, log loss, NE and calibration, or MSE and RMSE.

    Args:
        args: further flags of `mixdim evaluate`, such as --slices item_id
        run: run folder written by `mixdim train`, as the job sees it
        data: dataset folder; the one that was trained on by default
        split: split to score: train, validation or test
        nnodes: number of machines
        nproc_per_node: ranks on each machine; may differ from the training's
        host: resources of a machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX
        image: container image; ignored by the schedulers local_cwd and slurm
        mounts: what containers mount, such as type=bind,src=/data,dst=/data,readonly
        env: environment variables of every rank, such as NCCL_DEBUG=INFO
        max_retries: how often the scheduler starts a failed job again
        name: name of the job
    """
    words = (run, "--split", split, *given("data", data), *args)
    job = ranks("evaluate", words, nnodes, nproc_per_node, name)
    return on(job, host, image, mounts, env, max_retries)


def export(
    *args: str,
    run: str,
    output: str,
    dtype: str = "fp32",
    host: str = "cpu-small",
    image: str = IMAGE,
    mounts: str = "",
    env: str = "",
    max_retries: int = 0,
    name: str = "mixdim-export",
) -> specs.AppDef:
    """Turn a run's checkpoint into an artifact that scores rows without the training stack.

    Args:
        args: further flags of `mixdim export`
        run: run folder written by `mixdim train`, as the job sees it
        output: folder of the artifact
        dtype: what tables are stored as: fp32, fp16, int8 or int4
        host: resources of the machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX
        image: container image; ignored by the schedulers local_cwd and slurm
        mounts: what containers mount, such as type=bind,src=/data,dst=/data,readonly
        env: environment variables of the job, such as TZ=UTC,LANG=C
        max_retries: how often the scheduler starts a failed job again
        name: name of the job
    """
    words = (run, "--output", output, "--dtype", dtype, *args)
    job = Job("export", words, name)
    return on(job, host, image, mounts, env, max_retries)


def compare(
    *args: str,
    spec: str,
    data: str = "",
    output: str = "",
    host: str = "cpu-small",
    image: str = IMAGE,
    mounts: str = "",
    env: str = "",
    max_retries: int = 0,
    name: str = "mixdim-compare",
) -> specs.AppDef:
    """Train sizings x budgets x seeds, and draw quality against bytes.

    Args:
        args: further flags of `mixdim compare`, such as --parallel 4
        spec: TOML file with recipes, sizings, budgets and seeds
        data: dataset folder; the file's by default
        output: folder of records and frontier; the file's by default
        host: resources of the machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX
        image: container image; ignored by the schedulers local_cwd and slurm
        mounts: what containers mount, such as type=bind,src=/data,dst=/data,readonly
        env: environment variables of the job, such as TZ=UTC,LANG=C
        max_retries: how often the scheduler starts a failed job again, for the runs still missing
        name: name of the job
    """
    words = (spec, *given("data", data), *given("output", output), *args)
    job = Job("compare", words, name)
    return on(job, host, image, mounts, env, max_retries)


def bench(
    *args: str,
    benchmark: str,
    output: str = "",
    host: str = "cpu-small",
    image: str = IMAGE,
    mounts: str = "",
    env: str = "",
    max_retries: int = 0,
    name: str = "mixdim-bench",
) -> specs.AppDef:
    """Measure ingest, loader, lookups or training steps on the machine that the job gets.

    Args:
        args: further flags of `mixdim bench NAME`
        benchmark: step, loader, lookup, plans, checkpoint, ingest, race or scale
        output: file of the figures, as JSON; none by default
        host: resources of the machine: cpu-small, cpu-large, gpu-1, gpu-8 or registered with TorchX
        image: container image; ignored by the schedulers local_cwd and slurm
        mounts: what containers mount, such as type=bind,src=/data,dst=/data,readonly
        env: environment variables of the job, such as TZ=UTC,LANG=C
        max_retries: how often the scheduler starts a failed job again
        name: name of the job
    """
    words = (benchmark, *given("output", output), *args)
    job = Job("bench", words, name)
    return on(job, host, image, mounts, env, max_retries)
