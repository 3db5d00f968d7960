"""docs/add-a-scheme.md, done as it says: one file and one name, and everything knows the rule."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.commands import ROOT, commands

PAGE = ROOT / "docs" / "add-a-scheme.md"
NEEDED = ("models", "service", "sharding", "tests/models/sizing")
RUN = """
import sys
from service.__main__ import main
for line in sys.argv[1:]:
    code = main(line.split())
    assert code == 0, (line, code)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the page's file in it, and its changes made."""
    folder = tmp_path_factory.mktemp("repository")
    for name in NEEDED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests" / "golden").mkdir()
    shutil.copy(ROOT / "tests" / "golden" / "sizing.json", folder / "tests" / "golden")
    shutil.copy(ROOT / "pyproject.toml", folder)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (rule,) = [text for language, text in blocks if language == "python"]
    (folder / "models" / "sizing" / "logarithm.py").write_text(rule)
    union = folder / "models" / "sizing" / "__init__.py"
    text = union.read_text()
    for change in (text for language, text in blocks if language == "diff"):
        lines = change.splitlines(keepends=True)
        before, after = (
            "".join(line[1:] for line in lines if line[0] in {" ", sign}) for sign in "-+"
        )
        assert text.count(before) == 1, f"{PAGE.name}: {union.name} does not have {before!r}"
        text = text.replace(before, after)
    union.write_text(text)
    return folder


def run(copy: Path, *words: str) -> str:
    """What Python prints in the copy, without a look at this repository."""
    settings = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=copy, env=settings
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_line_sizes_and_explains_by_it(copy: Path) -> None:
    typed = [c.text for c in commands([PAGE]) if c.text.startswith("mixdim") and not c.is_mention]
    assert len(typed) == 3
    make = "prepare synthetic --rows 900 --output data"
    run(copy, "-c", RUN, make, *(line.removeprefix("mixdim ") for line in typed))
    plain, bounded = (json.loads((copy / f"{name}.json").read_text()) for name in ("log", "log-4x"))
    assert plain["scheme"]["kind"] == bounded["scheme"]["kind"] == "logarithm"
    widths = {name: own[0]["embedding_dim"] for name, own in plain["fields"].items()}
    assert len(set(widths.values())) > 2
    assert max(widths.values()) == 24
    assert bounded["totals"]["training_bytes"] <= bounded["budget_bytes"]


def test_the_contract_asks_it(copy: Path) -> None:
    (line,) = [c.words for c in commands([PAGE]) if c.words[0].endswith("python")]
    said = run(copy, *line[1:], "-p", "no:cacheprovider", "-q")
    (passed,) = re.findall(r"(\d+) passed", said)
    assert int(passed) >= 8


SPEC = """
data = "data"
output = "out"
budgets = ["4x"]
[recipes.fm]
preset = "fm"
[sizings.logarithm]
scheme = "logarithm"
max_dim = 32
"""
KNOWN = """
from pathlib import Path
from service.api.verbs import size_form
from service.compare.choices import read_spec, sizing_of
spec = read_spec(Path("spec.toml"))
print(sizing_of(spec, "logarithm", {}).request.scheme, size_form().choices["scheme"])
"""


def test_comparisons_and_the_service_know_its_name(copy: Path) -> None:
    (copy / "spec.toml").write_text(SPEC)
    said = run(copy, "-c", KNOWN)
    assert "LogarithmRule(kind='logarithm', max_dim=32)" in said
    assert "'logarithm'" in said.rpartition("[")[2]
