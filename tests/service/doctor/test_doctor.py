"""What `mixdim doctor` says of machines that lack something."""

import json
import shutil
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from service.__main__ import main
from service.doctor import machine, packages
from service.doctor.machine import look_at_machine
from service.doctor.packages import look_at_packages
from service.doctor.training import look_at_training

FITTING = {
    "torch": "2.13.0+cpu",
    "torchrec": "1.8.0",
    "fbgemm-gpu-cpu": "1.8.0",
    "torchx": "0.7.0",
    "tyro": "1.0.17",
    "fastapi": "0.165.0",
}
ASKED = [
    "tyro>=1",
    *(f'{name}; extra == "cpu"' for name in ("torch==2.13.0", "torchrec==1.8.0")),
    'fbgemm-gpu-cpu==1.8.0; extra == "cpu"',
    *(f'{name}; extra == "cuda"' for name in ("torch==2.13.0", "fbgemm-gpu==1.8.0")),
    'torchx==0.7.0; extra == "submit"',
    'fastapi; extra == "service"',
]


def found(monkeypatch, installed, role="train"):
    """What is said of packages, by name."""

    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(packages, "version", version)
    monkeypatch.setattr(packages, "requires", lambda name: ASKED)
    return {finding.name: finding for finding in look_at_packages(role)}


def states(findings):
    return {name: finding.state for name, finding in findings.items()}


def test_packages_that_fit_are_fine(monkeypatch):
    assert set(states(found(monkeypatch, FITTING)).values()) == {"ok"}


BROKEN = {
    "torch is missing": ({"torch": None}, "training", "make setup"),
    "torch 2.11.0+cpu, expected ==2.13.0": (
        {"torch": "2.11.0+cpu"},
        "training",
        "make clean setup",
    ),
    "both installed, and own one module": ({"fbgemm-gpu": "1.9.0"}, "training", "BACKEND=cuda"),
    "is the CPU build, fbgemm-gpu the CUDA build": (
        {"fbgemm-gpu-cpu": None, "fbgemm-gpu": "1.8.0"},
        "torch",
        "without TORCH_INDEX",
    ),
    "tyro 0.9, expected >=1": ({"tyro": "0.9"}, "mixdim", "make setup"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_packages_that_do_not_fit_are_named_with_what_to_do(monkeypatch, fault):
    changes, name, advice = BROKEN[fault]
    installed = {key: own for key, own in (FITTING | changes).items() if own is not None}
    finding = found(monkeypatch, installed)[name]
    assert (finding.state, fault in finding.value) == ("wrong", True), finding
    assert advice in finding.advice


def test_what_is_wrong_for_one_role_is_a_hint_for_another(monkeypatch):
    no_torch = {name: own for name, own in FITTING.items() if name not in {"torch", "torchx"}}
    assert states(found(monkeypatch, no_torch, "train"))["training"] == "wrong"
    submit = states(found(monkeypatch, no_torch, "submit"))
    assert (submit["training"], submit["submit"]) == ("hint", "wrong")
    assert states(found(monkeypatch, no_torch, "serve"))["submit"] == "hint"


def machine_with(monkeypatch, folder, *, free=2**40, files=65_536, programs=()):
    usage = SimpleNamespace(free=free, total=free)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: (files, files))
    which = {name: f"/usr/bin/{name}" for name in programs}.get
    monkeypatch.setattr(machine.shutil, "which", which)
    return {finding.name: finding for finding in look_at_machine(folder)}


def test_a_small_machine_is_told_what_it_lacks(monkeypatch, tmp_path):
    small = machine_with(monkeypatch, tmp_path / "not" / "there", free=64 * 2**20, files=1024)
    assert {name for name, f in small.items() if f.state == "wrong"} == {"disk"}
    assert "--shm-size 2g" in small["shared memory"].advice
    assert "ulimit -n 4096" in small["open files"].advice
    assert "sbatch, srun, squeue, scancel not on the path" in small["Slurm"].value
    assert "mixdim[kubernetes]" in small["Kubernetes"].advice


def test_a_large_machine_is_fine(monkeypatch, tmp_path):
    programs = [program for _, names, _ in machine.SCHEDULERS for program in names]
    large = machine_with(monkeypatch, tmp_path, programs=programs)
    assert set(states(large).values()) == {"ok"}


@pytest.mark.parametrize(("code", "state"), [(0, "ok"), (9, "hint")])
def test_gpus_are_those_of_the_driver(monkeypatch, tmp_path, code, state):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho 'NVIDIA H200, 143771 MiB, 570.1'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{shutil.os.defpath}")
    gpus = next(f for f in look_at_machine(tmp_path) if f.name == "GPUs")
    assert (gpus.state, gpus.value) == (state, "NVIDIA H200, 143771 MiB, 570.1")


def test_libraries_that_do_not_load_are_wrong_where_trainings_run(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cuda.so: cannot open')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for is_needed, state in ((True, "wrong"), (False, "hint")):
        (only,) = look_at_training(has_driver=False, is_needed=is_needed)
        assert (only.state, only.value) == (state, "ImportError: libtorch_cuda.so: cannot open")
        assert "make clean setup" in only.advice


def test_a_driver_that_torch_does_not_see_is_a_hint(monkeypatch):
    seen = {"cuda": None, "gpus": [], "nccl": None, "gloo": True, "bf16": False}
    monkeypatch.setattr("service.doctor.training._probe", lambda: seen)
    cuda = {f.name: f for f in look_at_training(has_driver=True, is_needed=True)}["CUDA"]
    assert (cuda.state, "BACKEND=cuda" in cuda.advice) == ("hint", True)
    seen |= {"cuda": "13.0", "gpus": [["H200", 150 * 2**30]], "nccl": "2.27.3"}
    fine = {f.name: f for f in look_at_training(has_driver=True, is_needed=True)}
    assert states(fine) == dict.fromkeys(("import", "gloo", "CUDA", "NCCL"), "ok")
    assert (fine["CUDA"].value, fine["NCCL"].value) == ("13.0: H200 (150 GiB)", "2.27.3")


def test_the_exit_code_says_whether_something_is_wrong(monkeypatch, tmp_path, capsys):
    found(monkeypatch, FITTING)
    machine_with(monkeypatch, tmp_path)
    assert main(["doctor", "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    found(monkeypatch, {"tyro": "1.0.17"})
    assert main(["doctor", "--quick", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert not said["ok"]
    assert main(["doctor", "--quick"]) == 1
    text = capsys.readouterr().out
    assert "torch is missing" in text
    assert "-> make setup" in text


def test_this_environment_is_fine(capsys):
    assert main(["doctor", "--json"]) == 0, capsys.readouterr().out
    said = {f["name"]: f["value"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert said["import"] == "torch, torchrec and fbgemm_gpu load"
