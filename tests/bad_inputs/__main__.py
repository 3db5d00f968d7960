"""What goes wrong for users, and what they are told.

    python -m tests.bad_inputs docs/bad-inputs.md

runs every line of the table in a folder of its own and writes the messages down.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from tests.bad_inputs.table import BAD_INPUTS
from tests.bad_inputs.world import outcome_of, write_run, write_world

PAGE_HEAD = """# Bad inputs, and what they are told

Written by `python -m tests.bad_inputs docs/bad-inputs.md`, which makes every one of them and runs
the command; `tests/integration/test_bad_inputs.py` holds all of them to it. No message comes with a
traceback, none of them changes a byte of a dataset or of a checkpoint, each ends within a minute.

| | what is wrong | `mixdim` | exit code | what it says |
|---|---|---|---|---|"""


def shown(message: str) -> str:
    """A message in one line: the last, or what stands in the box around complaints about flags."""
    lines = [line.strip(" |") for line in message.strip().splitlines()]
    if lines[-1].startswith("mixdim"):
        return lines[-1]
    rules = [place for place, line in enumerate(lines) if line.startswith("---")]
    boxed = lines[rules[0] : rules[-1]] if len(rules) > 1 else lines
    return " ".join(line for line in boxed if line and not line.startswith("---"))


def write_page(path: Path) -> None:
    """Run the whole table and write what every line was told."""
    lines = [PAGE_HEAD]
    with tempfile.TemporaryDirectory() as root:
        fresh = Path(root) / "fresh"
        fresh.mkdir()
        write_world(fresh)
        write_run(fresh)
        for number, bad in enumerate(BAD_INPUTS, 1):
            folder = Path(root) / str(number)
            shutil.copytree(fresh, folder)
            if not bad.needs_run:
                shutil.rmtree(folder / "run")
            outcome = outcome_of(bad, folder)
            said = shown(outcome.message).replace("|", "\\|")
            lines.append(f"| {number} | {bad.name} | `{bad.command}` | {outcome.code} | {said} |")
            shutil.rmtree(folder)
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
