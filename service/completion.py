"""What a shell may offer behind ``mixdim``: read off the help of every verb, so that it is all."""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from service.presets import PRESETS

Shell = Literal["bash", "zsh", "fish"]
Run = Callable[[Sequence[str]], int]

FLAG: Final = re.compile(
    r"^[│|]? {1,4}(?:-\w, )?(--\w[\w.-]*(?:, --\w[\w.-]*)*)(?: +(\S+))?", re.MULTILINE
)
WORDS: Final = re.compile(r"\{([\w,.-]+)\}")
LISTED: Final = re.compile(r"^  ([a-z][\w-]*)  +\S", re.MULTILINE)
"""A line of a usage that lists verbs or methods."""
NOT_OFFERED: Final = frozenset({"None", "True", "False"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What may follow some words."""

    words: tuple[str, ...] = ()
    """Names that stand by themselves: verbs, presets, sources."""
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Flags, and the values of those that have a few."""


Offers = Mapping[str, Offer]
"""By the words before, such as ``train deepfm``."""


def offers(run: Run, verbs: Sequence[str]) -> Offers:
    """Everything that the help of the verbs, and of their names, says.

    Args:
        run: The command line: takes words, writes help.
        verbs: All of them.
    """
    found = {"": Offer(words=tuple(verbs), flags={"--help": (), "--version": ()})}
    for verb in verbs:
        own = found[verb] = _read(_help(run, [verb]))
        for word in own.words:
            inner = _read(_help(run, [verb, word]))
            # What is named at this place already is not named again.
            rest = tuple(name for name in inner.words if name not in own.words)
            takes_preset = set(PRESETS) <= {*inner.words} and verb != "train"
            found[f"{verb} {word}"] = Offer(
                words=tuple(PRESETS) if takes_preset else rest, flags=inner.flags
            )
    return MappingProxyType(found)


def _help(run: Run, words: Sequence[str]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), _columns(129), contextlib.suppress(SystemExit):
        run([*words, "--help"])
    return re.sub(r"\x1b\[[\d;]*m", "", said.getvalue())


@contextlib.contextmanager
def _columns(number: int) -> Iterator[None]:
    """Help that wide: one more, and it stands in two columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _read(text: str) -> Offer:
    usage, _, rest = text.partition("\n\n")
    listed = [word for group in WORDS.findall(usage) for word in group.split(",")]
    flags: dict[str, tuple[str, ...]] = {}
    for names, value in FLAG.findall(rest):
        choices = WORDS.search(value)
        few = tuple(w for w in choices[1].split(",") if w not in NOT_OFFERED) if choices else ()
        flags |= dict.fromkeys(names.split(", "), few)
    return Offer(words=tuple(dict.fromkeys(listed or LISTED.findall(rest))), flags=flags)


def script(shell: Shell, found: Offers) -> str:
    """What the shell reads once, and then completes by."""
    render = {"bash": _posix, "zsh": _posix, "fish": _fish}[shell]
    return render(found) + {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]


def _entries(found: Offers) -> Iterator[tuple[str, Sequence[str]]]:
    """By words before the one that is typed, what it may be."""
    for key, offer in found.items():
        yield key, [*offer.words, *offer.flags]
        for flag, values in offer.flags.items():
            if values:
                yield f"{key} {flag}".strip(), values


def _posix(found: Offers) -> str:
    cases = "\n".join(
        f"    '{key}') printf '%s\\n' {' '.join(words)};;" for key, words in _entries(found)
    )
    return (
        "# Made by `mixdim completion`; make it again after an update.\n"
        f'_mixdim_offers() {{\n  case "$1" in\n{cases}\n    *) return 1;;\n  esac\n}}\n'
    )


def _fish(found: Offers) -> str:
    cases = "\n".join(
        f"    case '{key}'\n      printf '%s\\n' {' '.join(words)}"
        for key, words in _entries(found)
    )
    return (
        "# Made by `mixdim completion`; make it again after an update.\n"
        f'function _mixdim_offers\n  switch "$argv[1]"\n{cases}\n'
        "    case '*'\n      return 1\n  end\nend\n"
    )


CANDIDATES: Final = r"""
# Words before the one that is typed, `mixdim` left out -> what it may be.
_mixdim_candidates() {
  local key="" last="" word
  for word in "$@"; do
    case "$word" in
      -*) ;;
      *) _mixdim_offers "${key:+$key }$word" > /dev/null && key="${key:+$key }$word" ;;
    esac
    last="$word"
  done
  case "$last" in
    -*) _mixdim_offers "${key:+$key }$last" && return ;;
  esac
  _mixdim_offers "$key"
}
"""
BASH: Final = (
    CANDIDATES
    + r"""
_mixdim() {
  local typed="${COMP_WORDS[COMP_CWORD]}"
  local before=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
  COMPREPLY=($(compgen -W "$(_mixdim_candidates "${before[@]}")" -- "$typed"))
}
complete -o default -o bashdefault -F _mixdim mixdim
"""
)
ZSH: Final = (
    CANDIDATES
    + r"""
_mixdim() {
  local -a found
  found=("${(@f)$(_mixdim_candidates "${(@)words[2,CURRENT-1]}")}")
  compadd -- $found
  _files
}
(( $+functions[compdef] )) && compdef _mixdim mixdim
"""
)
FISH: Final = r"""
function _mixdim_candidates
  set -l key ''
  set -l last ''
  for word in $argv
    if not string match -q -- '-*' $word
      set -l next (string trim "$key $word")
      _mixdim_offers "$next" > /dev/null; and set key $next
    end
    set last $word
  end
  if string match -q -- '-*' "$last"
    _mixdim_offers (string trim "$key $last"); and return
  end
  _mixdim_offers "$key"
end
function _mixdim_here
  set -l words (commandline -opc)
  _mixdim_candidates $words[2..-1]
end
complete -c mixdim -a '(_mixdim_here)'
"""
