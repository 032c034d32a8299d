"""The gate's reports: for people, pull requests, programs and continuous integration; hostile names included."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from evalkit.gate import Side, Verdict, compare_runs
from evalkit.gate.as_markdown import MAX_BYTES
from evalkit.gate.formats import FORMATS
from evalkit.text import markdown_text, printable
from tests.gate_runs import base_scores, changed, gate, make_run, uneven

SCORES = base_scores()
HOSTILE = (
    "<script>alert(1)</script>",
    "a|b | c`d``e` **f** [g](http://h) ![i](j) <!-- k",
    "tab\tnewline\nescape\x1b[31mbell\x07nul\x00",
    "../../etc/passwd",
    "\u202egnp.exe\u2066",
    "&lt;b&gt; \"q\" 'r' ]]>",
    "🎧 עברית العربية",
    "@someone #1 GH-2 www.evil.example 1. item",
    "no character: \uffff",
    "x" * 300,
)


@functools.cache
def judged(names: tuple[str, ...] = ("fsq",), by: float = -0.2) -> Verdict:
    """One system better by STOI, those of `names` worse by PESQ."""
    metrics = ("pesq", "stoi") if len(names) > 1 else tuple(dict.fromkeys(metric for _, metric in SCORES))
    scores = {(name, m): SCORES["rhombic" if name == "rhombic" else "fsq", m] for name in ("rhombic", *names)
              for m in metrics}  # fmt: skip
    after = scores | {(name, "pesq"): scores[name, "pesq"] + uneven(by) for name in names}
    after["rhombic", "stoi"] = scores["rhombic", "stoi"] + uneven(0.02)
    systems = [{each: {"bits_per_frame": bits} for each in ("rhombic", *names)} for bits in (19.0, 20.0)]
    candidate = make_run(after, systems=systems[1], folder=" ".join(names))
    return compare_runs(make_run(scores, systems=systems[0]), candidate, gate())


@functools.cache
def refused(names: tuple[str, ...] = ("fsq",)) -> Verdict:
    """Protocols with the names of the systems."""
    run = make_run({(name, "pesq"): SCORES["fsq", "pesq"] for name in names})
    return compare_runs(run, changed(run, protocol="paper " + run.utterances["system"]), gate())


class Shown(HTMLParser):
    """The tags and the text of rendered Markdown, and how many cells the rows of each table have."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.cells: list[list[int]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "table":
            self.cells.append([])
        elif tag == "tr":
            self.cells[-1].append(0)
        elif tag in ("th", "td"):
            self.cells[-1][-1] += 1

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(markdown: str) -> Shown:
    # As GitHub does: tables, and raw HTML, which it then cleans.
    return Shown(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_tells_the_decision(form):
    for verdict in (judged(), judged(by=0), refused()):
        text = FORMATS[form](verdict)
        assert verdict.headline in " ".join(text.split())
        assert text.endswith("\n")


class TestText:
    def test_fits_80_columns_and_tells_what_counts(self):
        text = FORMATS["text"](judged())
        assert max(map(len, text.splitlines())) <= 80
        assert text.startswith("regression: 1 regression and 1 improvement in 12 comparisons of 50 utterances")
        flat = " ".join(text.split())
        for words in (
            "fsq: PESQ (MOS-LQO)",
            "-0.200 [-0.200, -0.200], p = 0.006",
            "threshold 0.05",
            "bits_per_frame 19 -> 20",
        ):
            assert words in flat
        assert re.search(r"PESQ ↑ +-0\.200 +\[-0\.200, -0\.200\] +0\.05 +0\.006 +▼ worse", text)

    def test_reasons_are_told_in_place_of_tables(self):
        text = FORMATS["text"](refused())
        assert text.startswith("not comparable: 1 reason")
        assert "other protocol" in text
        assert "▼" not in text

    def test_shows_hostile_names_as_text(self):
        for verdict in (judged(HOSTILE), refused(HOSTILE)):
            text = FORMATS["text"](verdict)
            assert not set(text) & set("\x1b\x00\x07\t\u202e\u2066\uffff")
            assert max(map(len, text.splitlines())) <= 80
            flat = "".join(text.split())
            for name in HOSTILE:
                assert "".join(printable(name).split()) in flat


class TestMarkdown:
    def test_has_decision_table_and_folded_details(self):
        text = FORMATS["markdown"](judged())
        assert text.startswith("### ❌ regression")
        assert text.index("**Worse**") < text.index("**Better**") < text.index("<details>")
        assert text.count("<details>") == text.count("</details>") >= 2
        shown = rendered(text)
        assert shown.tags <= {"h3", "p", "code", "strong", "ul", "li", "details", "summary", "table", "thead", "tbody",
                              "tr", "th", "td"}  # fmt: skip
        assert "fsq: PESQ (MOS-LQO)" in shown.text

    def test_shows_hostile_names_as_text(self):
        harmless = rendered(FORMATS["markdown"](judged())).tags
        for verdict, tables in ((judged(HOSTILE), [(23, 11), (12, 6)]), (refused(HOSTILE), [])):
            text = FORMATS["markdown"](verdict)
            shown = rendered(text)
            assert shown.tags <= harmless
            assert [(len(rows), *Counter(rows)) for rows in shown.cells] == tables  # all rows as long as the heading
            for link in ("@someone", "#1", "GH-2"):  # GitHub looks for them in what is shown
                assert link not in shown.text
            assert "www." not in text
            flat = " ".join(shown.text.replace("\u200b", "").split())
            for name in HOSTILE:
                assert " ".join(printable(name).split()) in flat

    def test_cells_and_list_items_stay_what_they_are(self):
        assert rendered(f"- {markdown_text('1. item')}").text.strip() == "1. item"
        assert rendered(f"- {markdown_text('- item')}").text.strip() == "- item"
        table = f"| a | b |\n| --- | --- |\n| {markdown_text('x|y')} | z |"
        assert rendered(table).text.split() == ["a", "b", "x|y", "z"]
        assert "@\u200bsomeone" in rendered(markdown_text("ask @someone")).text

    def test_is_no_longer_than_a_comment_may_be(self):
        verdict = judged(HOSTILE)
        many = replace(verdict, comparisons=verdict.comparisons * 20)
        text = FORMATS["markdown"](many)
        assert len(text.encode()) <= MAX_BYTES + 200
        assert "left out, more than a comment may hold" in text
        assert "**Worse**" in text
        flood = FORMATS["markdown"](replace(verdict, findings=verdict.findings * 200))
        assert MAX_BYTES - 2000 < len(flood.encode()) < 65_536
        assert "Cut here" in flood


class TestJson:
    def test_has_the_documented_keys_and_no_number_that_is_none(self):
        values = json.loads(FORMATS["json"](judged()), parse_constant=lambda name: pytest.fail(name))
        assert (values["schema_version"], values["decision"], values["exit_status"]) == (1, "regression", 1)
        (pesq,) = (c for c in values["comparisons"] if (c["system"], c["metric"]) == ("fsq", "pesq"))
        assert pesq["difference"] == pytest.approx(-0.2, rel=0.001)
        assert pesq["outcome"] == "regression"
        documented = (Path(__file__).parents[1] / "docs" / "gate.md").read_text(encoding="utf-8")
        for section in (values, values["comparisons"][0], values["findings"][0], values["quantities"][0]):
            for key in section:
                assert f"`{key}`" in documented, key

    def test_of_refused_runs_has_the_reasons(self):
        values = json.loads(FORMATS["json"](refused()))
        assert (values["decision"], values["exit_status"], values["comparisons"]) == ("not comparable", 2, [])
        assert "other protocol" in values["reasons"][0]

    def test_keeps_names_as_they_are(self):
        values = json.loads(FORMATS["json"](judged(HOSTILE)))
        assert {c["system"] for c in values["comparisons"]} == {"rhombic", *HOSTILE}


class TestJunit:
    def suite(self, verdict: Verdict) -> ElementTree.Element:
        root = ElementTree.fromstring(FORMATS["junit"](verdict).encode("utf-8"))
        (suite,) = root.findall("testsuite")
        for kind, path in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
            assert int(suite.get(kind, "")) == int(root.get(kind, "")) == len(suite.findall(path))
        return suite

    def test_has_a_case_a_system_and_metric(self):
        suite = self.suite(judged())
        assert len(suite.findall("testcase")) == 12
        (case,) = (case for case in suite.findall("testcase") if case.find("failure") is not None)
        assert (case.get("classname"), case.get("name")) == ("fsq", "pesq (librispeech/test-clean)")
        assert "-0.200" in str(case.findtext("failure"))

    def test_has_a_case_for_what_is_no_metric(self):
        run = [make_run(SCORES, systems={"fsq": {"bits_per_frame": bits}}) for bits in (19.0, 20.0)]
        limits = {"bits_per_frame": {"max_increase": 0.1}}
        for pair, failures in (((run[0], run[1]), 1), ((run[0], run[0]), 0)):
            suite = self.suite(compare_runs(*pair, gate(limits=limits)))
            (case,) = (case for case in suite.findall("testcase") if case.get("name") == "bits_per_frame")
            assert len(case.findall("failure")) == len(suite.findall("testcase/failure")) == failures

    def test_refused_runs_are_an_error(self):
        suite = self.suite(refused())
        (case,) = suite.findall("testcase")
        assert "other protocol" in str(case.findtext("error"))

    def test_is_valid_xml_whatever_the_names(self):
        names = {case.get("classname") for case in self.suite(judged(HOSTILE)).findall("testcase")}
        assert names == {"rhombic", *map(printable, HOSTILE)}
        (case,) = self.suite(refused(HOSTILE)).findall("testcase")
        for name in HOSTILE:
            assert printable(name) in str(case.findtext("error"))


def test_a_folder_is_a_name_too():
    verdict = Verdict(Side(Path("a\x1b[31m<b>\udc80")), Side(Path("c|d")), gate(), ("why",))
    assert "a\\x1b[31m<b>\\udc80" in FORMATS["text"](verdict)
    assert "<b>" not in FORMATS["markdown"](verdict)
    TestJunit().suite(verdict)
