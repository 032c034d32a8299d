"""The report page as text: what it says, what it escapes, what it refuses, where it goes."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from evalkit.report.against_paper import published_table
from evalkit.report.joined import ReportError, join_runs
from evalkit.report.page import report_page, report_path, write_report
from evalkit.run.saved_run import RunError, load_run
from evalkit.text import printable
from tests.command import evalkit
from tests.html_page import Page
from tests.report_runs import HOSTILE, write_hostile_run, write_log, write_run

RESULTS = Path(__file__).parent.parent / "results"


@pytest.fixture(scope="module")
def tiny() -> str:
    return report_page([load_run(RESULTS / "tiny")], 0)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> str:
    folder = write_run(tmp_path_factory.mktemp("small") / "run")
    write_log(folder, "alpha")
    return report_page([load_run(folder)], 0)


def cell(page: str, system: str, column: str) -> dict[str, str | None]:
    """The attributes of a cell of the comparison."""
    parsed = Page(page)
    keys = [each["data-key"] for each in parsed.tags("th") if each.get("data-key")]
    row = page[page.index(f'<bdi>{system}</bdi></th>\n<td class="number') :]
    cells = Page(row[row.index("<td") : row.index("</tr>")]).tags("td")
    return cells[keys.index(column) - 1]


def copies(page: str) -> list[dict[str, str]]:
    """What the copy buttons give, table by table."""
    return [json.loads(text) for kind, text in Page(page).raw if kind == "script" and text.startswith('{"CSV"')]


class TestPage:
    def test_is_well_formed_and_every_identity_is_there_once(self, tiny):
        page = Page(tiny)
        assert page.open == []
        identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert [name for name, count in Counter(identities).items() if count > 1] == []
        targets = [each["href"].removeprefix("#") for each in page.tags("a")]
        assert set(targets) <= set(identities)

    def test_is_small_and_needs_nothing_else(self, tiny):
        assert len(tiny.encode()) < 1_500_000
        page = Page(tiny)
        assert not [each for _, each in page.elements if each.get("src") or each.get("srcset")]
        assert {each["href"] for each in page.tags("link")} == {"data:,"}
        assert not re.search(r"@import|url\(", "".join(text for kind, text in page.raw if kind == "style"))

    def test_says_what_was_run_on_what(self, tiny):
        text = Page(tiny).text
        for told in (
            "n = 57 utterances", "57 of 2,620 utterances (partial)", "librispeech/test-clean: 27", "AMD EPYC, 2 cores",
            "0.1.0, commit 491d7c9", "402 of 28,539 utterances", "Seed 0", "torch 2.14.1", "strict", "16 x 0.5 s",
        ):  # fmt: skip
            assert told in text, told

    def test_every_cell_is_that_of_the_markdown(self, tiny):
        markdown = (RESULTS / "tiny" / "tables" / "comparison.md").read_text(encoding="utf-8")
        row = next(line for line in markdown.splitlines() if line.startswith("| rvq |"))
        printed = [part.strip().replace("*", "") for part in row.split("|")[2:-1]]
        start = tiny.index("<bdi>rvq</bdi></th>")
        shown = [
            " ".join(Page(part).text.replace("(best)", "").split())
            for part in re.findall(r"<td.*?</td>", tiny[start : tiny.index("</tr>", start)], re.S)
        ]
        number = re.compile(r"^[\d.,]+|^unavailable")
        found = [number.match(text)[0] for text in shown]
        assert found[: len(printed)] == [number.match(text)[0] for text in printed]

    def test_the_notes_are_those_of_the_markdown(self, tiny):
        markdown = (RESULTS / "tiny" / "tables" / "comparison.md").read_text(encoding="utf-8")
        texts = copies(tiny)[0]
        # How it was trained is told in other words: the sentence is not kept in run.json.
        ours, theirs = (
            [note.strip() for note in text.split("\n- ")[1:] if "1,200 steps" not in note]
            for text in (texts["Markdown"], markdown)
        )
        assert ours == theirs
        assert "1,200 steps of 16 x 0.5 s" in texts["Markdown"]

    def test_copies_are_whole(self, small):
        comparison, differences = copies(small)
        assert comparison["CSV"].startswith("dataset,system,kind")
        assert comparison["Markdown"].startswith("## A made-up run")
        assert "Nothing here was measured." in comparison["Markdown"]
        assert r"\begin{table*}" in comparison["LaTeX"]
        assert "differences to alpha" in differences["Markdown"]

    def test_a_tip_has_the_interval_and_n(self, small):
        tip = cell(small, "alpha", "pesq")["data-tip"]
        assert re.search(r"mean 1\.\d\d, 95 % interval \[1\.\d\d, 1\.\d\d\]\nn 12 of 12 utterances scored", tip)

    def test_a_failure_is_told_with_its_reason(self, small):
        tip = cell(small, "beta", "pesq")["data-tip"]
        assert "n 11 of 12" in tip
        assert "failed, 1: no speech was found in utterance-11" in tip

    def test_what_is_unavailable_is_no_number(self, small):
        told = cell(small, "beta", "utmos")
        assert told["data-value"] == ""
        assert "none of 12 utterances was scored" in told["data-tip"]
        assert "the weights are missing" in told["data-tip"]

    def test_a_missing_number_says_why(self, small):
        assert "a known answer is no codec" in cell(small, "ground-truth", "kbps")["data-tip"]

    def test_every_chart_has_a_title_and_its_data_as_a_table(self, small):
        page = Page(small)
        charts = [each for each in page.tags("svg") if each.get("class") == "chart"]
        assert len(charts) > 8
        identities = {each.get("id") for _, each in page.elements}
        for chart in charts:
            assert chart["role"] in ("img", "group")
            assert {chart["aria-labelledby"], chart["aria-describedby"]} <= identities
        assert small.count("Data of the chart") == len(charts)

    def test_the_protocol_in_full(self, tiny):
        text = Page(tiny).text
        assert "pesq 16,000 Hz pesq 0.0.4 wb" in text
        assert "lowpass_filter_width 6, rolloff 0.99" in text

    def test_a_run_with_nothing_to_draw_says_so(self, tmp_path):
        folder = write_run(tmp_path / "run")
        pd.DataFrame(columns=["system", "quantizer", "code", "count"]).to_parquet(folder / "codes.parquet")
        text = Page(report_page([load_run(folder)], 0)).text
        assert "Use of the codes: nothing to draw: no codes were counted, or not kept here" in text
        assert "Losses while training: nothing to draw" in text

    @pytest.mark.parametrize("name", ["backbone", "guard", "q2d2-ablation"])
    def test_every_published_run_has_a_page(self, name):
        page = report_page([load_run(RESULTS / name)], 0)
        assert len(page.encode()) < 3_000_000
        assert Page(page).open == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[Path, set[Path]]:
    """The page of a hostile run, and all paths that writing it made, anywhere near the run."""
    folder = tmp_path_factory.mktemp("hostile")
    run = load_run(write_hostile_run(folder / "a" / "b" / "run"))
    before = set(folder.rglob("*"))
    path = write_report([run], folder / "out" / "page.html", 0)
    return path, set(folder.rglob("*")) - before


@pytest.fixture(scope="module")
def page(hostile) -> str:
    return hostile[0].read_text(encoding="utf-8")


class TestHostileNames:
    def test_are_text(self, page):
        parsed = Page(page)
        assert not parsed.tags("img")
        assert parsed.open == []
        for name in HOSTILE:
            assert printable(" ".join(name.split())) in parsed.text, name

    def test_start_no_script(self, page):
        scripts = [each for each in Page(page).tags("script")]
        assert len([each for each in scripts if "type" not in each]) == 4  # theme, tips, table, report
        assert all(each["type"] == "application/json" for each in scripts if "type" in each)
        assert not [each for _, each in Page(page).elements for key in each if key.startswith("on")]

    def test_stay_whole_in_tips_and_copies(self, page):
        tips = [each["data-tip"] for _, each in Page(page).elements if each.get("data-tip")]
        assert any("u0-<script>window.attacked = true</script>" in tip for tip in tips)
        assert HOSTILE[2] in copies(page)[0]["CSV"]

    def test_write_no_other_file(self, hostile):
        path, made = hostile
        assert made == {path, path.parent}


class TestSeveralRuns:
    def test_systems_are_named_after_their_run(self, tmp_path):
        runs = [load_run(write_run(tmp_path / "one")), load_run(write_run(tmp_path / "two"))]
        joined = join_runs(runs)
        assert joined.labels == ("made-up (one)", "made-up (two)")
        assert joined.names[1, "beta"] == "made-up (two): beta"
        assert joined.baseline == "made-up (one): alpha"
        assert set(joined.summary["system"]) == set(joined.names.values())

    def test_data_sets_and_protocols_stay_apart(self):
        text = report_page([load_run(RESULTS / name) for name in ("opus", "q2d2-table")], 0)
        assert len(text.encode()) < 3_000_000
        page = Page(text)
        assert page.open == []
        assert "opus: opus-12" in page.text
        keys = {each["data-key"] for each in page.tags("th") if each.get("data-key")}
        assert {"pesq@strict", "pesq@paper"} <= keys
        assert "pesq" not in keys
        datasets = [each["value"] for each in page.tags("option") if "/" in (each["value"] or "")]
        assert datasets == ["librispeech/test-clean", "ljspeech/gt", "libritts-test-clean/gt"]

    def test_two_versions_of_a_metric_are_refused(self, tmp_path):
        one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
        rows = pd.read_parquet(two / "utterances.parquet")
        rows["version"] = rows["version"].replace("pesq 1", "pesq 2")
        rows.to_parquet(two / "utterances.parquet")
        outcome = evalkit("report", one, two, "--out", tmp_path / "page.html")
        assert "pesq was scored by versions pesq 1, pesq 2" in outcome.complaint
        assert str(one) in outcome.complaint
        assert not (tmp_path / "page.html").exists()

    def test_different_audio_under_one_name_is_refused(self, tmp_path):
        one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
        rows = pd.read_parquet(two / "signals.parquet")
        rows.loc[rows["utterance"] == "utterance-03", "reference_sha256"] = "another"
        rows.to_parquet(two / "signals.parquet")
        with pytest.raises(ReportError, match="utterance utterance-03 of corpus/test is not the same audio in both"):
            join_runs([load_run(one), load_run(two)])

    def test_one_run_twice_is_refused(self, tmp_path):
        run = write_run(tmp_path / "one")
        with pytest.raises(ReportError, match="given twice"):
            join_runs([load_run(run), load_run(tmp_path / "." / "one")])


class TestPublished:
    def test_the_runs_own_table_is_taken(self):
        table = published_table(load_run(RESULTS / "q2d2-table"))
        assert table is not None
        own = pd.read_csv(RESULTS / "q2d2-table" / "tables" / "published.csv")
        assert [line[0] for line in table.lines] == own["system"].to_list()
        assert any("Published: Q2D2" in note for note in table.notes)

    def test_is_computed_where_the_run_has_none(self, tmp_path):
        folder = write_run(tmp_path / "run", systems=("alpha",))
        told = json.loads((folder / "run.json").read_text())
        told["experiment"] |= {"paper": "q2d2"}
        told["experiment"]["systems"]["alpha"]["published"] = "dac"
        (folder / "run.json").write_text(json.dumps(told))
        table = published_table(load_run(folder))
        assert table is not None
        (line,) = [line for line in table.lines if line[0] == "alpha" and line[2] == "STOI"]
        assert line[4] == "0.810"
        assert "on corpus/test, not librispeech/test-clean" in line[-1]
        assert "trained here, not the published weights" in line[-1]

    def test_no_paper_no_table(self, tmp_path):
        assert published_table(load_run(write_run(tmp_path / "run"))) is None

    def test_a_damaged_table_is_named(self, tmp_path):
        folder = write_run(tmp_path / "run")
        told = json.loads((folder / "run.json").read_text())
        told["experiment"]["paper"] = "q2d2"
        (folder / "run.json").write_text(json.dumps(told))
        (folder / "tables").mkdir()
        (folder / "tables" / "published.csv").write_text("system\n")
        with pytest.raises(RunError, match=r"published\.csv cannot be read"):
            published_table(load_run(folder))


class TestCommand:
    def test_replaces_the_page_in_the_runs_folder_and_is_repeatable(self, tmp_path):
        run = write_run(tmp_path / "run")
        (run / "report.html").write_text("old")
        outcome = evalkit("report", run, "--listen", 0)
        assert outcome.status == 0
        assert f"report: {run / 'report.html'}" in outcome.out
        assert (run / "report.html").read_text(encoding="utf-8") == report_page([load_run(run)], 0)
        assert not list(run.glob("*.part"))

    def test_of_several_beside_the_caller(self):
        assert report_path([Path("a"), Path("b")]) == Path("report.html")

    def test_no_run_is_one_line(self, tmp_path):
        assert "holds no run" in evalkit("report", tmp_path / "nothing").complaint

    def test_a_folder_is_no_file(self, tmp_path):
        run = write_run(tmp_path / "run")
        assert "is a folder; give the file" in evalkit("report", run, "--out", tmp_path).complaint
