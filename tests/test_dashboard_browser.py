"""The site of published runs in a browser: choices and sorting kept in the URL, keyboard, themes, narrow screens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.history.archive import read_history
from evalkit.history.links import run_page, system_page
from evalkit.history.publish import publish
from evalkit.history.site import build_site
from tests.published_runs import write_run

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium in PATH")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
HOSTILE = "<img src=x onerror=alert(1)>\"'&../../../etc/passwd \U0001f600 \u202eabc " + "x" * 250
METRICS = ("pesq", "stoi", "mel_distance")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two boards, one of four nights with a change on the second, and a run of hostile names."""
    root = tmp_path_factory.mktemp("browsed")
    for day in range(4):
        quality = {"fsq": 0.6 if day else 0.0}
        publish(write_run(root / f"run{day}", day=day, quality=quality, metrics=METRICS), root / "store")
    other = write_run(root / "other", name="other", day=1, dataset="ljspeech/gt", protocol="paper", metrics=("stoi",))
    publish(other, root / "store")
    hostile = write_run(root / "hostile", name=HOSTILE, day=5, systems=(HOSTILE, ".."), metrics=METRICS)
    publish(hostile, root / "store", note=HOSTILE)
    build_site(root / "store", root / "site", reports=False)
    return root / "site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield started
        started.close()


class Tab:
    """A tab that notes what a page must not do: requests elsewhere, dialogs, errors."""

    def __init__(self, browser: Any, site: Path, **options: Any) -> None:
        self.site = site
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.site.as_uri(), "data:")):
            self.wrong.append(request.url)

    def open(self, path: str = "index.html", state: str = "") -> Any:
        self.page.goto("about:blank")  # else a new hash alone would not load the page again
        self.page.goto(f"{(self.site / path).as_uri()}{state}")
        return self.page

    def rows(self, table: str) -> list[str]:
        """First cells of the rows that are seen."""
        found: list[str] = self.page.locator(f"#{table} tbody tr:visible > :first-child").all_inner_texts()
        return found


@pytest.fixture
def tab(browser: Any, site: Path) -> Iterator[Tab]:
    opened = Tab(browser, site, viewport={"width": 1280, "height": 900})
    yield opened
    opened.context.close()
    assert opened.wrong == []


class TestChoices:
    def test_of_data_set_and_protocol_hide_boards(self, tab):
        page = tab.open()
        assert page.locator("section[data-dataset]:visible").count() == 2
        page.get_by_label("Data set").select_option("ljspeech/gt")
        assert page.locator("section[data-dataset]:visible h2").inner_text() == "ljspeech/gt, protocol paper"
        page.get_by_label("Data set").select_option("")
        page.get_by_label("Protocol").select_option("strict")
        assert "librispeech" in page.locator("section[data-dataset]:visible h2").inner_text()
        assert page.url.endswith("#protocol=strict")

    def test_of_a_metric_hides_the_others_and_boards_without_it(self, tab):
        page = tab.open()
        page.get_by_label("Metric").select_option("pesq")
        assert page.locator("section[data-dataset]:visible").count() == 1
        shown = page.locator("section[data-dataset]:visible thead th[data-metric]:visible")
        assert shown.count() == 1
        assert shown.inner_text().startswith("PESQ")
        cells = page.locator("section[data-dataset]:visible tbody tr").first.locator("td:visible, th:visible").count()
        assert cells == page.locator("section[data-dataset]:visible thead th:visible").count()

    def test_of_a_text_hide_rows(self, tab):
        page = tab.open()
        page.get_by_label("Text").fill("FSQ nightly")
        assert tab.rows("board-1") + tab.rows("board-2") == ["fsq"]
        assert page.locator("#shown").inner_text().startswith("1 of ")

    def test_are_in_the_url_and_come_back_with_it(self, tab):
        page = tab.open()
        page.get_by_label("Text").fill("nightly")
        page.get_by_label("Metric").select_option("stoi")
        board = page.locator("section[data-dataset='librispeech/test-clean']")
        board.get_by_role("button", name="STOI").click()
        identity = board.locator("table").get_attribute("id")
        order = tab.rows(identity)
        url = page.url
        page.goto("about:blank")
        page.goto(url)
        assert page.get_by_label("Text").input_value() == "nightly"
        assert page.get_by_label("Metric").input_value() == "stoi"
        assert tab.rows(identity) == order != []
        assert board.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"

    def test_that_are_not_known_are_all(self, tab):
        page = tab.open(state="#dataset=nothing&metric=%3Cscript%3E&text=rvq")
        assert page.get_by_label("Data set").input_value() == ""
        assert page.locator("section[data-dataset]:visible").count() == 2
        assert set(tab.rows("board-1") + tab.rows("board-2")) == {"rvq"}

    def test_follow_the_back_button(self, tab):
        page = tab.open()
        page.evaluate("location.hash = 'text=fsq'")
        page.wait_for_function("document.querySelector('#choices [name=text]').value === 'fsq'")
        page.go_back()
        page.wait_for_function("document.querySelector('#choices [name=text]').value === ''")
        assert page.locator("section[data-dataset]:visible").count() == 2


class TestTables:
    def test_sort_by_keyboard(self, tab):
        page = tab.open()
        board = page.locator("section[data-dataset='librispeech/test-clean']")
        identity = board.locator("table").get_attribute("id")
        button = board.get_by_role("button", name="Mel distance")
        button.focus()
        page.keyboard.press("Enter")
        values = [float(text) for text in board.locator("tbody tr td:last-child").evaluate_all(
            "cells => cells.map((cell) => cell.dataset.value)")]  # fmt: skip
        assert values == sorted(values, reverse=True)
        first = tab.rows(identity)
        page.keyboard.press("Enter")
        assert tab.rows(identity) != first

    def test_tell_the_interval_on_hover_and_focus(self, tab):
        page = tab.open()
        page.locator("td[data-tip]").first.hover()
        assert "95 % interval" in page.locator("#tip").inner_text()

    def test_a_chart_is_walked_by_arrow_keys(self, tab, site):
        page = tab.open(system_page("nightly", "fsq"))
        chart = page.locator("svg.timeline").first
        chart.locator("[data-tip][tabindex='0']").focus()
        told = [page.locator("#tip").inner_text()]
        for _ in range(3):
            page.keyboard.press("ArrowRight")
            told.append(page.locator("#tip").inner_text())
        assert [text.split()[0] for text in told] == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
        assert "better: +" in told[1]
        assert chart.locator("text.mark").all_text_contents() == ["▲"]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    """A page of every kind."""
    history = read_history(site.parent / "store")
    runs = [run_page(publication) for publication in history.publications]
    (board, *_) = sorted((site / "boards").iterdir())
    return {
        "index": "index.html",
        "runs": "runs.html",
        "sweeps": "sweeps.html",
        "board": f"boards/{board.name}",
        "system": system_page("nightly", "fsq"),
        "run": runs[1],
        "hostile system": system_page(HOSTILE, HOSTILE),
        "hostile run": runs[-1],
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_narrow_pages_do_not_scroll_sideways(browser, site, pages, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    tab = Tab(browser, site, viewport={"width": 360, "height": 700}, color_scheme=theme)
    for name, path in pages.items():
        page = tab.open(path)
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], f"{name} is {widths[0]} pixels wide"
        found = axe.Axe().run(page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, (name, [(each["id"], each["nodes"][0]["html"][:200]) for each in serious])
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in ground[4:-1].split(",")[:3]) < 3 * 128) == (theme == "dark")
    tab.context.close()
    assert tab.wrong == []


def test_hostile_names_are_shown_as_text(tab):
    page = tab.open(system_page(HOSTILE, HOSTILE))
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.locator("img").count() == 0
    page = tab.open()
    assert HOSTILE in page.locator("tbody th").all_inner_texts()
