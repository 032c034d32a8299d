"""The page of a sweep: what its own report found, hostile names in it, tables that are damaged or not written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from evalkit.report.page import report_page
from evalkit.report.sweeps import configurations_chart, reported_sweeps
from evalkit.run.saved_run import load_run
from evalkit.sweeps import SweepError
from tests.browser import start_browser
from tests.command import evalkit
from tests.html_page import Page

ABLATION = Path(__file__).parent.parent / "results" / "q2d2-ablation"
HOSTILE = "<img src=x onerror=alert(1)> & “d=6” ../.. 🎧"


@pytest.fixture(scope="module")
def page() -> str:
    return report_page([load_run(ABLATION)], 0)


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(ABLATION, folder / "sweep", ignore=shutil.ignore_patterns("plots")))


def rows(page: str, identity: str) -> list[list[str]]:
    table = re.search(rf'<table id="{identity}".*?</table>', page, re.DOTALL)
    assert table is not None, f"no table {identity}"
    found = []
    for row in re.findall(r"<tr>.*?</tr>", table[0], re.DOTALL):
        found.append([re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)])
    return found


class TestPage:
    def test_has_the_verdicts_and_the_tables_of_the_sweeps_report(self, page):
        assert "Claim tilings : undecided" in Page(page).text
        claims = pd.read_csv(ABLATION / "tables" / "claims.csv")
        assert len(rows(page, "claims-0")) == 1 + len(claims)
        configurations = {row[0]: row for row in rows(page, "configurations-0")}
        assert configurations["rvq-2x1024"][1:4] == ["20.00", "19.31", "1.49 ± 0.07"]
        assert configurations["e8-6"][2] == "-", "its codebook was seen too seldom for an entropy"
        matched = [
            row for row in rows(page, "matched-0") if row[:4] == ["rvq", "PESQ", "near 20 bits/frame", "nominal"]
        ]
        assert [row[5:9] for row in matched] == [["+0.172", "[+0.148, +0.197]", "&lt;0.001", "▲ better"]]

    def test_copies_are_whole_tables(self, page):
        texts = json.loads(re.search(r'id="copy-configurations-0">(.*?)</script>', page, re.DOTALL)[1])
        assert texts["CSV"].count("\n") == 20
        assert "rvq-2x1024" in texts["Markdown"]
        assert r"\begin{tabular}" in texts["LaTeX"]

    def test_the_rate_chart_has_a_point_a_configuration_and_a_line_a_series(self):
        (sweep,) = reported_sweeps([load_run(ABLATION)], ["ablation"])
        chart = configurations_chart(sweep)
        assert [panel.label for panel in chart.panels] == ["PESQ", "STOI", "Mel distance"]
        assert len(chart.panels[0].rows) == 19
        entries = [entry for _, entry in chart.legend]
        assert entries[:2] == ["rhombic d=6", "rectangular"]
        assert {"rhombic d=8", "fsq", "rvq"} <= set(entries)
        assert chart.panels[0].svg.count('class="join"') == 8, "eight series have two rates"

    def test_several_runs_keep_their_trials_in_the_chart(self):
        text = Page(report_page([load_run(ABLATION), load_run(ABLATION.parent / "backbone")], 0)).text
        assert "What the sweep found q2d2-ablation" in text
        assert "q2d2-ablation: rvq-2x1024 seed 0" in text


def test_names_are_text(tmp_path):
    folder = copied(tmp_path)
    for name, column in (("configurations", "configuration"), ("claims", "comparison"), ("matched", "series")):
        path = folder / "tables" / f"{name}.csv"
        frame = pd.read_csv(path)
        frame.loc[0, column] = HOSTILE
        frame.to_csv(path, index=False)
    page = report_page([load_run(folder)], 0)
    assert not Page(page).tags("img")
    for identity in ("configurations-0", "claims-0", "matched-0"):
        assert any("&lt;img" in cell for row in rows(page, identity) for cell in row), identity


def test_curves_that_could_not_be_compared_are_counted_not_listed(tmp_path):
    folder = copied(tmp_path)
    path = folder / "tables" / "matched.csv"
    frame = pd.read_csv(path)
    curves = frame["measure"] != "difference"
    frame.loc[curves, ["difference", "low", "high", "p", "p_holm"]] = float("nan")
    frame.to_csv(path, index=False)
    page = report_page([load_run(folder)], 0)
    assert len(rows(page, "matched-0")) == 1 + (~curves).sum()
    assert f"{curves.sum():,} comparisons of curves that were not possible are left out" in Page(page).text


def test_tables_not_written_yet_are_told_with_the_command(tmp_path):
    folder = copied(tmp_path)
    shutil.rmtree(folder / "tables")
    text = Page(report_page([load_run(folder)], 0)).text
    assert f"Its tables are not written yet: evalkit sweep report {folder}" in text
    assert "rvq-2x1024 seed 0" in text


def test_damaged_tables_are_one_line(tmp_path):
    folder = copied(tmp_path)
    path = folder / "tables" / "configurations.csv"
    path.write_bytes(b"\xff\xfe\x00")
    done = evalkit("report", folder, "--listen", "0")
    assert done.status == 1
    assert f"{path} is damaged" in done.err
    assert len(done.err.strip().splitlines()) == 1
    path.write_text("configuration,pesq_low\nx,1\n", encoding="utf-8")
    with pytest.raises(SweepError, match="not those of this version"):
        report_page([load_run(folder)], 0)


browser = pytest.fixture(scope="module")(start_browser)


def test_in_a_browser_tables_sort_and_do_not_widen_a_phone(browser, page, tmp_path):
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    opened = browser.open(tmp_path / "page.html", width=360)
    assert opened.overflow() == 0
    opened.page.locator("#configurations-0 thead button", has_text="PESQ").click()
    assert opened.page.locator("#configurations-0 tbody tr").first.inner_text().startswith("rvq-2x1024")
    assert opened.violations("section[aria-labelledby=sweep]") == []
    opened.assert_quiet()
