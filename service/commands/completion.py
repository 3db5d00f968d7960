"""``mixdim completion bash|zsh|fish``: verbs, presets, flags and their values at the tab key."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from service.completion import Shell, offers, script


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionCommand:
    """Write what a shell completes `mixdim` by; it takes some seconds, so keep it in a file.

    bash: mixdim completion bash > ~/.local/share/bash-completion/completions/mixdim
    zsh:  mixdim completion zsh > ~/.mixdim.zsh, and in ~/.zshrc behind compinit: . ~/.mixdim.zsh
    fish: mixdim completion fish > ~/.config/fish/completions/mixdim.fish
    """

    shell: tyro.conf.Positional[Shell]
    """Which shell."""


def main(argv: Sequence[str]) -> int:
    """Ask every verb for its help, and write a script."""
    command = tyro.cli(CompletionCommand, args=list(argv), prog="mixdim completion")

    from service.__main__ import VERBS
    from service.__main__ import main as mixdim

    sys.stdout.write(script(command.shell, offers(mixdim, list(VERBS))))
    return 0
