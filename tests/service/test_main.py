"""What the command says where its output cannot go."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.__main__ import main


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["size", "--help"]])
def test_it_ends_without_a_word_where_nobody_reads_any_more(arguments, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as output:
        ended = _run(arguments, output, unbuffered)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_full_disk_is_named():
    with Path("/dev/full").open("w") as output:
        ended = _run(["--help"], output)
    assert ended.returncode == 2
    assert ended.stderr == "mixdim: error: standard output: No space left on device\n"


def test_a_pipe_of_the_verb_s_own_that_breaks_is_an_error_of_the_verb(monkeypatch, capfd):
    def loses_its_peer(arguments):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("service.commands.completion.main", loses_its_peer)
    assert main(["completion", "bash"]) == 2
    assert capfd.readouterr().err == "mixdim completion: error: [Errno 32] Broken pipe\n"


def test_a_ctrl_c_before_the_verb_is_loaded_is_one_line(monkeypatch, capfd):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("service.__main__.import_module", interrupted)
    assert main(["completion", "bash"]) == 130
    assert capfd.readouterr().err == "mixdim completion: error: interrupted\n"


def _run(arguments, output, unbuffered=""):
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
