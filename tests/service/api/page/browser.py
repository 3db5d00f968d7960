"""Chromium for the tests of the page: where it is, and what a visit to the page must never do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
PATIENT_MILLISECONDS = 60_000
DESKTOP, PHONE = (1280, 900), (320, 700)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's chromium, or another one of that name; skips where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium here; apt-get install chromium, or make test-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS])
        yield browser
        browser.close()


class Visit:
    """A tab that notes what goes wrong, and which hosts it asks.

    Args:
        browser: Opens the tab.
        address: Of the service.
        size: Width and height in pixels.
        scheme: light or dark.
    """

    def __init__(
        self,
        browser: Browser,
        address: str,
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
    ) -> None:
        self.address = address
        self.hosts: set[str] = set()
        self.faults: list[str] = []
        width, height = size
        self._context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        self._context.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self._context.set_default_timeout(PATIENT_MILLISECONDS)
        self.page: Page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._note)

    def _note(self, message: object) -> None:
        kind, text = getattr(message, "type", ""), getattr(message, "text", "")
        is_answer = "Failed to load resource" in text  # an answer that the page speaks of
        if kind in ("error", "warning") and not is_answer:
            self.faults.append(text)

    def log_in(self, token: str) -> None:
        """Come in by the door."""
        self.page.goto(self.address)
        self.page.get_by_label("Access token").fill(token)
        self.page.get_by_role("button", name="Log in").click()
        self.page.get_by_role("heading", name="Jobs").wait_for()

    def open(self, view: str) -> None:
        """Open a view by its address, and wait until it has drawn itself."""
        self.page.goto(f"{self.address}/#/{view}")
        self.page.locator("main h1").wait_for()
        self.page.locator("main .loading").wait_for(state="detached")

    def examine(self) -> list[str]:
        """What axe finds, and whether anything is wider than the window."""
        found = Axe().run(self.page).response["violations"]
        faults = [f"{one['id']}: {[node['target'] for node in one['nodes'][:3]]}" for one in found]
        width, room = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        return faults + ([f"{width} pixels in {room}"] if width > room else [])

    def close(self) -> None:
        """Close the tab; it asked no other host, and nothing went wrong in it."""
        self._context.close()
        assert self.faults == []
        assert self.hosts - {""} == {urlsplit(self.address).netloc}
