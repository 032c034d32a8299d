"""The site of published runs in a browser: choices and sorting kept in the URL, keyboard, themes, narrow screens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.history.archive import read_history
from evalkit.history.links import run_page, system_page
from evalkit.history.publish import publish
from evalkit.history.site import build_site
from evalkit.text import printable
from tests.browser import Browser, Opened, start_browser
from tests.published_runs import write_run

HOSTILE = "<img src=x onerror=alert(1)>\"'&../../../etc/passwd \U0001f600 \u202eabc " + "x" * 250
METRICS = ("pesq", "stoi", "mel_distance")
LIBRISPEECH = "section[data-dataset='librispeech/test-clean']"

browser = pytest.fixture(scope="module")(start_browser)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two boards, one of four nights with a change on the second, and a run of hostile names."""
    root = tmp_path_factory.mktemp("browsed")
    for day in range(4):
        quality = {"fsq": 0.6 if day else 0.0}
        run = write_run(
            root / f"run{day}", day=day, quality=quality, systems=("rhombic", "fsq"), metrics=METRICS, utterances=24
        )
        publish(run, root / "store")
    other = write_run(
        root / "other", name="other", day=1, dataset="ljspeech/gt", protocol="paper", systems=("fsq",),
        metrics=("stoi",),
    )  # fmt: skip
    publish(other, root / "store")
    hostile = write_run(root / "hostile", name=HOSTILE, day=5, systems=(HOSTILE, ".."), metrics=METRICS[:1])
    publish(hostile, root / "store", note=HOSTILE)
    build_site(root / "store", root / "site", reports=False)
    return root / "site"


@pytest.fixture
def index(browser: Browser, site: Path) -> Iterator[Opened]:
    opened = browser.open(site / "index.html")
    yield opened
    opened.assert_quiet()
    browser.close_pages()


def rows(index: Opened) -> list[str]:
    """First cells of the rows that are seen on the leaderboards."""
    found: list[str] = index.page.locator("section[data-dataset] tbody tr:visible > :first-child").all_inner_texts()
    return found


class TestChoices:
    def test_hide_boards_columns_and_rows(self, index):
        page = index.page
        boards = page.locator("section[data-dataset]:visible")
        assert boards.count() == 2
        assert printable(HOSTILE) in rows(index)
        page.get_by_label("Data set").select_option("ljspeech/gt")
        assert boards.locator("h2").inner_text() == "ljspeech/gt, protocol paper"
        page.get_by_label("Data set").select_option("")
        page.get_by_label("Protocol").select_option("strict")
        assert boards.locator("h2").inner_text() == "librispeech/test-clean, protocol strict"
        assert page.url.endswith("#protocol=strict")
        page.get_by_label("Protocol").select_option("")
        page.get_by_label("Metric").select_option("pesq")
        shown = boards.locator("thead th[data-metric]:visible")
        assert shown.all_inner_texts() == ["PESQ (MOS-LQO) ↑"]
        row = boards.locator("tbody tr").first
        assert row.locator("td:visible, th:visible").count() == boards.locator("thead th:visible").count()
        page.get_by_label("Text").fill("FSQ nightly")
        assert rows(index) == ["fsq"]
        assert page.locator("#shown").inner_text() == "1 of 5 rows"

    def test_are_in_the_url_with_the_sorting_and_come_back_with_it(self, index):
        page = index.page
        page.get_by_label("Text").fill("nightly")
        page.get_by_label("Metric").select_option("stoi")
        page.locator(LIBRISPEECH).get_by_role("button", name="STOI").click()
        order = rows(index)
        assert sorted(order) == ["fsq", "rhombic"]
        page.reload()
        assert page.get_by_label("Text").input_value() == "nightly"
        assert page.get_by_label("Metric").input_value() == "stoi"
        assert rows(index) == order
        assert page.locator(f"{LIBRISPEECH} th[aria-sort]").get_attribute("aria-sort") == "descending"

    def test_follow_the_url_and_the_back_button(self, index):
        page = index.page
        page.evaluate("location.hash = 'dataset=nothing&metric=%3Cscript%3E&text=fsq'")  # what is not known is all
        page.wait_for_function("document.querySelector('#choices [name=text]').value === 'fsq'")
        assert page.get_by_label("Data set").input_value() == ""
        assert rows(index) == ["fsq", "fsq"]
        page.go_back()
        page.wait_for_function("document.querySelector('#choices [name=text]').value === ''")
        assert len(rows(index)) == 5


class TestKeyboard:
    def test_sorts_and_tells_the_interval(self, index):
        page = index.page
        board = page.locator(LIBRISPEECH)
        button = board.get_by_role("button", name="Mel distance")
        button.focus()
        page.keyboard.press("Enter")
        column = [heading.startswith("Mel") for heading in board.locator("thead th").all_inner_texts()].index(True) + 1
        cells = board.locator(f"tbody tr td:nth-child({column})")
        values = [float(text) for text in cells.evaluate_all("cells => cells.map((cell) => cell.dataset.value || -1)")]
        assert values == sorted(values, reverse=True)
        first = rows(index)
        page.keyboard.press("Enter")
        assert rows(index) != first
        board.locator("td[data-tip][tabindex='0']").focus()
        assert "95 % interval" in page.locator("#tip").inner_text()

    def test_walks_along_a_chart(self, browser, site):
        opened = browser.open(site / system_page("nightly", "fsq"))
        page = opened.page
        chart = page.locator("svg.timeline").first
        chart.locator("[data-tip][tabindex='0']").focus()
        told = [page.locator("#tip").inner_text()]
        for _ in range(3):
            page.keyboard.press("ArrowRight")
            told.append(page.locator("#tip").inner_text())
        assert [text.split()[0] for text in told] == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
        assert "better: +" in told[1]
        assert chart.locator("text.mark").all_text_contents() == ["▲"]
        opened.assert_quiet()
        browser.close_pages()


@pytest.fixture(scope="module")
def run_pages(site: Path) -> list[str]:
    """Of all runs, oldest first."""
    return [run_page(publication) for publication in read_history(site.parent / "store").publications]


def test_no_page_is_wider_than_a_phone_and_hostile_names_are_text(browser, site, run_pages):
    board = next((site / "boards").iterdir()).name
    hostile = system_page(HOSTILE, HOSTILE)
    lists, own = ("index.html", "runs.html", "sweeps.html"), (system_page("nightly", "fsq"), hostile)
    for name in (*lists, f"boards/{board}", *own, run_pages[1], run_pages[-1]):
        opened = browser.open(site / name, width=360, height=700)
        assert opened.overflow() <= 0, name
        assert (opened.page.locator("h1").inner_text() == printable(HOSTILE)) == (name == hostile)
        assert opened.page.locator("img").count() == 0
        opened.assert_quiet()
        browser.close_pages()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(browser, site, run_pages, dark):
    for name in ("index.html", system_page("nightly", "fsq"), run_pages[1]):
        opened = browser.open(site / name, dark=dark)
        assert opened.violations() == [], name
        ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in ground[4:-1].split(",")[:3]) < 3 * 128) == dark
        browser.close_pages()
