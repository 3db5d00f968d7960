"""What holds for the repository as a whole: verbs, budgets of size, locks, and a quick command."""

import ast
import re
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.__main__ import EXIT_REJECTED, VERBS, main

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "sharding", "service", "deploy")
SOURCES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40


def locked(name: str) -> dict[str, str]:
    """Versions by package of a lock file."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.MULTILINE))


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
    )


def num_lines(function: ast.FunctionDef) -> int:
    """Lines from the signature to the end, the docstring not counted."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    documented = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - documented


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_module_with_main(verb: str) -> None:
    path = ROOT / "service" / "commands" / f"{verb.replace('-', '_')}.py"
    (entry,) = [function for function in functions(path) if function.name == "main"]
    assert [argument.arg for argument in entry.args.args] == ["argv"]


@pytest.mark.parametrize("arguments", [[], *([verb] for verb in VERBS)], ids=["mixdim", *VERBS])
def test_help_answers_without_loading_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from service.__main__ import main\n"
        "try: code = main([*sys.argv[1:], '--help'])\n"
        "except SystemExit as exit: code = exit.code\n"
        "sys.exit(code or ('torch' in sys.modules and 'it loaded torch'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout.lower()


def test_help_takes_less_than_a_second() -> None:
    seconds = []
    for _ in range(3):  # of a core: others may be busy on the machine
        start = _seconds_of_children()
        subprocess.run([sys.executable, "-m", "service", "--help"], check=True, cwd=ROOT)
        seconds.append(_seconds_of_children() - start)
    assert min(seconds) < 1


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_an_unknown_verb_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == EXIT_REJECTED
    assert capsys.readouterr().err == (
        f"mixdim: error: 'trian' is not a verb; verbs: {', '.join(VERBS)}\n"
    )


def test_no_verb_at_all_is_rejected_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == EXIT_REJECTED
    usage = capsys.readouterr().out
    assert all(f"\n  {verb} " in usage for verb in VERBS)


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mixdim {project['version']}\n"


def test_files_stay_short() -> None:
    lengths = {path: path.read_text().count("\n") for path in SOURCES + TESTS}
    assert {path for path, length in lengths.items() if length > MAX_FILE_LINES} == set()


def test_functions_stay_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{function.name}": num_lines(function)
        for path in SOURCES
        for function in functions(path)
        if num_lines(function) > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_no_file_is_a_drawer() -> None:
    drawers = {"util", "utils", "helper", "helpers", "common", "core", "misc"}
    assert {path for path in SOURCES if drawers & {path.stem, *path.parent.parts}} == set()


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert {path for path in SOURCES if marks.search(path.read_text())} == set()


def test_each_lock_names_one_build_of_fbgemm() -> None:
    assert {name for name in locked("cpu") if "fbgemm" in name} == {"fbgemm-gpu-cpu"}
    assert {name for name in locked("cuda") if "fbgemm" in name} == {"fbgemm-gpu"}


def test_locks_leave_torch_and_its_libraries_to_torch() -> None:
    own = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
    names = locked("cpu").keys() | locked("cuda").keys() | locked("dev").keys()
    assert {name for name in names if own.fullmatch(name)} == set()


def test_locks_agree_wherever_they_overlap() -> None:
    cpu, cuda, dev = locked("cpu"), locked("cuda"), locked("dev")
    assert len(cpu) > 40
    for other in (cuda, dev):
        assert {name for name in cpu.keys() & other.keys() if cpu[name] != other[name]} == set()


def test_locks_hold_for_any_mirror() -> None:
    text = "".join(path.read_text() for path in (ROOT / "requirements").iterdir())
    assert "://" not in text
    assert "--find-links" not in text


def test_locks_and_extras_name_the_same_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    torch = dict(re.findall(r"^TORCH \?= (torch)==(\S+)$", (ROOT / "Makefile").read_text(), re.M))
    for extra, wanted in project["optional-dependencies"].items():
        pinned = dict(name.split("==") for name in wanted if "==" in name)
        known = locked("dev") | locked("cuda" if extra == "cuda" else "cpu") | torch
        assert pinned.items() <= known.items(), extra
