"""A real browser for the pages: Chromium, headless, through Playwright; tests are skipped where it is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--no-first-run",
)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Opened:
    """A page in the browser, and what it did that no page of ours may do.

    Attributes:
        page: Playwright's.
        requests: addresses that it asked for, itself and data: left out.
        errors: messages of level error on the console, among them what its policy forbade, and uncaught exceptions.
    """

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def assert_quiet(self) -> None:
        assert self.requests == []
        assert self.errors == []

    def violations(self, within: str = "html") -> list[str]:
        """What axe-core finds of impact serious or critical within an element, one line a rule with the first place.

        Args:
            within: a CSS selector of the element.
        """
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
        found = axe.Axe().run(self.page, context=within).response["violations"]
        return [
            f"{each['impact']} {each['id']} ({len(each['nodes'])} x): {each['nodes'][0]['html'][:200]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    def overflow(self) -> int:
        """CSS pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


class Browser:
    """One browser process for a test module; every page in a context of its own."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._contexts: list[Any] = []

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, **options: Any) -> Opened:
        """Open the file `path` from the disk; `options` are those of Playwright's contexts."""
        scheme = "dark" if dark else "light"
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", **options
        )
        self._contexts.append(context)
        # No test can hang for long: what is not there after 5 s will not come.
        context.set_default_timeout(5000)
        opened = Opened(context.new_page())
        address = path.resolve().as_uri()

        def requested(request: Any) -> None:
            if request.url.partition("#")[0] != address and not request.url.startswith("data:"):
                opened.requests.append(request.url)

        def spoke(message: Any) -> None:
            if message.type == "error":
                opened.errors.append(message.text)

        opened.page.on("request", requested)
        opened.page.on("console", spoke)
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.goto(address)
        return opened

    def close_pages(self) -> None:
        while self._contexts:
            self._contexts.pop().close()


def start_browser() -> Iterator[Browser]:
    """For a fixture of scope module: `browser = pytest.fixture(scope="module")(start_browser)`."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright for Python is missing")
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield Browser(browser)
        browser.close()
