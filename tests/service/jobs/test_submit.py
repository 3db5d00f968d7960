"""`mixdim submit` and `mixdim jobs`: on this machine for real, elsewhere as far as words go."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.__main__ import main
from service.jobs.printed import kubernetes_manifest
from service.jobs.submissions import Submissions, retried
from tests.deploy.dry_runs import GOLDEN, JOB, PRINTED

ROOT = Path(__file__).parents[3]
PREPARE = ("prepare", "synthetic", "--output", "data", "--rows")
FOREVER = "100000000"


@pytest.fixture
def mixdim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs a command; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(command: str, *words: str) -> tuple[int, str, str]:
        verb, *rest = command.split()
        code = main([verb, *rest, "--home", str(tmp_path / "home"), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def state_of(mixdim: Any, key: str) -> str:
    return str(json.loads(mixdim("jobs status", key, "--json")[1])["state"])


def wait_for_state(mixdim: Any, key: str, state: str) -> None:
    deadline = time.monotonic() + 60
    while state_of(mixdim, key) != state:
        assert time.monotonic() < deadline, state_of(mixdim, key)
        time.sleep(0.1)


def test_a_job_runs_here_and_its_output_comes_back(mixdim: Any, tmp_path: Path) -> None:
    code, said, told = mixdim("submit --wait --name first", *PREPARE, "300")
    key, *output = said.splitlines()
    assert (code, key[:6]) == (0, "first-")
    assert "succeeded" in told
    assert (tmp_path / "data" / "dataset.json").is_file()
    assert mixdim("jobs logs", key)[1].splitlines() == output
    assert f"  {key}   prepare   local       succeeded" in mixdim("jobs list")[1]


def test_output_that_is_no_text_is_shown_all_the_same(mixdim: Any, tmp_path: Path) -> None:
    key = mixdim("submit --wait", "size", "/nowhere")[1].splitlines()[0]
    (log,) = (tmp_path / "home" / "jobs" / key).glob("log*")
    log.write_bytes(b"caf\xe9 \xff\n")
    assert mixdim("jobs logs", key)[1] == "caf\ufffd \ufffd\n"


def test_a_job_that_is_waited_for_ends_the_command_as_it_ended(mixdim: Any) -> None:
    code, said, told = mixdim("submit --wait", "size", "/nowhere")
    assert code == 2
    assert "/nowhere holds no dataset.json" in said
    assert "failed (exit code 2)" in told
    shown = mixdim("jobs status", said.splitlines()[0])[1]
    assert "failed (exit code 2: mixdim size: error: /nowhere holds no dataset.json" in shown


def test_a_job_is_cancelled_asked_about_and_tried_again(mixdim: Any) -> None:
    key = mixdim("submit --key long", *PREPARE, FOREVER)[1].strip()
    wait_for_state(mixdim, key, "running")
    with_job = mixdim("jobs retry", key)
    assert with_job[0] == 2 and "expected one that has ended" in with_job[2]
    mixdim("jobs cancel", key)
    wait_for_state(mixdim, key, "cancelled")
    again = mixdim("jobs retry", key)[1].strip()
    assert again == "long-retry1"
    wait_for_state(mixdim, again, "running")
    mixdim("jobs cancel", again)
    wait_for_state(mixdim, again, "cancelled")
    listed = json.loads(mixdim("jobs list --json --state cancelled")[1])
    assert [job["job"] for job in listed] == [again, key], "newest first"


def test_what_was_refused_leaves_no_job(mixdim: Any) -> None:
    assert mixdim("submit --nodes 2", "train")[0] == 2
    assert json.loads(mixdim("jobs list --json")[1]) == []


def test_a_second_job_of_the_same_name_is_refused(mixdim: Any) -> None:
    mixdim("submit --key once", "size", "/nowhere")
    assert "job 'once' was submitted before" in mixdim("submit --key once", "size", "x")[2]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("submit", "no verb to submit; verbs: prepare, size, search"),
        ("submit demo", "'demo' is not a verb that can be a job"),
        ("submit --nodes 2:x train", "nodes='2:x', expected a number, or MIN:MAX"),
        ("submit --env A train", "--env 'A', expected NAME=VALUE"),
        ("submit --option a=b size", "option 'a': the scheduler 'local' has no options"),
        ("submit --scheduler slurm --option a=b size", "option 'a' is not one that a job may set"),
        ("submit --scheduler docker --option a=b size", "option 'a' is not one of local_docker's"),
        (
            "submit --scheduler kubernetes size",
            "options {}: Required run option: queue, must be provided",
        ),
        (
            "submit --scheduler local_cwd size",
            "TorchX ends its jobs with the process that has started",
        ),
        ("submit --scheduler moon size", "scheduler 'moon' is not one of TorchX'"),
        ("submit --print kubernetes --mount type=bind,src=/a,dst=/b size", "give type=volume,src="),
        ("submit --key Up size", "job 'Up', expected at most 63 lower-case letters"),
        ("jobs status none", "no job 'none' was submitted from"),
    ],
)
def test_what_cannot_be_is_told(
    words: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = words.split()
    home = ["--home", str(tmp_path)]
    at_the_end = verb == "jobs"
    assert main([verb, *(rest + home if at_the_end else home + rest)]) == 2
    assert why in capsys.readouterr().err


def test_words_behind_the_verb_are_the_verbs_own(mixdim: Any) -> None:
    text = mixdim("submit --print torchrun", "train", "--name", "x", "--help", "--env=1")[1]
    assert text.endswith(" -m service train --name x --help --env=1\n")


@pytest.mark.parametrize("form", PRINTED)
def test_printed_jobs_equal_the_golden_files(form: str) -> None:
    assert PRINTED[form](JOB, {"partition": "gpu"}) == (GOLDEN / f"printed.{form}").read_text()


def test_the_manifest_is_of_the_same_job() -> None:
    objects = list(yaml.safe_load_all(kubernetes_manifest(JOB, {})))
    (job,) = [thing for thing in objects if thing["kind"] == "Job"]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert job["spec"]["completions"] == JOB.nodes
    words = container["args"][container["args"].index("train") :]
    assert words[:4] == ["train", "dlrm", "--data", "$$HOME/my data"], "$$ is a $ there"
    assert {"name": "NCCL_DEBUG", "value": "INFO"} in container["env"]
    assert {"name": "shared", "mountPath": "/runs"} in container["volumeMounts"]


@pytest.mark.parametrize("form", PRINTED)
def test_what_is_printed_is_what_a_shell_takes(form: str, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text(PRINTED[form](JOB, {}))
    subprocess.run(["bash", "-n", str(tmp_path / "job.sh")], check=True)


def test_a_retried_training_goes_on_and_deletes_nothing(mixdim: Any, tmp_path: Path) -> None:
    mixdim("submit --key t --wait", "train", "dlrm", "--overwrite", "--sizing", "/nowhere")
    again = retried(Submissions(tmp_path / "home").read("t"), "t2")
    assert again.job.words == ("train", "dlrm", "--sizing", "/nowhere", "--resume")


def test_submitting_works_where_torch_is_not_installed(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Without:\n"
        "    def __init__(self, finder): self.finder = finder\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] not in ('torch', 'torchrec', 'fbgemm_gpu'):\n"
        "            return self.finder.find_spec(name, *rest)\n"
        "    def __getattr__(self, name): return getattr(self.finder, name)\n"
        "sys.meta_path[:] = map(Without, sys.meta_path)\n"
        "from service.__main__ import main\n"
        "home = ['--home', sys.argv[1]]\n"
        "train = ['--nodes', '2', 'train', 'dlrm', '--data', 'd']\n"
        "assert main(['submit', *home, '--print', 'all', *train]) == 0\n"
        "for name in ('slurm', 'docker', 'kubernetes', 'aws_batch'):\n"
        "    option = ['--option', 'queue=q'] if name in ('kubernetes', 'aws_batch') else []\n"
        "    words = ['--scheduler', name, *option, '--dry-run', *train]\n"
        "    assert main(['submit', *home, *words]) == 0, name\n"
        "assert main(['submit', *home, '--key', 'a', '--wait', 'size', '/nowhere']) == 2\n"
        "assert main(['jobs', 'list', *home]) == 0\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"-m service\.torchrun --nnodes=2", done.stdout)) >= 4
    assert "#SBATCH --nodes=2" in done.stdout
    assert "kind: Job" in done.stdout
