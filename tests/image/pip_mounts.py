"""``python pip_mounts.py FILE``: pip's settings as one file, and what they name as mounts.

A step of an image's build has neither the settings nor the certificates, indexes and wheels of the
machine that it runs on.
"""

import ast
import subprocess
import sys
from pathlib import Path

PLACE = "/etc/pip.conf"
SCHEME = "file://"
INDENT = "\n    "


def settings() -> dict[str, list[str]]:
    """What pip takes from its files and its environment, by name without section."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pairs = (line.partition("=") for line in listed.splitlines())
    return {name.rpartition(".")[2]: ast.literal_eval(value).split() for name, _, value in pairs}


def main(file: str) -> None:
    """Write the settings; print a flag of ``buildah`` for each path."""
    found = settings()
    lines = [f"{name} = {INDENT.join(words)}\n" for name, words in found.items()]
    Path(file).write_text("[global]\n" + "".join(lines))
    words = {word for value in found.values() for word in value}
    # The pages of an index refer to files beside its folder.
    indexes = {str(Path(word[len(SCHEME) :]).parent) for word in words if word.startswith(SCHEME)}
    paths = indexes | {word for word in words if word.startswith("/")}
    sys.stdout.write(f"--volume={file}:{PLACE}:ro\n")
    for path in sorted(path for path in paths if Path(path).exists()):
        sys.stdout.write(f"--volume={path}:{path}:ro\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
