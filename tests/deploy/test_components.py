"""The TorchX component: a page of help, a command line, and what each scheduler makes of it."""

import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torchx import specs
from torchx.components.component_test_base import ComponentTestCase
from torchx.runner import get_runner
from torchx.specs.finder import get_components

from deploy import components
from deploy.app import app
from deploy.job import VERBS, Job
from deploy.resources import RESOURCES, find_resource
from tests.docs.checks import fault
from tests.docs.commands import Command

COMPONENT = Path(components.__file__)
train = partial(components.train, data="/data", sizing="/sizing.json", output="/runs/last")


class EveryComponent(ComponentTestCase):
    def test_torchx_accepts_it(self) -> None:
        for verb in VERBS:
            self.validate(components, verb)


def test_every_verb_that_can_be_a_job_has_a_component() -> None:
    assert all(inspect.isfunction(getattr(components, verb)) for verb in VERBS)


DESCRIBED = {
    "prepare": partial(components.prepare, "raw.gz", source="criteo", output="d"),
    "size": partial(components.size, data="d", output="s.json", budget="4x"),
    "search": partial(components.search, method="autodim", data="d", output="o", budget="4x"),
    "train": partial(train, metrics_port=9400),
    "evaluate": partial(components.evaluate, run="r", data="d"),
    "export": partial(components.export, run="r", output="a"),
    "compare": partial(components.compare, spec="s.toml", data="d", output="o"),
    "bench": partial(components.bench, benchmark="step", output="o.json"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_take_what_their_components_say(verb: str, tmp_path: Path) -> None:
    (role,) = DESCRIBED[verb](max_retries=1).roles
    behind_torchrun = role.args[-1].rpartition(" -m service ")[2]
    line = f"mixdim {behind_torchrun if role.entrypoint == 'bash' else shlex.join(role.args)}"
    assert fault(Command("deploy/components.py", 1, line), tmp_path) is None
    wrong = Command("deploy/components.py", 1, f"{line} --no-such-flag")
    assert "--no-such-flag" in (fault(wrong, tmp_path) or "")


@pytest.mark.parametrize("verb", VERBS)
def test_all_components_ask_for_machines_alike(verb: str) -> None:
    takes = inspect.signature(getattr(components, verb)).parameters
    assert {"args", "host", "image", "mounts", "env", "max_retries", "name"} <= takes.keys()
    assert takes["name"].default == f"mixdim-{verb}"


def command_line(app: specs.AppDef) -> str:
    (role,) = app.roles
    assert role.entrypoint == "bash"
    return str(role.args[-1])


def dryrun(app: specs.AppDef, scheduler: str, **config: str) -> str:
    """What a scheduler would be handed."""
    runner = get_runner()
    return str(runner.dryrun(app, scheduler, config))


def torchx_run(*arguments: str) -> str:
    """What the command line of TorchX prints."""
    torchx = str(Path(sys.executable).parent / "torchx")
    command = [torchx, "run", "--dryrun", "-s", "local_cwd", f"{COMPONENT}:train", *arguments]
    environment = os.environ | {"PYTHONPATH": str(COMPONENT.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_describing_a_job_needs_no_torch() -> None:
    code = (
        "import sys; from deploy import components;"
        "components.train(data='d', sizing='s', output='o');"
        "sys.exit('torch' in sys.modules or 'service' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=COMPONENT.parents[1])


def test_it_starts_one_elastic_agent_a_node_and_the_ranks_below() -> None:
    app = train("--epochs", "3", preset="deepfm", nnodes="3", nproc_per_node=4)
    line = command_line(app)
    assert app.roles[0].num_replicas == 3
    assert "--nnodes=3 --nproc-per-node=4" in line
    assert line.endswith(
        "-m service train deepfm --data /data --sizing /sizing.json --output /runs/last --epochs 3"
    )


def test_arguments_reach_the_job_as_they_were_given() -> None:
    app = components.train(data="/my data", sizing="$HOME/s.json", output="/runs/a;b")
    line = command_line(app)
    assert "--data '/my data' --sizing '$$HOME/s.json' --output '/runs/a;b'" in line


def test_a_job_that_may_be_retried_goes_on_from_its_checkpoint() -> None:
    assert "--resume" not in command_line(train())
    app = train(max_retries=2)
    assert "--resume" in command_line(app)
    assert app.roles[0].max_retries == 2


def test_every_rank_of_a_node_has_a_metrics_port() -> None:
    app = train(metrics_port=9400, metrics_host="0.0.0.0", nproc_per_node=2)
    ports = {name: port for name, port in app.roles[0].port_map.items() if "metrics" in name}
    assert ports == {"metrics-0": 9400, "metrics-1": 9401}
    assert "--metrics-port 9400 --metrics-host 0.0.0.0" in command_line(app)
    assert "metrics" not in command_line(train())


def test_a_port_beyond_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match="metrics_port=65535 leaves no ports for 2 ranks"):
        train(metrics_port=65_535, nproc_per_node=2)


def test_ranks_share_the_cores_of_their_host() -> None:
    app = train(host="cpu-large", nproc_per_node=4)
    assert app.roles[0].env["OMP_NUM_THREADS"] == "4"
    assert app.roles[0].resource.memMB == RESOURCES["cpu-large"]().memMB


def test_a_host_of_torchx_answers_to_its_name() -> None:
    assert find_resource("gpu.xlarge").gpu == 8


def test_an_unknown_host_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"host='gpu-9' is neither one of cpu-small, .* nor"):
        train(host="gpu-9")


def test_mounts_reach_the_container() -> None:
    app = train(mounts="type=bind,src=/a,dst=/data,readonly")
    (mount,) = app.roles[0].mounts
    assert isinstance(mount, specs.BindMount)
    assert (mount.src_path, mount.dst_path, mount.read_only) == ("/a", "/data", True)


def test_an_elastic_job_lets_machines_join_it() -> None:
    (role,) = train("--global-batch-size", "60", nnodes="1:3").roles
    assert (role.min_replicas, role.num_replicas) == (1, 3)
    assert "--nnodes=1:3 " in role.args[-1]
    assert role.env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1", "torch 2.13 hangs without it"
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE" not in train(nnodes="3").roles[0].env


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"nnodes": "two"}, "nodes='two', expected a number, or MIN:MAX; try 1:2"),
        ({"nnodes": "1:2"}, "nodes=1:2: train would refuse to go on with another number of ranks"),
        ({"nnodes": "3:2"}, "min_nodes=3, expected 1 to nodes=2"),
        ({"nproc_per_node": 0}, "ranks_per_node=0, expected at least 1"),
        ({"env": "A B=1"}, "environment variable 'A B', expected letters, digits and underscores"),
        ({"env": "2=1"}, "environment variable '2', expected letters, digits and underscores"),
        ({"max_retries": -1}, "max_retries=-1, expected at least 0"),
        ({"name": "My job"}, "name='My job', expected at most 63 lower-case letters"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_submitted(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        train(**wrong)


def test_only_training_and_evaluation_take_several_machines() -> None:
    with pytest.raises(ValueError, match=r"nodes=2: search runs on one machine, on several only"):
        app(Job("search", nodes=2))


def test_environment_reaches_every_rank_and_wins() -> None:
    (role,) = train(env="OMP_NUM_THREADS=7,NOTE=$HOME").roles
    assert (role.env["OMP_NUM_THREADS"], role.env["NOTE"]) == ("7", "$$HOME")


def test_a_search_that_may_be_retried_goes_on_and_other_verbs_begin_anew() -> None:
    search = components.search(method="autodim", data="d", output="o", max_retries=1)
    size = components.size(data="d", output="o", max_retries=1)
    assert "--resume" in search.roles[0].args
    assert "--resume" not in size.roles[0].args


@pytest.mark.parametrize("said", ["--resume", "--no-resume", "--overwrite"])
def test_whoever_says_what_becomes_of_a_run_is_not_contradicted(said: str) -> None:
    assert Job("train", ("smoke", said), max_retries=2).words == ("train", "smoke", said)


def test_slurm_asks_for_one_task_a_node_and_all_its_gpus() -> None:
    script = dryrun(train(nnodes="2", host="gpu-8", nproc_per_node=8), "slurm")
    assert script.count("--ntasks-per-node=1") == 2
    assert script.count("--gpus-per-task=8") == 2


def test_the_command_line_of_torchx_finds_it() -> None:
    page = torchx_run("--data", "d", "--sizing", "s", "--output", "o", "--nproc_per_node", "3")
    assert "--nproc-per-node=3" in page


def test_help_is_its_docstring() -> None:
    page = " ".join(torchx_run("--help").split())
    assert "dataset folder written by `mixdim prepare`, as the job sees it (required)" in page


def plug_ins(group: str) -> dict[str, str]:
    """Entry points that the project's own table declares."""
    project = tomllib.loads((COMPONENT.parents[1] / "pyproject.toml").read_text())["project"]
    declared: dict[str, str] = project["entry-points"][group]
    return declared


def test_the_installed_plug_in_keeps_the_built_in_components() -> None:
    names = [f"mixdim.{verb}" for verb in VERBS]
    assert {*names, "dist.ddp", "utils.echo"} <= get_components().keys()
    assert set(get_components()) >= {"dist.spmd", "utils.sh", "serve.torchserve"}


def test_every_host_is_registered_under_its_name() -> None:
    declared = plug_ins("torchx.named_resources")
    assert declared.keys() == RESOURCES.keys()
    assert all(specs.named_resources[name] == RESOURCES[name]() for name in declared)
