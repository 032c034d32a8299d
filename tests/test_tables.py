"""Tables: the numbers are those of the rows, failures stay out of them, bold is where it should be, text is escaped."""

from __future__ import annotations

import io
import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from evalkit.metrics import METRICS
from evalkit.tables import metric_format, render_console, resampling_unit, summarize, write_tables
from evalkit.tables.cells import cells, columns, format_number
from evalkit.tables.markup import escape_latex, escape_markdown
from q2d2.registry import UnknownName
from tests.table_rows import score_rows, system_row

SYSTEMS = pd.DataFrame(
    [
        system_row("ground-truth", "anchor", None, rtf_encode=None, rtf_decode=None, rtf_detail=None, parameters=None),
        system_row("mulaw-8bit", "anchor", None, bitrate=128_000.0),
        system_row("null", bits=None),
        system_row("rhombic", bits=19.23, utilization=0.5),
        system_row("a_b & c|d", bits=18.0),
        system_row("all failed", bits=12.0, normalized_entropy=0.5),
    ]
)
PESQ = {
    "ground-truth": [4.64, 4.64, 4.64],
    "mulaw-8bit": [4.2, 4.3, 4.1],
    "null": [2.4, 2.5, 2.6],
    "rhombic": [2.0, 1.5, None],  # mean 1.75
    "a_b & c|d": [1.7, 1.7, 1.858],  # mean 1.7527: a tie at two decimals
    "all failed": [None, None, None],
}
STOI = {name: [0.9] * 3 for name in PESQ} | {"rhombic": [0.912, 0.912, 0.912], "a_b & c|d": [0.911, 0.911, 0.911]}


@pytest.fixture
def utterances() -> pd.DataFrame:
    rows = [row for name, values in PESQ.items() for row in score_rows(name, "pesq", values)]
    rows += [row for name, values in STOI.items() for row in score_rows(name, "stoi", values)]
    return pd.DataFrame(rows).astype({"value": "float64"})


def lines_of(text: str, system: str) -> list[str]:
    """The table rows of a system, one a block."""
    return [line for line in text.splitlines() if line.startswith((f"| {system} |", f"{system} &"))]


def test_summary_holds_the_numbers_of_the_rows_in_order(utterances: pd.DataFrame) -> None:
    summary = summarize(utterances, SYSTEMS)
    assert list(summary["system"]) == list(SYSTEMS["system"])
    row = summary.set_index("system").loc["rhombic"]
    assert row["bits_per_frame"] == 19.23
    assert row["kbps"] == pytest.approx(0.9615)
    assert row["entropy_kbps"] == pytest.approx(19.23 * 0.045)
    assert row["utilization_percent"] == pytest.approx(50)
    assert row["parameters_millions"] == pytest.approx(4.123456)
    assert row["stoi"] == pytest.approx(0.912)


def test_failures_are_counted_and_never_averaged(utterances: pd.DataFrame) -> None:
    summary = summarize(utterances, SYSTEMS).set_index("system")
    assert summary.loc["rhombic", "pesq"] == pytest.approx(1.75)
    assert summary.loc["rhombic", ["pesq_n_ok", "pesq_n_total"]].tolist() == [2, 3]
    assert summary.loc["rhombic", "pesq_low"] < 1.75 < summary.loc["rhombic", "pesq_high"]
    assert math.isnan(summary.loc["all failed", "pesq"])
    assert summary.loc["all failed", ["pesq_n_ok", "pesq_n_total"]].tolist() == [0, 3]


def test_a_number_beside_a_failed_status_is_not_used(utterances: pd.DataFrame) -> None:
    failed = (utterances["status"] == "failed") & (utterances["metric"] == "pesq")
    poisoned = utterances.assign(value=utterances["value"].mask(failed, -1.0))
    pd.testing.assert_frame_equal(summarize(poisoned, SYSTEMS), summarize(utterances, SYSTEMS))


def test_systems_without_codes_have_no_rate_even_as_zero(utterances: pd.DataFrame) -> None:
    zero = SYSTEMS.assign(bits_per_frame=SYSTEMS["bits_per_frame"].fillna(0.0), bitrate=SYSTEMS["bitrate"].fillna(0.0))
    row = summarize(utterances, zero).set_index("system").loc["null"]
    assert row[["bits_per_frame", "kbps"]].isna().all()


def test_inconsistent_rows_are_refused(utterances: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"rhombic.*but systems has rows for"):
        summarize(utterances, SYSTEMS[SYSTEMS["system"] != "rhombic"])
    with pytest.raises(ValueError, match="scores are there twice"):
        summarize(pd.concat([utterances, utterances.iloc[:1]]), SYSTEMS)
    with pytest.raises(ValueError, match="listed twice"):
        summarize(utterances, pd.concat([SYSTEMS, SYSTEMS.iloc[:1]]))


def test_no_scores_at_all_still_lists_the_systems(utterances: pd.DataFrame) -> None:
    some = summarize(utterances[utterances["system"] != "null"], SYSTEMS).set_index("system")
    assert some.loc["null", ["pesq", "pesq_n_total"]].fillna(-1).tolist() == [-1, 0]
    summary = summarize(utterances[:0], SYSTEMS)
    assert list(summary["system"]) == list(SYSTEMS["system"])
    Console(file=io.StringIO()).print(render_console(summary))


def test_intervals_are_over_speakers_where_all_are_known(utterances: pd.DataFrame) -> None:
    few = utterances.assign(speaker=utterances["utterance"].map({"u0": "a", "u1": "b", "u2": "c"}))
    some = few.assign(speaker=few["speaker"].where(few["utterance"] != "u1"))
    assert [resampling_unit(rows) for rows in (utterances, few, some)] == ["utterances", "speakers", "utterances"]
    # Two utterances a speaker, equal within it: resampling speakers must give the wider interval.
    values = [float(number // 2) for number in range(20)]
    rows = pd.DataFrame(score_rows("rhombic", "stoi", values))
    grouped = rows.assign(speaker=[f"s{number // 2}" for number in range(20)])
    narrow, wide = (summarize(frame, SYSTEMS).set_index("system").loc["rhombic"] for frame in (rows, grouped))
    assert wide["stoi_high"] - wide["stoi_low"] > 1.2 * (narrow["stoi_high"] - narrow["stoi_low"])


def test_csv_has_full_precision_and_separate_columns(utterances: pd.DataFrame, tmp_path) -> None:
    csv, _, _ = write_tables(utterances, SYSTEMS, tmp_path / "tables", "T", [])
    loaded = pd.read_csv(csv)
    summary = summarize(utterances, SYSTEMS)
    assert list(loaded.columns) == list(summary.columns)
    np.testing.assert_array_equal(loaded["pesq"], summary["pesq"])
    assert {"pesq", "pesq_low", "pesq_high", "pesq_n_ok", "pesq_n_total"} <= set(loaded.columns)


def test_markdown_bolds_ties_among_ranked_systems_only(utterances: pd.DataFrame, tmp_path) -> None:
    _, markdown, _ = write_tables(utterances, SYSTEMS, tmp_path, "T", [])
    text = markdown.read_text()
    rhombic, rhombic_codes = lines_of(text, "rhombic")
    other, other_codes = lines_of(text, r"a\_b \& c\|d")
    assert "| **1.75** ± 3.18 2/3 |" in rhombic
    assert "| **1.75** ± 0.23 |" in other  # equal as printed; all scored, so no count
    assert "**0.912**" in rhombic
    assert "| 0.911 ± 0.000 |" in other
    assert "| 50.0 |" in rhombic_codes
    assert "| **90.0** | **0.950** |" in other_codes
    for unranked in ("*ground-truth*", "*mulaw-8bit*", "*null*"):
        assert ["**" in line for line in lines_of(text, unranked)] == [False, False]
    failed, _ = lines_of(text, "all failed")
    assert "| failed 3 |" in failed
    assert text.count("0.0100") == len(SYSTEMS) - 1
    assert "**0.0100**" not in text  # speed is not ranked


def test_markdown_rows_all_have_the_columns_of_their_header(utterances: pd.DataFrame, tmp_path) -> None:
    _, markdown, _ = write_tables(utterances, SYSTEMS, tmp_path, "T", [])
    for block in re.findall(r"(?:^\|.*\n)+", markdown.read_text(), flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
        assert len(block.splitlines()) == 2 + len(SYSTEMS)


def test_headings_point_in_the_better_direction(utterances: pd.DataFrame, tmp_path) -> None:
    _, markdown, latex = write_tables(utterances, SYSTEMS, tmp_path, "T", [])
    assert "| System | bits/frame | kbit/s | tokens/s | PESQ (MOS-LQO) ↑ | STOI ↑ |" in markdown.read_text()
    assert "| RTF encode ↓ | RTF decode ↓ | params (M) |" in markdown.read_text()
    assert r"STOI $\uparrow$ \\" in latex.read_text()
    assert "↑" not in latex.read_text()


def test_latex_is_escaped_balanced_and_bold_where_best(utterances: pd.DataFrame, tmp_path) -> None:
    _, _, latex = write_tables(utterances, SYSTEMS, tmp_path, "100% of $x_1$ & {more}", ["2,000 steps; ~5 # ^ \\"])
    text = latex.read_text()
    assert r"\caption{100\% of \$x\_1\$ \& \{more\}}" in text
    assert r"2,000 steps; \textasciitilde{}5 \# \textasciicircum{} \textbackslash{}\par" in text
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    rhombic, _ = lines_of(text, "rhombic")
    other, _ = lines_of(text, r"a\_b \& c|d")
    assert [r"\textbf{1.75}" in line for line in (rhombic, other)] == [True, True]
    assert r"2/3}" in rhombic
    assert r"\textbf{4.64}" not in text
    assert r"\textbf{2.50}" not in text
    for preamble, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) == 1 + len(SYSTEMS)
        assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {len(preamble) - 1}


def test_notes_say_what_is_ranked_what_failed_and_how_speed_was_measured(utterances: pd.DataFrame, tmp_path) -> None:
    _, markdown, latex = write_tables(utterances, SYSTEMS, tmp_path, "T", ["57 of 2,620 utterances"])
    for text in (markdown.read_text(), latex.read_text()):
        assert text.index("57 of 2,620 utterances") < text.index("interval over utterances")
        assert "Means are over 3 utterances, or over a of b where a cell says a/b." in text
        assert "Not ranked, in italics: ground-truth, mulaw-8bit (known answers); null (no codes, no bit rate)." in text
        assert "PESQ, failed: rhombic 1, all failed 3: no utterance detected" in text
        assert "batch 1, 5 s, 2 threads" in text


def test_lower_is_better_bolds_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    lag = SimpleNamespace(name="lag", label="Lag", unit="ms", higher_is_better=False, decimals=1)
    monkeypatch.setattr(METRICS, "resolve", lambda name: lag)
    systems = pd.DataFrame([system_row("null", bits=None), system_row("slow"), system_row("fast")])
    values = {"null": [0.1], "slow": [9.0], "fast": [3.0]}
    rows = pd.DataFrame([row for name, numbers in values.items() for row in score_rows(name, "lag", numbers)])
    summary = summarize(rows, systems)
    shown = [column for column in columns(summary) if column.key == "lag"]
    assert (shown[0].heading, shown[0].better) == ("Lag (ms)", "↓")
    printed = [(line[0].text, line[0].best) for line in cells(summary, shown)]
    assert printed == [("0.1", False), ("9.0", False), ("3.0", True)]


def test_a_lone_ranked_system_is_not_called_best() -> None:
    systems = pd.DataFrame([system_row("null", bits=None), system_row("rhombic")])
    rows = pd.DataFrame(score_rows("null", "stoi", [0.9]) + score_rows("rhombic", "stoi", [0.8]))
    summary = summarize(rows, systems)
    assert not any(cell.best for line in cells(summary, columns(summary)) for cell in line)


def test_a_metric_not_installed_here_is_printed_but_not_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise UnknownName(name)

    monkeypatch.setattr(METRICS, "resolve", missing)
    style = metric_format("mystery")
    assert (style.label, style.arrow, style.decimals, style.higher_is_better) == ("mystery", "", 3, None)


def test_several_datasets_are_blocks_each_with_its_own_best(tmp_path) -> None:
    systems = pd.DataFrame([system_row("a"), system_row("b")])
    values = {("a", "clean"): 0.9, ("b", "clean"): 0.8, ("a", "other"): 0.5, ("b", "other"): 0.6}
    rows = [row for (name, part), value in values.items() for row in score_rows(name, "stoi", [value], part)]
    _, markdown, latex = write_tables(pd.DataFrame(rows), systems, tmp_path, "T", [])
    text = markdown.read_text()
    lines = [line for line in text.splitlines() if re.match(r"\| (clean|other) \| [ab] \|", line)][:4]
    assert [re.findall(r"\*\*(0\.\d+)\*\*", line) for line in lines] == [["0.900"], [], [], ["0.600"]]
    assert [line.split(" | ")[0] for line in lines] == ["| clean", "| clean", "| other", "| other"]
    assert "Data set & System" in latex.read_text()


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(-0.001, 2, "0.00"), (-1.5, 1, "-1.5"), (12345.678, 1, "12,345.7"), (math.nan, 2, "-"), (0.0, 3, "0.000")],
)
def test_numbers_as_printed(value: float, decimals: int, text: str) -> None:
    assert format_number(value, decimals) == text


def test_escapes() -> None:
    assert escape_markdown("a|b*c_d [x](y) <i>\nnext") == r"a\|b\*c\_d \[x\](y) \<i\> next"
    assert escape_latex("50 % ↓ [a] <b>\nc") == r"50 \% $\downarrow$ {[}a{]} \textless{}b\textgreater{} c"


@pytest.mark.parametrize("extra", [0, 6])
def test_console_fits_and_marks_the_best(extra: int, utterances: pd.DataFrame) -> None:
    systems = pd.concat([SYSTEMS, pd.DataFrame([system_row("a-very-long-name-of-a-system-" * 2)])], ignore_index=True)
    more = [
        utterances[utterances["metric"] == "stoi"].assign(metric=f"another_metric_{index}") for index in range(extra)
    ]
    summary = summarize(pd.concat([utterances, *more]), systems)
    file = io.StringIO()
    Console(file=file, width=100, force_terminal=True, color_system="standard").print(render_console(summary))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 100
    assert "…" not in plain  # nothing is cut
    assert "1.75 ± 3.18 2/3" in plain
    assert "Means are over 3 utterances" in " ".join(plain.split())
    assert plain.count("params") == 1
    if extra:
        assert all(f"another_metric_{index}" in plain for index in range(extra))
    assert "\x1b[1;4m1.75\x1b[0m" in file.getvalue()
    assert "\x1b[1;4m4.64" not in file.getvalue()
