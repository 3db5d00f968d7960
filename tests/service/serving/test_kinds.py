"""Embeddings of every kind that is exported score raw rows as they do in training; SIGHUP."""

import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest

from models.embeddings.coded import DPQChoice, MGQEChoice
from models.embeddings.quotients import QuotientRemainderChoice
from models.tables import Block
from service.__main__ import EXIT_REJECTED, main
from service.distributed import launch
from service.export.config import ExportConfig
from service.serving import load
from service.sizing import SizingFile, read_sizing, write_sizing
from service.train.loop import train
from tests.service.serving.conftest import WIDE, made
from tests.service.serving.served_runs import trained_predictions

KINDS = {
    "dpq": DPQChoice(codes=4, groups=2, whole_fields=("tags",)),
    "mgqe": MGQEChoice(codes=8, tail_codes=4, groups=2, whole_fields=("tags",), head_ratio=0.2),
    "multiplied": QuotientRemainderChoice(collisions=3, whole_fields=("tags",)),
    "side by side": QuotientRemainderChoice(collisions=3, combine="concat"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_other_embeddings_score_as_in_training(kind, served_run, tmp_path):
    sizing = read_sizing(served_run.config.sizing)
    uniform = {
        name: (Block(num_embeddings=sum(b.num_ids for b in blocks), embedding_dim=8, asked_dim=8),)
        for name, blocks in sizing.fields.items()
    }
    write_sizing(SizingFile(format_version=1, fields=uniform, out_dim=8), tmp_path / "sizing.json")
    config = replace(
        served_run.config,
        sizing=tmp_path / "sizing.json",
        output=tmp_path / "run",
        embeddings=KINDS[kind],
        pooling="sum",
    )
    launch(train, config, nproc=1, name="train")
    made(ExportConfig(run=config.output, output=tmp_path / "artifact", tolerance=WIDE))
    found = load(tmp_path / "artifact").predict(served_run.json_rows)
    np.testing.assert_allclose(found, trained_predictions(config.output), rtol=0, atol=2e-6)
    assert np.ptp(found) > 0.01


@pytest.mark.slow
def test_codes_are_refused_in_other_dtypes(served_run, tmp_path, capsys):
    run = served_run.config.output
    text = (run / "run.json").read_text()
    copied = tmp_path / "run"
    copied.mkdir()
    changed = text.replace('"kind": "mixed"', '"kind": "dpq"')
    (copied / "run.json").write_text(changed)
    flags = ["--output", str(tmp_path / "out"), "--dtype", "int8"]
    assert main(["export", str(copied), *flags]) == EXIT_REJECTED
    assert "which are a few bits a row already; give --dtype fp32" in capsys.readouterr().err


@pytest.mark.slow
def test_the_server_reloads_on_a_signal_and_ends_in_order(fp32, served_run):
    command = [sys.executable, "-m", "service", "serve-model", str(fp32), "--port", "0"]
    command += ["--poll-seconds", "600"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said = next(line for line in server.stderr if "serving" in line)
            url = said.split()[-1]
            body = {"rows": served_run.json_rows[:2]}
            answer = httpx.post(f"{url}/predict", json=body, timeout=60)
            expected = load(fp32).predict(served_run.json_rows[:2])
            np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-6)
            server.send_signal(signal.SIGHUP)
            until, page = time.monotonic() + 60, ""
            while 'reloads_total{outcome="taken"} 1.0' not in page and time.monotonic() < until:
                time.sleep(0.2)
                page = httpx.get(f"{url}/metrics", timeout=60).text
            assert 'mixdim_serving_reloads_total{outcome="taken"} 1.0' in page
        finally:
            server.terminate()
        assert server.wait(60) in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(fp32, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve-model", str(fp32), "--port", str(port)]) == EXIT_REJECTED
    assert f"port {port} on 127.0.0.1: Address already in use" in capsys.readouterr().err
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_request_that_may_be_made_may_wait(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["serve-model", "artifact", "--max-rows", "100", "--max-waiting-rows", "99"])
    assert "max_waiting_rows=99, expected at least" in capsys.readouterr().err
