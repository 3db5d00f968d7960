"""Every command of the documentation is run: by a walk through its page, or by what is named."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.commands import ROOT, Line, lines
from tests.docs.fates import ELSEWHERE, NOT_HERE
from tests.docs.scenes import DEMO, PAGES, SHARED
from tests.docs.scenes_of_figures import FIGURES
from tests.docs.scenes_of_jobs import JOBS, SLURM
from tests.docs.walking import copy_from, rules_of, script, walk

ALL = lines()
SCENES = {**PAGES, **JOBS, **FIGURES}
STAND_INS = {name: f"python -m tests.docs.stand_ins {name}" for name in ("docker", "kubectl")}


def fates(line: Line) -> list[str]:
    """What is said of a line that no walk runs."""
    tables = {**ELSEWHERE, **NOT_HERE}
    return [tables[pattern] for pattern in tables if re.search(pattern, line.text)]


WALKED = {
    page: [line for line in ALL if line.page == page and not fates(line)]
    for page in dict.fromkeys(line.page for line in ALL)
}


def walked_page(page: str, folder: Path, world: Path | None) -> None:
    scene = SCENES[page]
    if scene.needs and not shutil.which(scene.needs):
        pytest.skip(f"{scene.needs} is not installed")
    if world:
        copy_from(world, scene.starts_with, folder)
    walk(folder, script(WALKED[page], scene, SHARED), STAND_INS)


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left when README.md has been typed."""
    folder = tmp_path_factory.mktemp("readme")
    walked_page("README.md", folder, None)
    return folder


@pytest.mark.docs
def test_the_first_page_can_be_typed_from_its_top(readme: Path) -> None:
    assert (readme / "artifacts" / "a" / "artifact.json").exists()


@pytest.mark.docs
@pytest.mark.parametrize("page", [page for page in WALKED if WALKED[page] and page != "README.md"])
def test_a_page_can_be_typed_from_its_top(page: str, tmp_path: Path, readme: Path) -> None:
    walked_page(page, tmp_path, readme)


@pytest.mark.docs
def test_the_demo_ends_in_the_table_of_the_first_page(tmp_path: Path) -> None:
    walk(tmp_path, script([Line("Makefile", 1, "make demo")], DEMO, ()), {})


def test_every_line_is_walked_or_run_by_something_else_or_says_why_not() -> None:
    assert [str(line) for line in ALL if len(fates(line)) > 1] == []
    assert [page for page, lines in WALKED.items() if lines and page not in SCENES] == []


def test_nothing_is_said_of_lines_that_are_not_there() -> None:
    tables = {**ELSEWHERE, **NOT_HERE}
    unused = [p for p in tables if not any(re.search(p, line.text) for line in ALL)]
    for page, scene in SCENES.items():
        for rule in scene.rules:
            unused += [f"{page}: {rule.line}"] * (
                not any(rules_of(line, [rule]) for line in WALKED[page])
            )
    assert unused == []


def test_whatever_is_typed_otherwise_has_a_reason() -> None:
    scenes = {**SCENES, "Makefile": DEMO, "tests/slurm": SLURM}
    rules = [(page, rule) for page, scene in scenes.items() for rule in scene.rules]
    assert [(page, rule.line) for page, rule in rules if rule.swap and not rule.why] == []


@pytest.mark.parametrize("proof", sorted(set(ELSEWHERE.values())))
def test_what_runs_a_line_instead_is_there_and_run(proof: str) -> None:
    if (target := proof.removeprefix("make ")) != proof:
        steps = (ROOT / ".ci" / "run").read_text()
        assert re.search(rf"^\s*(make|proof) {target}$", steps, re.MULTILINE)
        return
    file, _, name = proof.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_without_make_the_same_is_installed() -> None:
    """What docs/install.md has people type without make is what make types."""
    made = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup", "PYTHON=python3"],
        **{"capture_output": True, "text": True, "check": True, "cwd": ROOT},
    )
    is_installing = re.compile(r"python3 -m venv|\.venv/bin/(python -m )?pip ")
    printed = made.stdout.replace("\\\n", "").splitlines()
    own = [_installed(line) for line in printed if is_installing.match(line)]
    typed = [line for line in ALL if is_installing.match(line.text)]
    assert len(typed) == 4
    assert [line for line in typed if _installed(line.text) not in own] == []


def _installed(line: str) -> list[str]:
    line = re.sub(r"^\.venv/bin/python -m pip --disable-pip-version-check --quiet", "pip", line)
    return shlex.split(line.removeprefix(".venv/bin/"))
