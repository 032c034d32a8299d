"""Table cells: protocols and versions apart, failures visible, counts once, empty columns gone, caveats below."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from evalkit.metrics import METRICS
from evalkit.tables import compare_with_baseline, metric_format, metric_keys, render_console, summarize, write_tables
from evalkit.tables.cells import blocks, cells, columns
from tests.synthetic_run import UNAVAILABLE, make_all_metrics, make_folders, make_systems
from tests.table_rows import score_rows, system_row

SYSTEMS = pd.DataFrame(
    [system_row("ground-truth", "anchor", None, rtf_encode=None, rtf_decode=None), system_row("a"), system_row("b")]
)


def scores(metric: str = "pesq", **values: list[float | None]) -> pd.DataFrame:
    rows = [row for name, numbers in values.items() for row in score_rows(name, metric, numbers)]
    return pd.DataFrame(rows).astype({"value": "float64"})


def on_console(renderable: object, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(renderable)
    return file.getvalue()


def column_of(summary: pd.DataFrame, key: str) -> list[str]:
    """What is printed of a metric, one text a row."""
    shown = [column for column in columns(summary) if column.key == key]
    parts = (line[0] for line in cells(summary, shown))
    return [" ".join(part for part in (cell.text, cell.spread, cell.mark, cell.scored) if part) for cell in parts]


def test_two_protocols_never_share_a_column() -> None:
    strict = scores(a=[2.0, 2.2], b=[3.0, 3.2]).assign(protocol="strict")
    paper = scores(a=[1.0, 1.2], b=[1.5, 1.7]).assign(protocol="paper")
    summary = summarize(pd.concat([strict, paper]), SYSTEMS).set_index("system")
    assert summary.loc["a", ["pesq@strict", "pesq@paper"]].tolist() == pytest.approx([2.1, 1.1])
    assert "pesq" not in summary
    alone = summarize(paper, SYSTEMS).set_index("system")
    assert alone.loc["a", "pesq"] == pytest.approx(1.1)
    assert not [name for name in alone if "@" in name]


def test_rows_without_a_protocol_keep_their_name_beside_one_that_has_it() -> None:
    rows = pd.concat([scores(a=[2.0]).assign(protocol=None), scores(a=[1.0]).assign(protocol="paper")])
    assert metric_keys(rows).tolist() == ["pesq", "pesq@paper"]
    assert metric_keys(scores(a=[1.0])).tolist() == ["pesq"]


def test_headings_and_notes_name_the_protocol(tmp_path: Path) -> None:
    assert metric_format("stoi@paper").label == "STOI (paper)"
    assert metric_format("pesq@strict+align").heading == "PESQ (strict+align, MOS-LQO)"
    assert metric_format("pesq@paper").decimals == metric_format("pesq").decimals
    assert metric_format("mystery@paper").label == "mystery (paper)"
    paper = scores("stoi", a=[0.8, 0.9], b=[0.7, 0.9]).assign(protocol="paper")
    _, markdown, _ = write_tables(paper, SYSTEMS, tmp_path, "T")
    assert "| STOI ↑ |" in markdown.read_text()
    assert "- Protocol: paper." in markdown.read_text()
    both = pd.concat([paper, paper.assign(protocol="strict")])
    _, markdown, latex = write_tables(both, SYSTEMS, tmp_path, "T")
    assert "| STOI (paper) ↑ | STOI (strict) ↑ |" in markdown.read_text()
    assert "- Protocols, in the headings: paper, strict." in markdown.read_text()
    assert r"STOI (paper) $\uparrow$" in latex.read_text()


def test_two_versions_of_a_metric_are_not_averaged() -> None:
    rows = scores(a=[2.0, 2.2], b=[3.0, 3.2]).assign(version=["1", "1", "1", "2"])
    with pytest.raises(ValueError, match="pesq was scored by versions 1, 2"):
        summarize(rows, SYSTEMS)
    with pytest.raises(ValueError, match=r"versions \(none\), 1"):
        summarize(rows.assign(version=["1", None, "1", "1"]), SYSTEMS)
    # Each protocol has its own; what failed is in no mean.
    apart = pd.concat([rows.assign(protocol="x", version="1"), rows.assign(protocol="y", version="2")])
    assert len(summarize(apart, SYSTEMS)) == 3
    failed = rows.assign(status=["ok", "ok", "ok", "unavailable"])
    assert len(summarize(failed, SYSTEMS)) == 3


def test_missing_scores_are_plainly_visible() -> None:
    rows = scores(**{"ground-truth": [4.6, 4.6, 4.6], "a": [2.0, None, 2.2], "b": [None, None, None]})
    assert column_of(summarize(rows, SYSTEMS), "pesq") == ["4.60 ± 0.00", "2.10 ± 1.27 2/3", "failed 3"]
    lost = rows[rows["system"] == "b"].assign(status="unavailable")
    assert column_of(summarize(pd.concat([rows[rows["system"] != "b"], lost]), SYSTEMS), "pesq")[2] == "unavailable"
    mixed = lost.assign(status=["failed", "unavailable", "unavailable"])
    assert column_of(summarize(mixed, SYSTEMS), "pesq") == ["-", "-", "0/3"]


def test_equal_counts_are_said_once(tmp_path: Path) -> None:
    rows = scores(a=[2.0, 2.1, 2.2], b=[2.0, 2.1, 2.4])
    _, markdown, _ = write_tables(rows, SYSTEMS, tmp_path, "T")
    assert "3/3" not in markdown.read_text()
    assert "Means are over 3 utterances. " in markdown.read_text()
    shorter = rows[~((rows["system"] == "b") & (rows["utterance"] == "u2"))]
    assert column_of(summarize(shorter, SYSTEMS), "pesq")[1:] == ["2.10 ± 0.25", "2.05 ± 0.64 2/2"]


def test_half_width_is_of_the_interval_in_the_csv(tmp_path: Path) -> None:
    rows = scores(a=np.random.default_rng(0).exponential(1, 30).tolist(), b=[1.0] * 30)
    csv, _, _ = write_tables(rows, SYSTEMS, tmp_path, "T")
    row = pd.read_csv(csv).set_index("system").loc["a"]
    printed = column_of(summarize(rows, SYSTEMS), "pesq")[1]
    assert printed == f"{row['pesq']:.2f} ± {(row['pesq_high'] - row['pesq_low']) / 2:.2f}"
    assert row["pesq_high"] - row["pesq"] > 1.1 * (row["pesq"] - row["pesq_low"])  # the CSV keeps that it is lopsided


def test_folders_compete_and_what_nobody_knows_of_them_is_left_out(tmp_path: Path) -> None:
    systems = pd.concat([make_systems().iloc[:1], make_folders(("dac", "mimi"))], ignore_index=True)
    rows = scores(**{"ground-truth": [4.6, 4.6], "dac": [3.0, 3.1], "mimi": [2.0, 2.1]})
    summary = summarize(rows, systems)
    assert [column.key for column in columns(summary)] == ["pesq"]
    assert [[column.key for column in block] for block in blocks(summary)] == [["pesq"]]
    _, markdown, latex = write_tables(rows, systems, tmp_path, "T")
    assert "| System | PESQ (MOS-LQO) ↑ |" in markdown.read_text()
    assert "| dac | **3.05** ± 0.64 |" in markdown.read_text()
    assert "| *ground-truth* | 4.60 ± 0.00 |" in markdown.read_text()
    assert latex.read_text().count(r"\begin{tabular}") == 1
    for text in (markdown.read_text(), on_console(render_console(summary))):
        assert not re.search("kbit|RTF|utilization|params|tokens", text)


def test_all_metrics_fit_the_console_and_the_unavailable_are_named_once(tmp_path: Path) -> None:
    rows, systems = make_all_metrics(), make_systems()
    summary = summarize(rows, systems)
    for width in (80, 100):
        text = on_console(render_console(summary, width), width)
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        assert "…" not in text
        assert text.count("unavailable") == len(systems)
        assert "60/60" not in text
    _, markdown, _ = write_tables(rows, systems, tmp_path, "T")
    assert f"- UTMOS, unavailable: every score: {UNAVAILABLE}" in markdown.read_text()
    widest = max(len(line.split(" | ")) for line in markdown.read_text().splitlines() if line.startswith("|"))
    assert widest <= 1 + 6


def test_numbers_stand_below_numbers_on_the_console() -> None:
    rows = scores(**{"ground-truth": [4.6, 4.6, 4.6], "a": [2.0, None, 2.2], "b": [1.0, 1.1, 1.3]})
    lines = on_console(render_console(summarize(rows, SYSTEMS))).splitlines()
    rows_of_systems = [line for line in lines if "±" in line and "interval" not in line]
    assert len(rows_of_systems) == 3
    assert len({line.index("±") for line in rows_of_systems}) == 1


def test_counts_stand_below_counts_with_and_without_a_mark() -> None:
    values = np.random.default_rng(1).normal(3, 0.3, 12)
    a = [None, *(values[1:] + 1 + 0.01 * values[1:]).tolist()]  # 11/12, better
    b = [*values[:9].tolist(), None, None, None]  # 9/12, the baseline's own numbers
    rows = scores(**{"ground-truth": values.tolist(), "a": a, "b": b})
    systems = pd.concat([make_systems().iloc[:1], make_folders(("a", "b"))], ignore_index=True)
    differences = compare_with_baseline(rows, systems, "ground-truth")
    text = on_console(render_console(summarize(rows, systems, differences)))
    lines = [line.rstrip() for line in text.splitlines() if re.search(r"\d/12", line)]
    assert len(lines) == 2
    assert ["▲" in line for line in lines] == [True, False]
    assert len({len(line) for line in lines}) == 1


def predictor(name: str) -> SimpleNamespace:
    return SimpleNamespace(
        name=name, label=name.upper(), unit="", higher_is_better=True, decimals=2, needs_reference=False,
        caveat="It never hears the reference.",
    )  # fmt: skip


def test_predictors_carry_their_caveat_and_say_whom_they_put_above_the_truth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(METRICS, "resolve", predictor)
    rows = pd.concat([scores(name, **{"ground-truth": [3.0], "a": [3.1], "b": [2.9]}) for name in ("guess", "hunch")])
    _, markdown, latex = write_tables(rows, SYSTEMS, tmp_path, "T")
    for text in (markdown.read_text(), latex.read_text(), on_console(render_console(summarize(rows, SYSTEMS)))):
        assert text.count("It never hears the reference.") == 1
        assert "GUESS puts a above ground-truth." in text
        assert "HUNCH puts a above ground-truth." in text
    lost = rows.assign(value=math.nan, status="unavailable")
    assert "hears" not in on_console(render_console(summarize(lost, SYSTEMS)))
