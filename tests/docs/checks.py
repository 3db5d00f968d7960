"""What is wrong with a command of the documentation, without running it."""

import ast
import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tyro

from service.__main__ import VERBS, main
from service.commands.submit import split
from tests.docs.commands import ELIDED, ROOT, Command, parts_of

TOP = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0].isalpha())
OWN_PATH = re.compile(rf"(?:\./)?(?:{'|'.join(TOP)})/[\w./*-]+")
GIVEN = {
    **{"PRESET": "deepfm", "PRESET_OR_FILE": "deepfm", "METHOD": "random", "SOURCE": "criteo"},
    **{"VERB": "size", "N": "1", "FILE": "file.toml", "SPEC": "spec.toml"},
}
"""What words in capitals stand for, where the parser asks for more than any word."""
UNKNOWN = re.compile(r"unrecognized|invalid choice|is not a|is neither", re.IGNORECASE)
"""What the parser says of a flag or a name that does not exist, even if others are left out."""


_CLI = tyro.cli


class Parsed(BaseException):
    """Nothing catches it: the command has been read, and is not to run."""


def fault(command: Command, folder: Path) -> str | None:
    """Why a command cannot be typed as it stands; None for nothing that was found.

    Args:
        command: What is written.
        folder: An empty folder to parse in.
    """
    try:
        words = command.words
    except ValueError as error:
        return f"no shell reads this: {error}"
    if not command.is_mention and ("sh" in words[:-2] and "-c" in words):
        inner = parts_of(command.page, command.line, words[-1])
        return next((found for part in inner if (found := fault(part, folder))), None)
    checks = (_mixdim, _make, _module, _torchx)
    found = [check(words, command, folder) for check in checks]
    return next(filter(None, [*found, *_missing_files(words)]), None)


def _mixdim(words: Sequence[str], command: Command, folder: Path) -> str | None:
    for place, word in enumerate(words):
        after = words[place + 1 :]
        is_module = word == "-m" and after[:1] == ["service"]
        is_ours = Path(word).name == "mixdim" and after[:1] != ["mixdim"]
        if is_module or (is_ours and after and not after[0].startswith("/")):
            own = after[1:] if is_module else after
            if is_module or own[0] in VERBS or own[0] in GIVEN or place == 0:
                return _parsed(own, folder, is_elided=command.is_elided)
    return None


def _parsed(words: Sequence[str], folder: Path, *, is_elided: bool) -> str | None:
    arguments = [GIVEN.get(word, word.partition("|")[0]) for word in words if word not in ELIDED]
    for word in arguments[1:]:
        if word.endswith(".toml") and not (ROOT / word).exists() and "/" not in word:
            (folder / word).touch()
    said = io.StringIO()
    cwd = Path.cwd()
    try:
        os.chdir(folder)
        with (
            patch("tyro.cli", _without_running),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(said),
        ):
            code = main(arguments)
    except Parsed:
        behind = split(arguments[1:])[1] if arguments[0] == "submit" else []
        return _parsed(behind, folder, is_elided=is_elided) if any(behind) else None
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        os.chdir(cwd)
    is_fine = code == 0 or (is_elided and not UNKNOWN.search(said.getvalue()))
    return None if is_fine else f"`mixdim` does not take it: {_plain(said.getvalue())}"


def _without_running(*arguments: Any, **options: Any) -> None:
    _CLI(*arguments, **options)
    raise Parsed


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[\u2500-\u257f]|\x1b\[[\d;]*m", " ", text).split())


def _make(words: Sequence[str], command: Command, folder: Path) -> str | None:
    if not words or words[0] != "make":
        return None
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        name, is_variable, _ = word.partition("=")
        form = rf"^(?:export )?{re.escape(name)} *[?:]?=" if is_variable else rf"^{name}:"
        known = word in ELIDED or word.startswith("-") or re.search(form, makefile, re.MULTILINE)
        if not known:
            kind = "variable" if is_variable else "target"
            return f"the Makefile has no {kind} {name!r}"
    return None


def _module(words: Sequence[str], command: Command, folder: Path) -> str | None:
    if len(words) < 3 or not re.match(r".*python[\d.]*$", words[0]) or words[1] != "-m":
        return None
    name = words[2]
    if name == "service" or name == "pytest":
        return None
    spec = find_spec(name)
    if spec is None:
        return f"there is no module {name!r}"
    if not name.startswith("tests.") and name.split(".")[0] not in TOP:
        return None
    folder_of = spec.submodule_search_locations
    path = Path(folder_of[0], "__main__.py") if folder_of else Path(str(spec.origin))
    source = path.read_text()
    flags = [word.partition("=")[0] for word in words[3:] if re.match(r"--\w", word)]
    unknown = [flag for flag in flags if f'"{flag}"' not in source]
    return f"{name} has no flag {unknown[0]}" if unknown else None


def _torchx(words: Sequence[str], command: Command, folder: Path) -> str | None:
    if words[:2] != ["torchx", "run"]:
        return None
    components = _components()
    for place, word in enumerate(words):
        own = re.fullmatch(r"(?:deploy/components\.py:|mixdim\.)(\w+)", word)
        if own is None:
            continue
        if own[1] not in components:
            return f"there is no component {own[1]!r}; components: {', '.join(sorted(components))}"
        given = [
            w[2:].partition("=")[0] for w in _until_dashes(words[place + 1 :]) if w[:2] == "--"
        ]
        known = components[own[1]] | {"help"}
        unknown = [name for name in given if name.replace("-", "_") not in known]
        return f"component {own[1]!r} has no argument {unknown[0]!r}" if unknown else None
    return None


def _until_dashes(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == "--":
            return
        yield word


@cache
def _components() -> dict[str, set[str]]:
    """Arguments by component."""
    tree = ast.parse((ROOT / "deploy" / "components.py").read_text())
    return {
        node.name: {a.arg for a in [*node.args.args, *node.args.kwonlyargs, *_rest(node)]}
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def _rest(node: ast.FunctionDef) -> list[ast.arg]:
    return [node.args.vararg] if node.args.vararg else []


def _missing_files(words: Sequence[str]) -> Iterator[str]:
    """Files of the repository that are not there; those to be written are named behind a flag."""
    outputs = {"--output", "--raw", "--write-cluster", "--plot", "-o"}
    for before, word in zip(["", *words], words, strict=False):
        path = word.partition(":")[0].rstrip("/")
        if before in outputs or not OWN_PATH.fullmatch(path):
            continue
        if not any(ROOT.glob(path.removeprefix("./"))):
            yield f"the repository has no {path}"
