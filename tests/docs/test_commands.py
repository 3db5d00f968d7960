"""Everything that the documentation tells a reader to type can be typed; what is cheap is run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.checks import fault
from tests.docs.commands import PAGES, ROOT, Command, commands

ALL = commands()
CHEAP = re.compile(r"mixdim (--help|--version|doctor\b.* --quick)|make help")
"""Commands that are run wherever they stand; the others are parsed."""


def test_every_command_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    known: dict[tuple[str, bool], str | None] = {}
    wrong = []
    for command in ALL:
        key = command.text, command.is_mention
        if key not in known:
            known[key] = fault(command, tmp_path)
        if known[key]:
            wrong.append(f"{command}\n    {known[key]}")
    assert not wrong, "\n".join(["commands that a reader cannot type:", *wrong])


WRONG = {
    "mixdim trian dlrm": "'trian' is not a verb",
    "mixdim size data --budgt 4x": "Unrecognized options: --budgt",
    "mixdim size data --dim wide": "--dim",
    "mixdim train nonsense --data data": "neither a preset nor a file",
    "mixdim search nis deepfm --method.trials 3": "--method.trials",
    "mixdim evaluate 'runs/a": "no shell reads this",
    "docker run mixdim mixdim size data --dims 4": "--dims",
    "srun torchrun -m service train dlrm --sise a": "--sise",
    "sh -c 'cd data; mixdim explain a.json --wrong'": "--wrong",
    "mixdim submit --scheduler slurm train dlrm --dta d": "--dta",
    "mixdim submit --shceduler slurm train dlrm": "--shceduler",
    "make tets": "no target 'tets'",
    "make demo INPUTS=a": "no variable 'INPUTS'",
    "python -m tests.plantd": "no module",
    "python -m tests.planted --seedz 5": "no flag --seedz",
    "torchx run deploy/components.py:trian --data data": "no component 'trian'",
    "torchx run deploy/components.py:train --date data": "no argument 'date'",
    "docker compose -f docker/compose.yml up": "no docker/compose.yml",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_command_that_nobody_can_type_is_found(text: str, tmp_path: Path) -> None:
    assert WRONG[text] in (fault(Command("page.md", 1, text), tmp_path) or "")


FINE = (
    "mixdim train deepfm ... --resume-from RUN",
    "mixdim train my.toml --epochs $EPOCHS",
    "OMP_NUM_THREADS=1 python -m service size data --dim 16 > sizing.txt",
    "make setup TORCH_INDEX=<the index of CPU wheels>",
    "curl -s 127.0.0.1:9400/metrics",
)


@pytest.mark.parametrize("text", FINE)
def test_what_can_be_typed_is_let_through(text: str, tmp_path: Path) -> None:
    assert fault(Command("page.md", 1, text), tmp_path) is None


def test_commands_are_found_where_they_stand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Type `mixdim size DATA` or `make test`.\n\n```sh\nmake demo  # all of it\n"
        "mixdim size data \\\n  --dim 16 && mixdim explain a.json | head\n```\n\n"
        "```console\n$ mixdim --help\nusage: mixdim VERB\n```\n```python\nmake = 1\n```\n"
    )
    assert [(found.line, found.text) for found in commands([page])] == [
        (1, "mixdim size DATA"),
        (1, "make test"),
        (4, "make demo"),
        (5, "mixdim size data --dim 16"),
        (5, "mixdim explain a.json"),
        (5, "head"),
        (10, "mixdim --help"),
    ]


@pytest.mark.parametrize("text", sorted({c.text for c in ALL if CHEAP.fullmatch(c.text)}))
def test_cheap_commands_run(text: str) -> None:
    program, *rest = text.split()
    ours = [sys.executable, "-m", "service"] if program == "mixdim" else [program]
    done = subprocess.run([*ours, *rest], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode in {0, 1}, f"{text}: {done.stderr}"
    assert done.stdout.strip()


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    wrong = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if ":" in path:
                continue  # another host's
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                wrong.append(f"{page.relative_to(ROOT)}: {target}: there is no such file")
            elif anchor and anchor not in _anchors(file):
                wrong.append(f"{page.relative_to(ROOT)}: {target}: the page has no such heading")
    assert not wrong, "\n".join(["links that lead nowhere:", *wrong])


def _anchors(page: Path) -> set[str]:
    """What headings are called in links."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}
