"""What shells offer at the tab key is what the verbs take."""

import re
import shutil
import subprocess

import pytest

from service.__main__ import VERBS, main
from service.completion import _help, offers, script

ASKED = {
    "mixdim tr": ["train"],
    "mixdim train deep": ["deepfm"],
    "mixdim train deepfm --data data --optimizer.sparse-": ["--optimizer.sparse-lr"],
    "mixdim size data --dtype int": ["int4", "int8"],
    "mixdim search sse": ["sseds"],
    "mixdim search nis deep": ["deepfm"],
    "mixdim search nis deepfm --method.si": ["--method.sizes"],
    "mixdim prepare mov": ["movielens"],
    "mixdim completion z": ["zsh"],
}
"""A line as far as it is typed, and what may stand in its last word's place."""
SHELLS = {
    "bash": ". {script}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _mixdim;"
    ' printf "%s\\n" "${{COMPREPLY[@]}}"',
    "zsh": ". {script}; words=({line}); compadd() {{ shift; print -l -- ${{(M)@:#$words[-1]*}} }};"
    " _files() {{ }}; CURRENT=$#words; _mixdim",
    "fish": "source {script}; complete -C '{line}'",
}
WITHOUT_JSON = {
    "serve": "answers over HTTP until it is told to stop",
    "serve-model": "answers over HTTP until it is told to stop",
    "completion bash": "writes a script",
    "completion zsh": "writes a script",
    "completion fish": "writes a script",
    "jobs logs": "passes on what a job has printed",
}
"""Commands that print no result of their own, and what they do instead."""


@pytest.fixture(scope="module")
def found():
    return offers(main, list(VERBS))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_what_is_typed(found, shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(script(shell, found))
    for line, expected in ASKED.items():
        command = [shell, "-c", SHELLS[shell].format(script=path, line=line)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert not done.stderr, (line, done.stderr)
        offered = sorted(filter(None, done.stdout.replace("\t", "\n").split("\n")))
        assert offered == expected, line


def test_every_flag_that_a_verb_has_is_offered(found):
    for key in ("size", "plan", "prepare criteo", "train mf", "search autodim", "bench race"):
        text = _help(main, key.split())
        named = set(re.findall(r"^[│|]?  ?(--\w[\w.-]*)", text, re.MULTILINE))
        assert len(named) > 5
        assert named <= found[key].flags.keys()


def test_values_are_offered_whole(found):
    assert found["train mf"].flags["--optimizer.sparse"] == (
        *("rowwise_adagrad", "sgd", "adagrad", "adam", "amsgrad"),
    )
    values = {value for offer in found.values() for own in offer.flags.values() for value in own}
    assert {value for value in values if not re.fullmatch(r"[\w.-]+", value)} == set()


def test_every_verb_is_offered(found):
    assert {*found[""].words} == {*VERBS} <= found.keys()


def test_every_command_with_a_result_prints_it_as_json_when_asked(found):
    ends = {}
    for verb in VERBS:
        parts = [f"{verb} {word}" for word in found[verb].words]
        ends[verb] = "--json" in found[verb].flags or (
            bool(parts)
            and all("--json" in found[part].flags or part in WITHOUT_JSON for part in parts)
        )
    assert {verb for verb, has_json in ends.items() if not has_json} <= set(WITHOUT_JSON)
