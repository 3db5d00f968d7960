"""With --json stdout is one JSON document and nothing else, verb after verb of a first run."""

import json
from pathlib import Path

import pytest

from service.__main__ import main

FLOW = {
    "prepare": "prepare --json synthetic --rows 600 --output data",
    "size": "size data --scheme popularity --budget 4x --json --output sizing.json",
    "explain": "explain sizing.json --data data --json",
    "plan": "plan --sizing sizing.json --cluster local --json --output sharding.json",
    "doctor": "doctor --quick --json",
    "jobs": "jobs list --home jobs --json",
    "token": "token create --name ada --home home --json",
    "tokens": "token list --home home --json",
}
KEYS = {
    "prepare": "fields",
    "size": "fields",
    "explain": "tables",
    "doctor": "findings",
    "token": "secret",
}


def test_stdout_is_one_document(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    said = {}
    for name, line in FLOW.items():
        assert main(line.split()) == 0, (line, capsys.readouterr().err)
        said[name] = json.loads(capsys.readouterr().out)
    assert {name for name, key in KEYS.items() if key not in said[name]} == set()
    assert said["jobs"] == []
    assert [token["name"] for token in said["tokens"]] == ["ada"]
    assert main(["token", "revoke", said["token"]["id"], "--home", "home", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": said["token"]["id"], "revoked": True}
