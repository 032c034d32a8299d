"""The report in a real browser: mouse, keyboard, themes, a phone's width, what it asks the network for, axe-core."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.report.page import report_page
from evalkit.run.saved_run import load_run
from evalkit.text import printable
from tests.browser import Browser, Opened, start_browser
from tests.report_runs import HOSTILE, write_hostile_run, write_log, write_run

browser = pytest.fixture(scope="module")(start_browser)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("report") / "run", systems=("alpha", "beta", "gamma"))
    write_log(folder, "alpha")
    return written(folder)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    return written(write_hostile_run(tmp_path_factory.mktemp("hostile") / "run"))


def written(folder: Path) -> Path:
    page = folder / "report.html"
    page.write_text(report_page([load_run(folder)], 0), encoding="utf-8")
    return page


@pytest.fixture
def opened(browser: Browser, path: Path):
    yield browser.open(path)
    browser.close_pages()


def names(opened: Opened) -> list[str]:
    """The systems in the rows that are seen, from top to bottom."""
    return opened.page.evaluate(
        "[...document.querySelectorAll('#systems tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].innerText)"
    )


def heading(opened: Opened, key: str):
    return opened.page.locator(f"#systems th[data-key='{key}'] button")


class TestTable:
    def test_sorts_by_mouse_and_keyboard(self, opened):
        heading(opened, "pesq").click()
        assert names(opened) == ["ground-truth", "gamma", "beta", "alpha"]
        assert opened.page.locator("#systems th[data-key='pesq']").get_attribute("aria-sort") == "descending"
        opened.page.keyboard.press("Enter")
        assert names(opened) == ["alpha", "beta", "gamma", "ground-truth"]
        opened.page.keyboard.press("Enter")
        assert names(opened) == ["ground-truth", "alpha", "beta", "gamma"]
        assert opened.page.locator("#systems th[aria-sort]").count() == 0
        # What has no number is last both ways.
        heading(opened, "kbps").click()
        assert names(opened) == ["gamma", "beta", "alpha", "ground-truth"]
        heading(opened, "kbps").click()
        assert names(opened) == ["alpha", "beta", "gamma", "ground-truth"]
        opened.assert_quiet()

    def test_filters_and_hides_columns(self, opened):
        # Not where it is only named: beta is marked "better than alpha".
        assert "than alpha" in opened.page.locator("#systems tbody tr").nth(2).text_content()
        opened.page.get_by_label("Filter systems").fill("AL")
        assert names(opened) == ["alpha"]
        assert opened.page.locator(".count").inner_text() == "1 of 4 rows"
        # The stop of the Tab key is never in a row that is not seen.
        assert opened.page.locator("#systems td[tabindex='0']:visible").count() == 1
        opened.page.get_by_label("Filter systems").fill("")
        assert len(names(opened)) == 4
        opened.page.get_by_text("Columns", exact=True).click()
        box = opened.page.get_by_role("checkbox", name="STOI")
        box.uncheck()
        assert not heading(opened, "stoi").is_visible()
        assert opened.page.locator("#systems tbody tr").first.locator("td:visible").count() == 11
        box.check()
        assert heading(opened, "stoi").is_visible()

    def test_its_state_is_in_the_address(self, opened):
        heading(opened, "pesq").click()
        opened.page.get_by_label("Filter systems").fill("ma")
        assert "systems.sort=pesq%3Adescending" in opened.page.evaluate("location.hash")
        opened.page.reload()
        assert names(opened) == ["gamma"]
        assert opened.page.locator("#systems th[aria-sort='descending']").count() == 1
        # A link to a section is no state.
        opened.page.get_by_role("link", name="Differences", exact=True).click()
        assert opened.page.evaluate("location.hash") == "#differences"
        assert names(opened) == ["gamma"]
        opened.page.go_back()
        assert names(opened) == ["gamma"]


class TestTips:
    def test_of_cells(self, opened):
        tip = opened.page.locator("#tip")
        opened.page.locator("#systems tbody tr").nth(2).locator("td").nth(3).hover()
        assert "n 11 of 12 utterances scored" in tip.inner_text()
        cells = opened.page.locator("#systems td[tabindex='0']")
        assert cells.count() == 1, "one stop of the Tab key"
        cells.focus()
        assert "bits/frame" in tip.inner_text()
        for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
            opened.page.keyboard.press(key)
        assert "alpha" in tip.inner_text()
        assert "95 % interval" in tip.inner_text()
        assert opened.page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
        opened.page.keyboard.press("Escape")
        assert tip.is_hidden()

    def test_of_a_chart(self, opened):
        opened.page.locator("#chart-rates .panel:not([hidden]) [tabindex='0'][data-tip]").focus()
        opened.page.keyboard.press("Home")
        assert "ground-truth" in opened.page.locator("#tip").inner_text()
        opened.page.keyboard.press("End")
        told = opened.page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert "PESQ" in told
        assert "kbit/s" in told


class TestCharts:
    def test_the_metric_can_be_chosen_and_data_are_there_as_a_table(self, opened):
        seen = opened.page.locator("#chart-rates svg.chart:visible")
        assert seen.count() == 1
        assert "PESQ" in seen.text_content()
        opened.page.locator("#chart-rates select").select_option(label="STOI")
        assert seen.count() == 1
        assert "STOI" in seen.text_content()
        opened.page.locator("#chart-scores details:visible summary").click()
        assert opened.page.locator("#chart-scores table:visible tbody tr").count() == 4


class TestCopying:
    def test_puts_the_text_on_the_clipboard_or_shows_it(self, browser, path):
        opened = browser.open(path, permissions=["clipboard-read", "clipboard-write"])
        opened.page.locator("button[data-copy='copy-comparison'][data-format='Markdown']").click()
        opened.page.locator("#said", has_text="Copied: comparison as Markdown").wait_for()
        text = opened.page.evaluate("navigator.clipboard.readText()")
        assert text.startswith("## A made-up run\n")
        assert "Nothing here was measured." in text
        opened.page.evaluate(
            "navigator.clipboard.writeText = () => Promise.reject(new Error('no')), "
            "document.execCommand = () => false, null"
        )
        opened.page.locator("button[data-copy='copy-comparison'][data-format='LaTeX']").click()
        area = opened.page.locator("dialog textarea")
        assert r"\begin{table*}" in area.input_value()
        assert "by hand" in opened.page.locator("#said").inner_text()
        opened.page.keyboard.press("Escape")
        area.wait_for(state="detached")
        opened.assert_quiet()
        browser.close_pages()


class TestThemes:
    def background(self, opened: Opened) -> str:
        return opened.page.evaluate("getComputedStyle(document.body).backgroundColor")

    def test_follow_the_system_and_the_button(self, browser, path):
        opened = browser.open(path, dark=True)
        assert self.background(opened) == "rgb(20, 24, 29)"
        opened.page.get_by_role("button", name="Light mode").click()
        assert self.background(opened) == "rgb(255, 255, 255)"
        opened.page.reload()
        assert self.background(opened) == "rgb(255, 255, 255)", "the choice is kept"
        unfold(opened)
        assert opened.violations() == []
        opened.assert_quiet()
        browser.close_pages()


def unfold(opened: Opened) -> None:
    opened.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")


class TestNarrow:
    def test_nothing_is_wider_than_a_phone(self, browser, path, hostile):
        for page in (path, hostile):
            opened = browser.open(page, width=360, height=740)
            assert opened.overflow() == 0
            unfold(opened)
            assert opened.overflow() == 0
        opened.page.locator("#systems tbody tr").nth(1).locator("td").nth(3).focus()
        tip = opened.page.locator("#tip").bounding_box()
        assert tip["x"] >= 0
        assert tip["x"] + tip["width"] <= 360
        browser.close_pages()


class TestHostileNames:
    def test_run_no_script_and_are_shown(self, browser, hostile):
        opened = browser.open(hostile, dark=True)
        for button in opened.page.locator("button[data-copy]").all()[:2]:
            button.click()
        for select in opened.page.locator("select[data-panels]").all():
            select.select_option(index=select.locator("option").count() - 1)
        opened.page.locator("#systems tbody tr").nth(2).locator("td").nth(3).hover()
        assert opened.page.evaluate("window.attacked") is None
        shown = opened.page.evaluate(
            "[...document.querySelectorAll('#systems tbody th')].map(each => each.textContent)"
        )
        assert shown[1:] == [printable(name) for name in HOSTILE]
        unfold(opened)
        assert opened.violations() == []
        opened.assert_quiet()
        browser.close_pages()

    def test_the_policy_stops_what_gets_in(self, browser, path):
        opened = browser.open(path)
        opened.page.evaluate(
            """() => {
              const image = '<img src="https://example.org/x.png" onerror="window.attacked = 1">';
              document.body.insertAdjacentHTML("beforeend", image);
              const script = document.createElement("script");
              script.textContent = "window.attacked = 2";
              document.body.append(script);
            }"""
        )
        assert opened.page.evaluate("fetch('https://example.org').then(() => 'went out', () => 'stopped')") == "stopped"
        assert opened.page.evaluate("window.attacked") is None
        assert any("Content Security Policy" in error for error in opened.errors)
        browser.close_pages()
