"""docs/first-run.md, typed from top to bottom."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.commands import ROOT, commands

PAGE = ROOT / "docs" / "first-run.md"


@pytest.mark.slow
def test_every_command_of_the_page_runs_in_its_order(tmp_path: Path) -> None:
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    typed = [command for command in commands([PAGE]) if not command.is_mention]
    assert len(typed) == 9
    for command in typed:
        program, *rest = shlex.split(command.text)
        assert program == "mixdim", command
        ours = [sys.executable, "-m", "service", *rest]
        done = subprocess.run(ours, capture_output=True, text=True, cwd=tmp_path, env=settings)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout.strip(), command
    result = json.loads((tmp_path / "runs" / "small" / "result.json").read_text())
    assert result["steps"] > 0
    assert 0 <= result["scores"]["auc"] <= 1
