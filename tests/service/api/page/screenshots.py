"""``make screenshots``: pictures of the page for the docs, of a real service with made-up jobs."""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from tests.service.api.page.browser import DESKTOP, Visit, chromium
from tests.service.api.page.example import LONG, fill, submit_training
from tests.service.api.page.served import Served, served

IMAGES = Path(__file__).parents[4] / "docs" / "images"
PHONE = (360, 740)
MAX_HEIGHT, MARGIN = 1100, 32
COLORS = 128
WAIT_MILLISECONDS = 1500


def main() -> None:
    """Fill a home, or take one that is filled, and write docs/images/*.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder that is kept, and used again")
    work: Path | None = parser.parse_args().work
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        shoot(work)
    else:
        with tempfile.TemporaryDirectory(prefix="mixdim-") as folder:
            shoot(Path(folder))


def shoot(work: Path) -> None:
    """Take all pictures of the home in a folder, which is filled if it is empty."""
    home = work / "home"
    is_filled = (home / "frontiers" / "two-methods" / "frontier.json").is_file()
    with served(home) as service, chromium() as browser:
        for user in ("ada", "grace"):
            service.let_in(user, "submitter")
        if not is_filled:
            fill(service)
        IMAGES.mkdir(exist_ok=True)
        for path, image in pictures(service, browser).items():
            save(IMAGES / f"status-{path}.png", image)


def pictures(service: Served, browser: Browser) -> dict[str, bytes]:
    """Every picture by name; a training that runs is in some of them."""
    runs = service.call("runs", user="ada")["items"]
    name = f"popularity-4x-live-{len(runs)}"
    live = submit_training(service, "ada", name, "popularity-4x", **LONG)
    service.submit("grace", verb="size", name="popularity-3x", data="clicks", budget="3x")
    service.wait_for_step(live, 60, user="ada")
    run = service.call("jobs?state=succeeded&verb=train&limit=1", user="ada")["items"][0]["run"]
    desktop = {
        "jobs": "jobs",
        "job": f"jobs/{live}",
        "tables": f"runs/{run}/tables",
        "placement": f"runs/{run}/placement",
        "compare": "compare/popularity-4x-seed0/uniform-8-seed0",
        "frontier": "frontiers/of/two-methods/4",
        "submit": "submit/train",
    }
    taken = {name: take(service, browser, view) for name, view in desktop.items()}
    taken["job-dark"] = take(service, browser, f"jobs/{live}", scheme="dark")
    phone = [
        take(service, browser, view, PHONE, scheme)
        for view, scheme in (
            ("jobs", "light"),
            (f"jobs/{live}", "dark"),
            ("frontiers/of/two-methods", "light"),
        )
    ]
    taken["phone"] = side_by_side(phone)
    return taken


def take(
    service: Served,
    browser: Browser,
    view: str,
    size: tuple[int, int] = DESKTOP,
    scheme: str = "light",
) -> bytes:
    """A picture of a view: all of the window, and what is below it on large ones."""
    visit = Visit(browser, service.address, size, scheme)
    visit.log_in(service.tokens["ada"])
    visit.open(view)
    visit.page.wait_for_timeout(WAIT_MILLISECONDS)
    below = visit.page.evaluate("document.querySelector('main > :last-child').offsetTop")
    below += visit.page.evaluate("document.querySelector('main > :last-child').offsetHeight")
    height = min(below + MARGIN, MAX_HEIGHT) if size == DESKTOP else size[1]
    clip = {"x": 0, "y": 0, "width": size[0], "height": height}
    picture = visit.page.screenshot(full_page=True, clip=clip)
    visit.close()
    return picture


def side_by_side(pictures: list[bytes], gap: int = 24) -> bytes:
    """Pictures of phones in one row."""
    images = [Image.open(io.BytesIO(picture)) for picture in pictures]
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    row = Image.new("RGB", (width, max(image.height for image in images)), "#ffffff")
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + gap
    buffer = io.BytesIO()
    row.save(buffer, "png")
    return buffer.getvalue()


def save(path: Path, picture: bytes) -> None:
    """Write a picture small: few colours are enough for what is drawn."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
