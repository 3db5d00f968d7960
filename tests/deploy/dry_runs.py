"""What each scheduler of TorchX would be handed, and what is printed instead, as golden files.

python -m tests.deploy.dry_runs      writes tests/golden/dry_runs anew
"""

import ast
import json
import re
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from torchx.runner import get_runner
from torchx.specs import AppDef

from deploy import components
from deploy.job import Job
from service.jobs.printed import FORMS

GOLDEN = Path(__file__).parents[1] / "golden" / "dry_runs"
SCHEDULERS: Mapping[str, Mapping[str, str]] = {
    "local_cwd": {"log_dir": "/logs"},
    "local_docker": {},
    "slurm": {"partition": "gpu", "time": "600"},
    "kubernetes": {"queue": "default", "namespace": "train"},
    "aws_batch": {"queue": "gpu"},
}
JOBS: Mapping[str, Callable[[], AppDef]] = {
    "prepare": partial(
        components.prepare,
        *("/raw/my day.gz", "--min-count", "10"),
        source="criteo",
        output="/data",
        mounts="type=bind,src=/a,dst=/raw,readonly,type=volume,src=data,dst=/data",
    ),
    "train": partial(
        components.train,
        *("--epochs", "3", "--global-batch-size", "65536"),
        data="/data",
        sizing="$HOME/s.json",
        output="/runs/a;b",
        nnodes="1:2",
        nproc_per_node=8,
        metrics_port=9400,
        host="gpu-8",
        env="NCCL_DEBUG=INFO",
        max_retries=2,
    ),
}
PRINTED = {name: FORMS[name] for name in ("torchrun", "slurm")}
"""What is written by us; the manifest for Kubernetes has golden files of its own."""
JOB = Job(
    "train",
    (
        *("dlrm", "--data", "$HOME/my data", "--output", "/runs/a", "--metrics-port", "9400"),
        *("--global-batch-size", "65536"),
    ),
    "click-model",
    nodes=2,
    min_nodes=1,
    ranks_per_node=8,
    host="gpu-8",
    mounts=("type=volume,src=shared,dst=/runs",),
    environment={"NCCL_DEBUG": "INFO"},
    max_retries=2,
)
"""What is printed for people who start it without us."""


class _AnyTag(yaml.SafeLoader):
    """Takes objects of Python for the mappings and lists that they are written as."""


def _untagged(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        content = loader.construct_mapping(node, deep=True)
        return content.get("dictitems", content)
    return loader.construct_sequence(node, deep=True)  # type: ignore[arg-type]


_AnyTag.add_multi_constructor("tag:yaml.org,2002:python/", _untagged)


def dry_run(scheduler: str, job: str) -> Any:
    """What a scheduler would be handed, as plain lists and dictionaries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Volcano's retries, instance types of AWS
        handed = str(get_runner().dryrun(JOBS[job](), scheduler, dict(SCHEDULERS[scheduler])))
    if scheduler == "slurm":
        return _settled(handed.splitlines())
    if scheduler == "local_cwd":
        return _settled(ast.literal_eval(handed))
    return _settled(yaml.load(handed, Loader=_AnyTag))


def _settled(value: Any) -> Any:
    """Without what differs between runs, folders and people."""
    if isinstance(value, dict):
        return {key: _settled(entry) for key, entry in value.items() if key != "PATH"}
    if isinstance(value, list):
        return [_settled(entry) for entry in value]
    if not isinstance(value, str):
        return value
    named = re.sub(r"\b(mixdim-(?:prepare|train))-[a-z0-9]{10,16}\b", r"\1-SUFFIX", value)
    return named.replace(str(Path.cwd()), "CWD")


def golden(scheduler: str) -> Any:
    """What is handed for all jobs, without what names the person who asks."""
    handed = {job: dry_run(scheduler, job) for job in JOBS}
    if scheduler == "aws_batch":
        for request in handed.values():
            request["job_def"]["tags"]["torchx.pytorch.org/user"] = "USER"
    return handed


def main() -> None:
    """Write the golden files."""
    for scheduler in SCHEDULERS:
        path = GOLDEN / f"{scheduler}.json"
        path.write_text(json.dumps(golden(scheduler), indent=2, sort_keys=True) + "\n")
    for form, text_of in PRINTED.items():
        (GOLDEN / f"printed.{form}").write_text(text_of(JOB, {"partition": "gpu"}))


if __name__ == "__main__":
    main()
