"""Every shell command that the documentation shows, with the file and line where it stands.

Commands are the lines of ``sh``, ``bash`` and ``console`` blocks (of the last, and of blocks that
name no language, those behind a ``$``, or that begin with a program of ours), and mentions between
backticks that begin with one. ``<...>``, ``$NAME`` and ``${NAME}`` stand for something that a
reader knows.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SHELLS = {"sh", "bash", "shell", "console"}
PROGRAMS = ("mixdim ", "make ", "python -m ", "torchx ", "torchrun ", "sbatch ", "srun ")
STANDS_FOR = re.compile(r"<[^<>|&;]+>|\$\{?\w+\}?|\$\([^)]*\)")
ELIDED = {"...", "…", "$@"}
GRAMMAR = {"do", "done", "then", "fi", "if", "else"}
"""What may stand before a command of a shell."""


@dataclass(frozen=True)
class Command:
    """One command as it is written."""

    page: str
    line: int
    text: str
    is_mention: bool = False
    """Stands in a sentence: it may leave out what the sentence is not about."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def words(self) -> list[str]:
        """As a shell would split it, without redirections and variables set in front.

        Raises:
            ValueError: If a quotation does not end.
        """
        lexer = shlex.shlex(STANDS_FOR.sub("1", self.text), posix=True, punctuation_chars="<>")
        lexer.whitespace_split = True
        words: list[str] = []
        redirects = False
        for word in lexer:
            word = word.strip("[]") if re.fullmatch(r"\[-.*|.*[^\[]\]|\[\w+", word) else word
            if set(word) <= set("<>"):
                redirects = True
            elif redirects:
                redirects = False
            else:
                words.append(word)
        while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
            words.pop(0)
        return words

    @property
    def is_elided(self) -> bool:
        """Whether it leaves something out on purpose."""
        return self.is_mention or any(word in ELIDED for word in self.words)


@dataclass(frozen=True)
class Line:
    """What is typed at once: a line of a block with those that it goes on in."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def commands(pages: list[Path] | None = None) -> list[Command]:
    """Of all pages, in their order."""
    return [
        command
        for page in pages or PAGES
        for found in _of_page(page)
        for command in (_parts(found) if isinstance(found, Line) else [found])
    ]


def lines(pages: list[Path] | None = None) -> list[Line]:
    """What blocks of all pages have a reader type; a loop is one line."""
    typed: list[Line] = []
    for found in (line for page in pages or PAGES for line in _of_page(page)):
        if isinstance(found, Line) and found.text.startswith("do "):
            loop = typed.pop()
            typed.append(Line(loop.page, loop.line, f"{loop.text}; {found.text}"))
        elif isinstance(found, Line):
            typed.append(found)
    return typed


def _parts(line: Line) -> Iterator[Command]:
    return parts_of(line.page, line.line, line.text)


def _of_page(page: Path) -> Iterator[Command | Line]:
    """Mentions, and lines of blocks."""
    name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name
    language: str | None = None
    pending, first = "", 0
    ends_document = ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if fence := re.match(r"\s*(```+|~~~+)\s*(\w*)", line):
            language = None if language is not None else fence[2]
            pending = ends_document = ""
        elif language is None:
            yield from _mentions(name, number, line)
        elif ends_document:
            ends_document = "" if line.strip() == ends_document else ends_document
        elif (text := _command_line(line, language, goes_on=bool(pending))) is not None:
            first = first if pending else number
            pending += text.removesuffix("\\")
            if not text.endswith("\\"):
                if typed := re.sub(r"(^|\s+)#\s.*", "", pending):
                    yield Line(name, first, typed)
                if document := re.search(r"<<-?\s*['\"]?(\w+)", pending):
                    ends_document = document[1]
                pending = ""


def _command_line(line: str, language: str, *, goes_on: bool) -> str | None:
    """What a shell would read of a line of a block; None for output and other languages."""
    text = line.strip()
    if goes_on:
        return text.removeprefix("> ")
    if language in SHELLS and language != "console":
        return text.removeprefix("$ ")
    return (
        text.removeprefix("$ ") if text.startswith("$ ") and language in {"", "console"} else None
    )


def _mentions(page: str, number: int, line: str) -> Iterator[Command]:
    for text in re.findall(r"`([^`]+)`", line):
        if text.startswith(PROGRAMS):
            yield from parts_of(page, number, text, is_mention=True)


def parts_of(page: str, number: int, text: str, *, is_mention: bool = False) -> Iterator[Command]:
    """The commands of a line, which ``&&``, ``;`` and pipes separate."""
    lexer = shlex.shlex(STANDS_FOR.sub(r"\g<0>", text), posix=False, punctuation_chars="&|;")
    lexer.whitespace_split = True
    lexer.commenters = ""
    part: list[str] = []
    try:
        words = list(lexer)
    except ValueError:
        words = [text]
    for word in [*words, ";"]:
        is_comment = word.startswith("#")
        if is_comment or set(word) <= set("&|;"):
            if part:
                yield Command(page, number, " ".join(part), is_mention)
            part = []
            if is_comment or is_mention:  # in a sentence a bar stands between alternatives
                return
        elif part or word not in GRAMMAR:
            part.append(word)
