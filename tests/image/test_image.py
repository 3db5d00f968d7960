"""The image, really built and really run: small, not root, on a root that nobody can write.

`make test-image` installs what this needs on a Debian machine, where no Docker engine is.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.image

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("image.sh")
TOOLS = ("buildah", "podman", "crun", "debootstrap")
IMAGE = "localhost/mixdim:ci"
MAX_BYTES = 1.3e9
"""Of the CPU image, not compressed; torch alone is half of it."""
ALONE = ("--network", "none", "--cgroups", "disabled", "--read-only", "--shm-size", "256m")
JOB = """
set -e
mixdim prepare synthetic --rows 20000 --output /runs/data
mixdim size /runs/data --budget 4x --output /runs/sizing.json
mixdim train dlrm --data /runs/data --sizing /runs/sizing.json --output /runs/a \
  --nproc 2 --batch-size 256 --max-steps 20
mixdim evaluate /runs/a --json
cat /runs/a/run.json
"""
PACKAGES = """
import importlib.metadata as m, json
names = {d.metadata["Name"]: d.version for d in m.distributions()}
print(json.dumps({name.lower().replace("_", "-"): names[name] for name in names}))
"""
LEFTOVERS = """
cd /opt/mixdim/lib/python3.11/site-packages
ls -d torch/test torch/include numpy/tests pyarrow/tests sympy/core/tests pip 2>/dev/null
find /var/lib/apt/lists /var/cache/apt /tmp -type f 2>/dev/null
true
"""


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """The image as the repository describes it now; layers that have not changed are kept."""
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=os.defpath + ":/usr/sbin")]
    if missing or os.geteuid() != 0:
        pytest.skip(f"building an image needs root and {', '.join(TOOLS)}: make test-image")
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([SCRIPT, "build"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), "run", *ALONE, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def output(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def described() -> dict[str, object]:
    done = subprocess.run([SCRIPT, "inspect"], capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)
    return dict(found)


def test_a_job_goes_from_raw_rows_to_a_score_on_two_ranks_with_a_read_only_root() -> None:
    said = output("--tmpfs", "/runs:rw,mode=1777", IMAGE, "sh", "-c", JOB)
    assert re.search(r'"auc": 0\.\d+', said)
    assert re.search(r'"world_size": 2\b', said)


def test_nobody_is_root_and_the_root_is_not_written() -> None:
    assert output(IMAGE, "id", "-u").strip() == "10001"
    refused = run(IMAGE, "touch", "/opt/mixdim/x")
    assert "Read-only file system" in refused.stderr


def test_the_command_is_mixdim_and_whatever_else_somebody_gives() -> None:
    config = described()["Config"]
    assert isinstance(config, dict)
    assert not config.get("Entrypoint")
    assert config["Cmd"][0] == "mixdim"
    assert "usage: mixdim" in output(IMAGE)
    assert output(IMAGE, "echo", "hello") == "hello\n"  # what TorchX relies on


def test_the_service_is_healthy_by_its_own_account() -> None:
    check = re.search(
        r"HEALTHCHECK.*?CMD (\[.*?\])\n", (ROOT / "docker/Dockerfile").read_text(), re.S
    )
    assert check
    words = json.loads(check[1])
    serve = "mixdim serve --home=/tmp/home --host=0.0.0.0 --port=8080 & "
    wait = 'for _ in $(seq 60); do sleep 1; "$@" && exit 0; done 2>/dev/null; exit 1'
    output(IMAGE, "sh", "-c", serve + wait, "check", *words)


def test_the_image_is_small_and_holds_no_leftovers() -> None:
    size = described()["Size"]
    assert isinstance(size, int)
    assert size < MAX_BYTES
    assert output(IMAGE, "sh", "-c", LEFTOVERS) == ""


def test_the_image_holds_what_is_locked_and_nothing_else() -> None:
    installed = json.loads(output(IMAGE, "python", "-c", PACKAGES))
    text = (ROOT / "requirements" / "cpu.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.MULTILINE))
    assert installed.keys() - locked.keys() == {"mixdim", "torch"}
    assert {name: installed.get(name) for name in locked} == locked
