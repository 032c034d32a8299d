"""Names as text: in CSV, LaTeX, Markdown, HTML and on the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from evalkit.cli.terminal import Terminal
from evalkit.pages import _environment
from evalkit.report.svg import tag
from evalkit.tables.csv_text import csv_text, read_csv
from evalkit.tables.markup import escape_latex, escape_markdown
from evalkit.text import isolated, markdown_text, plain, printable, shown

RESULTS = Path(__file__).parents[1] / "results"
MARKS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u200b\ufeff\x1b"
FORMULAS = ["=HYPERLINK(1)", "+1", "-x", "@cmd", "\t=1", "\r=1", "'=1", "''+2", '=1+1,"a"\nb', "\uff1d1"]
UNHARMED = ["null", "NA", "nan", "None", "N/A", "n/a", "007", "'quoted'", "plain", "日本語"]


class TestCsv:
    def test_text_that_a_spreadsheet_would_compute_is_text_and_comes_back(self, tmp_path):
        frame = pd.DataFrame({"system": FORMULAS + UNHARMED, "note": FORMULAS + UNHARMED})
        text = csv_text(frame.assign(difference=-0.5, count=3))
        cells = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        assert not any(cell[0] in "=+-@\t\r\uff1d" for cell in cells["system"])
        assert set(cells["difference"]) == {"-0.5"}
        assert list(cells["system"][-len(UNHARMED) :]) == UNHARMED
        (tmp_path / "table.csv").write_bytes(text.encode())
        read = read_csv(tmp_path / "table.csv")
        assert list(read["system"]) == FORMULAS + UNHARMED
        assert set(read["difference"]) == {-0.5}

    def test_names_stay_text_where_all_look_like_numbers_and_empty_ones_are_missing(self, tmp_path):
        (tmp_path / "table.csv").write_text(
            csv_text(pd.DataFrame({"system": ["1", "null", None], "v": [1.5, None, 2]}))
        )
        read = read_csv(tmp_path / "table.csv")
        assert list(read["system"].fillna("-")) == ["1", "null", "-"]
        assert read["v"].isna().tolist() == [False, True, False]

    @pytest.mark.parametrize(
        "path", sorted(RESULTS.glob("*/tables/*.csv")), ids=lambda path: str(path.parent.parent.name)
    )
    def test_committed_tables_are_as_they_were(self, path):
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
        assert csv_text(frame) == frame.to_csv(index=False, lineterminator="\n")


class TestHidden:
    @pytest.mark.parametrize("mark", MARKS)
    def test_marks_are_seen_in_every_form(self, mark):
        name, escape = f"a{mark}b", mark.encode("unicode_escape").decode()
        page = _environment().from_string("{{ name }}{{ data | tojson }}")
        for text in (
            printable(name),
            escape_markdown(name),
            markdown_text(name),
            escape_latex(name),
            plain(name),
            page.render(name=name, data={"key": [name]}),
            str(tag("text", name, data_tip=name)),
            shown(f"one\n{name}"),
        ):
            assert mark not in text
            assert escape[1:] in text
        out = io.StringIO()
        Terminal(file=out).print(f"[bold]name[/] {name}")
        assert mark not in out.getvalue()

    def test_joiners_stay_where_a_script_or_emoji_needs_them(self):
        for text in ("\u0645\u06cc\u200c\u062e", "👩\u200d🔬", "क्\u200dष"):
            assert printable(text) == text
        assert printable("a\u200db") == "a\\u200db"

    def test_isolates_of_ours_stay_and_hold_nothing_hidden(self):
        assert shown(f"{isolated('x')} better") == "\u2068x\u2069 better"
        assert shown(isolated("x\u202ey")) == "\u2068x\\u202ey\u2069"
        assert shown("\u2068x\u202ey\u2069") == "\\u2068x\\u202ey\\u2069"


class TestMarkdown:
    def test_a_report_reads_as_text_in_a_log_too(self):
        for text in ("regression: PESQ 2.310 -> 2.210", "bits_per_frame", "ends at 12:30; \"ok\"? 'yes'!"):
            assert markdown_text(text) == text

    @pytest.mark.parametrize(("text", "meaning"), [("see http://x.y", "://"), (":tada:", ":tada:"), ("_x_", "_x_")])
    def test_what_would_mean_something_does_not(self, text, meaning):
        assert meaning not in markdown_text(text)

    def test_an_entity_in_a_name_is_no_entity(self):
        assert escape_markdown("&#58;") == r"\&\#58;"
