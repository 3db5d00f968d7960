"""The TorchX component: a page of help, a command line, and what each scheduler makes of it."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from torchx import specs
from torchx.components.component_test_base import ComponentTestCase
from torchx.runner import get_runner

from deploy import components
from deploy.resources import RESOURCES, find_resource

COMPONENT = Path(components.__file__)
train = partial(components.train, data="/data", sizing="/sizing.json", output="/runs/last")


class TrainComponent(ComponentTestCase):
    def test_torchx_accepts_it(self) -> None:
        self.validate(components, "train")


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
    app = train("--epochs", "3", preset="deepfm", nnodes=3, nproc_per_node=4)
    line = command_line(app)
    assert app.roles[0].num_replicas == 3
    assert "--nproc_per_node 4" in line
    assert line.endswith(
        "-m service train deepfm --data /data --sizing /sizing.json --output /runs/last --epochs 3"
    )


def test_arguments_reach_the_job_as_they_were_given() -> None:
    app = components.train(data="/my data", sizing="$HOME/s.json", output="/runs/a;b")
    line = command_line(app)
    assert "--data '/my data' --sizing '$HOME/s.json' --output '/runs/a;b'" in line


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
    assert app.roles[0].resource.memMB == RESOURCES["cpu-large"].memMB


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


@pytest.mark.parametrize("scheduler", ["local_cwd", "slurm", "local_docker"])
def test_schedulers_take_it(scheduler: str) -> None:
    request = re.sub(r"[\s'\"]", "", dryrun(train(), scheduler))  # it is cut into lines anywhere
    assert "traindlrm--data/data--sizing/sizing.json" in request


def test_slurm_asks_for_one_task_a_node_and_all_its_gpus() -> None:
    script = dryrun(train(nnodes=2, host="gpu-8", nproc_per_node=8), "slurm")
    assert script.count("--ntasks-per-node=1") == 2
    assert script.count("--gpus-per-task=8") == 2


def test_kubernetes_opens_the_metrics_port() -> None:
    pytest.importorskip("kubernetes", reason="the kubernetes client is not installed")
    job = dryrun(train(metrics_port=9400), "kubernetes", queue="default", namespace="train")
    assert "containerPort: 9400" in job


def test_the_command_line_of_torchx_finds_it() -> None:
    page = torchx_run("--data", "d", "--sizing", "s", "--output", "o", "--nproc_per_node", "3")
    assert "--nproc_per_node 3" in page


def test_help_is_its_docstring() -> None:
    page = " ".join(torchx_run("--help").split())
    assert "dataset folder written by `mixdim prepare`, as the job sees it (required)" in page
