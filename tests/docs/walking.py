"""A page of the documentation, typed from top to bottom into one shell in a small world.

The shell is alone: a network of its own, of which only the loopback device is there, so that ports
of the page are free and nothing is sent anywhere; and process numbers of its own, so that whatever
it has started ends with it. Its home is the folder that it works in.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.docs.commands import ROOT, Line

SECONDS = 1200
"""How long a page may take before something is wrong."""
PROLOGUE = """
set -eEuo pipefail
exec 3>&2
trap 'echo "failed: $BASH_COMMAND" >&3' ERR
until_answers() {  # ADDRESS: what was started last is ready
  for _ in $(seq 900); do
    if curl --silent --output /dev/null "$1" 2>/dev/null; then return; fi
    kill -0 $! || return 1
    sleep 0.2
  done
  return 1
}
until_is() {  # STATE JOB
  for _ in $(seq 300); do
    if mixdim jobs status "$2" --json | grep --quiet '"'$1'"'; then return; fi
    sleep 0.5
  done
  return 1
}
"""
ALONE = """
ip link set lo up
ip address add 127.0.0.10/8 dev lo
hostname walk
printf '127.0.0.1 localhost\\n::1 localhost\\n127.0.0.10 walk\\n' >"$HOME/.hosts"
mount --bind "$HOME/.hosts" /etc/hosts
exec bash "$HOME/.walk.sh"
"""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a walk does otherwise than a reader who types a line."""

    line: str
    """Regular expression of the lines that are meant."""
    why: str = ""
    """What a walk does not show of the line, and why."""
    swap: str | None = None
    """What is typed instead of what `line` matches, as for `re.sub`."""
    before: str = ""
    """What is to be there first."""
    until: str = ""
    """A server: it runs in the background from when this address answers."""
    after: str = ""
    """What the page says is so afterwards; `$OUT` and `$ERR` are what was printed."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a page takes for granted, and its rules."""

    starts_with: Sequence[str] = ()
    """Files and folders that the walk through README.md has left."""
    before: str = ""
    rules: Sequence[Rule] = ()
    needs: str = ""
    """A program without which the page is skipped."""


def rules_of(line: Line, rules: Sequence[Rule]) -> list[Rule]:
    """Those that mean the line."""
    return [rule for rule in rules if re.search(rule.line, line.text)]


def script(lines: Sequence[Line], scene: Scene, shared: Sequence[Rule]) -> str:
    """The lines as one program, which stops at the first that fails."""
    steps = [_step(line, rules_of(line, [*scene.rules, *shared])) for line in lines]
    return "\n".join([PROLOGUE, scene.before, *steps])


def _step(line: Line, rules: Sequence[Rule]) -> str:
    text = line.text
    for rule in rules:
        text = text if rule.swap is None else re.sub(rule.line, rule.swap, text)
    said = f'"$HOME/.said/{line.line}'
    server = next((rule.until for rule in rules if rule.until), "")
    if server:
        text = text.removesuffix("&") + " &"
    after = [rule.after for rule in rules if rule.after] or ([] if server else _left_behind(text))
    return "\n".join(
        [
            f'echo {line.line} >>$HOME/.said/lines; OUT={said}.out" ERR={said}.err"',
            *(rule.before for rule in rules),
            f'cat >{said}.sh" <<"END OF LINE"\n{text}\nEND OF LINE',
            f'{{\n{text}\n}} >"$OUT" 2>"$ERR"',
            f"until_answers {server}" if server else "",
            *(f"{{\n{check}\n}} >&2" for check in after),
        ]
    )


def _left_behind(text: str) -> list[str]:
    """What every command owes: the file it was told to write, and a word of what it did."""
    is_elsewhere = re.match(r"mixdim submit|docker", text)
    outputs = [] if is_elsewhere else re.findall(r"--output (\S+)", text)
    redirects = re.findall(r"> (\S+)", text)
    is_silent = redirects or re.match(r"(export|set|mkdir|\.) |[A-Z_]+=", text)
    checks = [f"test -e {path}" for path in outputs] + [f"test -s {path}" for path in redirects]
    return checks if is_silent else [*checks, 'test -s "$OUT"']


def walk(folder: Path, text: str, programs: Mapping[str, str]) -> None:
    """Run a script in a folder.

    Args:
        folder: Where to work; it is the shell's home as well.
        text: What `script` has made.
        programs: What stands in for programs that are not to be had here, a shell command a name.

    Raises:
        AssertionError: If a command has failed; it has what was printed.
    """
    lay_out(folder, text)
    own = folder / ".programs"
    own.mkdir()
    for name, command in programs.items():
        (own / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (own / name).chmod(0o755)
    settings = {name: value for name, value in os.environ.items() if "MIXDIM" not in name} | {
        "HOME": str(folder),
        "PATH": os.pathsep.join([str(own), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "REPOSITORY": str(ROOT),
        "VENV": sys.prefix,
    }
    alone = ["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child"]
    shell = subprocess.Popen(
        [*alone, "--mount-proc", "--propagation", "private", "bash", "-ec", ALONE],
        cwd=folder,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = shell.communicate(timeout=SECONDS)
    finally:
        shell.kill()
    assert shell.returncode == 0, _last_words(folder, said)


def lay_out(folder: Path, text: str) -> None:
    """Put a script into a folder, which is to be its home, as `.walk.sh`."""
    (folder / ".said").mkdir(parents=True)
    (folder / ".said" / "lines").touch()
    (folder / ".walk.sh").write_text(text)
    (folder / ".curlrc").write_text("fail-with-body\nshow-error\n")  # an error is a failure


def _last_words(folder: Path, said: str) -> str:
    typed = (folder / ".said" / "lines").read_text().split()
    if not typed:
        return said
    files = [folder / ".said" / f"{typed[-1]}.{kind}" for kind in ("sh", "out", "err")]
    texts = [path.read_text()[-3000:] for path in files if path.exists()]
    return "\n".join([f"line {typed[-1]}:", *texts, said[-3000:]])


def copy_from(world: Path, names: Sequence[str], folder: Path) -> None:
    """Take along what another walk has left."""
    for name in names:
        source = world / name
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
