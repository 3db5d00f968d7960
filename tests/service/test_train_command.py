"""What ``mixdim train`` and ``mixdim evaluate`` take, refuse and print."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from models.networks import DeepFMNetwork
from service.__main__ import main
from service.config import OptimizerConfig, TrainConfig
from service.presets import PRESETS
from tests.service.train.runs import make_run

ROOT = Path(__file__).parents[2]


def arguments(config: TrainConfig) -> list[str]:
    return [
        *("--data", str(config.data), "--sizing", str(config.sizing)),
        *("--output", str(config.output), "--batch-size", "128", "--matmul", "mkl"),
    ]


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1, "one clear line"
    return message


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_survives_the_way_through_a_file(preset):
    adapter = TypeAdapter(TrainConfig)
    config = PRESETS[preset]()
    assert adapter.validate_json(adapter.dump_json(config)) == config


def test_flags_override_a_file_that_overrides_the_defaults(tmp_path, capsys):
    config = make_run(tmp_path)
    file = tmp_path / "mine.toml"
    file.write_text('max_steps = 9\nlog_every = 1\n[network]\nkind = "deepfm"\nhidden = [8]\n')
    assert main(["train", str(file), *arguments(config), "--max-steps", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    used = json.loads((config.output / "run.json").read_text())["config"]
    assert result["steps"] == used["max_steps"] == 2
    assert used["log_every"] == 1
    network = {"kind": "deepfm", "hidden": [8], "dropout": 0.0, "join": "project"}
    assert used["network"] == network


def test_evaluate_prints_the_scores_of_the_run(tmp_path, capsys):
    config = make_run(tmp_path)
    assert main(["train", "smoke", *arguments(config), "--max-steps", "3"]) == 0
    trained = capsys.readouterr().out
    assert main(["evaluate", str(config.output), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert f"auc {scores['auc']:.6g}" in trained
    assert main(["evaluate", str(config.output), "--split", "validation"]) == 0
    assert "validation split, step-00000003" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize = 3", "batchsize"),
        ("batch_size = 0", "batch_size=0, expected at least 1"),
        ("[network]\nkind = 'dlrn'", "dlrn"),
        ("[network]\nkind = 'mf'\nhidden = [3]", "hidden"),
        ("no toml", "mine.toml"),
    ],
)
def test_a_faulty_file_is_refused_by_name_and_key(text, message, tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        from service.commands.train import main as train_main

        train_main([str(file)])


def test_what_is_neither_preset_nor_file_is_refused_with_the_presets(capsys):
    message = error_of(capsys, "train", "criteo-populrity")
    assert "'criteo-populrity' is neither a preset nor a file; presets: dlrm, dcnv2, " in message
    assert "presets: dlrm" in error_of(capsys, "train", "--epochs", "3")


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert "holds no run.json" in error_of(capsys, "evaluate", str(tmp_path))


def test_sharded_tables_under_adam_on_a_cpu_are_refused(tmp_path, capsys):
    config = make_run(tmp_path)
    flags = ["--optimizer.sparse", "adam", "--device", "cpu", "--sharding.types", "row_wise"]
    message = error_of(capsys, "train", "smoke", *arguments(config), *flags)
    assert "adam is not fused on cpu" in message
    assert "allow data_parallel or use adagrad" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs=0, expected at least 1"),
        ({"seed": -1}, "seed=-1, expected 0 or more"),
        ({"hang_timeout": -1.0}, "hang_timeout=-1.0, expected 0 or more"),
        ({"seed": 1 << 63}, "seed=9223372036854775808, expected a number of 63 bits"),
        ({"resume": True, "overwrite": True}, "contradict each other"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["dlrm"](), **changes)


@pytest.mark.parametrize("changes", [{"sparse_lr": 0.0}, {"eps": -1.0}, {"plateau_factor": 1.0}])
def test_rates_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=r"expected (a positive number|in \(0, 1\))"):
        OptimizerConfig(**changes)


def test_the_network_of_a_preset_has_flags_of_its_own(tmp_path):
    config = make_run(tmp_path)
    flags = ["--network.hidden", "8", "4", "--max-steps", "1"]
    assert main(["train", "deepfm", *arguments(config), *flags]) == 0
    used = json.loads((config.output / "run.json").read_text())["config"]
    assert TypeAdapter(TrainConfig).validate_python(used).network == DeepFMNetwork(hidden=(8, 4))


@pytest.mark.dist
def test_every_rank_of_a_run_serves_its_metrics(tmp_path):
    config = make_run(tmp_path)
    port = free_port()
    command = [sys.executable, "-m", "service", "train", "smoke", *arguments(config)]
    flags = ["--nproc", "2", "--max-steps", "0", "--epochs", "99", "--patience", "99"]
    process = subprocess.Popen(
        [*command, *flags, "--metrics-port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        pages = [page_with_steps(port + rank, process) for rank in (0, 1)]
    finally:
        process.terminate()
        process.wait()
    for rank, page in enumerate(pages):
        assert "mixdim_train_examples_total" in page
        assert f'mixdim_table_bytes{{rank="{rank}",table=' in page


def free_port() -> int:
    """A port with a free neighbour, in all likelihood."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def page_with_steps(port: int, process: subprocess.Popen[bytes]) -> str:
    """The metrics of a rank once it has trained a step."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                page = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            page = ""
        if "mixdim_train_steps_total" in page and "mixdim_train_steps_total 0.0" not in page:
            return page
        time.sleep(0.2)
    raise AssertionError(f"no metrics on port {port}")
