"""A home full of made-up jobs, runs and a comparison, for pictures of the page."""

import subprocess
import sys
from pathlib import Path

from tests.service.api.page.served import Served

ROWS = 60_000
SIZINGS = {
    "uniform-8": {"scheme": "uniform", "dim": 8},
    "uniform-2": {"scheme": "uniform", "dim": 2},
    "popularity-4x": {"scheme": "popularity"},
    "popularity-10x": {"scheme": "popularity"},
}
TRAINING = {
    **{"batch-size": 512, "max-steps": 0, "epochs": 2, "validate-every": 20, "log-every": 2},
    **{"optimizer.sparse-lr": 0.1, "optimizer.dense-lr": 0.01, "patience": 50},
}
FATAL = {"optimizer.dense-lr": 1e30}
LONG = {"epochs": 3, "batch-size": 128}
SPEC = """
data = "{data}"
output = "{output}"
seeds = [0, 1, 2]
budgets = ["2x", "4x", "8x"]
baseline = "uniform"
[recipes.deepfm]
preset = "deepfm"
batch_size = 1024
max_steps = 80
optimizer = {{sparse_lr = 0.1, dense_lr = 0.003}}
[recipes.deepfm.network]
kind = "deepfm"
hidden = [32]
[sizings.uniform]
scheme = "uniform"
[sizings.popularity]
scheme = "popularity"
"""


def fill(service: Served) -> None:
    """Make a dataset, plans, runs of two users, one failure, one comparison."""
    made_up = {"rows": ROWS, "scale": 0.003}
    service.run("ada", verb="prepare", method="synthetic", name="clicks", options=made_up)
    for name, options in SIZINGS.items():
        budget = name.rpartition("-")[2] if name.endswith("x") else None
        request = {"data": "clicks", "name": name, "options": options, "budget": budget}
        service.run("ada", verb="size", **request)
    jobs = [
        submit_training(service, user, f"{sizing}-seed{seed}", sizing, seed=seed)
        for user, seed in (("ada", 0), ("grace", 1))
        for sizing in SIZINGS
    ]
    jobs.append(submit_training(service, "grace", "too-fast", "uniform-8", **FATAL))
    for job in jobs:
        service.wait(job, user="ada", seconds=900)
    stop_one(service)
    compare(service.home)


def stop_one(service: Served) -> None:
    """Cancel a training."""
    job = submit_training(service, "ada", "uniform-8-long", "uniform-8", **LONG)
    service.wait_for_step(job, 10, user="ada")
    service.call(f"jobs/{job}/cancel", {}, user="ada")
    service.wait(job, user="ada")


def submit_training(
    service: Served, user: str, name: str, sizing: str, *, ranks: int = 2, **options: float
) -> str:
    """Submit a training of a few seconds."""
    plan = {"preset": "smoke", "data": "clicks", "sizing": sizing, "ranks_per_node": ranks}
    return service.submit(user, verb="train", name=name, **plan, options=TRAINING | options)


def compare(home: Path) -> None:
    """Draw a frontier with the command line, where the service finds it."""
    spec = home / "uploads" / "methods.toml"
    output = home / "frontiers" / "two-methods"
    spec.write_text(SPEC.format(data=home / "datasets" / "clicks", output=output))
    command = ("-m", "service", "compare", str(spec), "--parallel", "2")
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
