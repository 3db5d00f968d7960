"""``python -m deploy.runbook``: docs/runbook.md as the page of the service that alerts link to.

Whoever gets an alert is seldom where the repository is; the service serves this to everybody.
"""

from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "docs" / "runbook.md"
PAGE: Final = ROOT / "service" / "api" / "page" / "runbook.html"
FRAME: Final = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="color-scheme" content="light dark" />
    <title>MixDim: when an alert fires</title>
    <link rel="icon" href="icon.svg" type="image/svg+xml" />
    <link rel="stylesheet" href="style.css" />
    <link rel="stylesheet" href="runbook.css" />
  </head>
  <body>
    <main id="main">
{text}    </main>
  </body>
</html>
"""


def as_html(text: str) -> str:
    """A page of Markdown, in which every heading can be linked to by its lower-case text."""
    parser = MarkdownIt("commonmark")
    tokens = parser.parse(text)
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", tokens[place + 1].content.lower().replace(" ", "-"))
    return FRAME.format(text=parser.renderer.render(tokens, parser.options, {}))


def main() -> None:
    """Write it."""
    PAGE.write_text(as_html(SOURCE.read_text()))


if __name__ == "__main__":
    main()
