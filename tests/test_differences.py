"""Differences to a baseline: marks in the comparison, tables and console, the forest plot."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from rich.console import Console

from evalkit.figures.looks import NothingToDraw, pages
from evalkit.metrics import METRICS
from evalkit.plots.differences import plot_differences
from evalkit.plots.drawing import draw_plots
from evalkit.tables import compare_with_baseline, render_console, render_differences, summarize, write_tables
from q2d2.registry import UnknownName
from tests.synthetic_run import SCALES, assert_legible, make_all_metrics, make_folders, make_systems

FEW = ("ground-truth", "noise-10db", "unquantized", "fsq", "vq", "rhombic")


@pytest.fixture(scope="module")
def systems() -> pd.DataFrame:
    return make_systems().query("system in @FEW").reset_index(drop=True)


@pytest.fixture(scope="module")
def utterances() -> pd.DataFrame:
    rows = make_all_metrics(systems=FEW)
    return rows[rows["metric"].isin(["utmos", "pesq", "mel_distance"])].reset_index(drop=True)


@pytest.fixture(scope="module")
def differences(utterances: pd.DataFrame, systems: pd.DataFrame) -> pd.DataFrame:
    return compare_with_baseline(utterances, systems, "fsq")


def on_console(renderable: object, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(renderable)
    return file.getvalue()


def verdict(differences: pd.DataFrame, system: str, metric: str = "pesq") -> str:
    return differences.set_index(["system", "metric"]).loc[(system, metric), "verdict"]


def test_marks_follow_the_verdicts(
    utterances: pd.DataFrame, systems: pd.DataFrame, differences: pd.DataFrame, tmp_path: Path
) -> None:
    assert [verdict(differences, name) for name in ("vq", "rhombic", "unquantized")] == ["worse", "better", "better"]
    summary = summarize(utterances, systems, differences)
    _, markdown, latex, *_ = write_tables(utterances, systems, tmp_path, "T", baseline="fsq")
    console = on_console(render_console(summary))
    for name in systems["system"]:
        line = next(line for line in markdown.read_text().splitlines() if re.match(rf"\| \*?{name}\*? ", line))
        number, mel = (line.split(" | ")[position] for position in (5, 6))
        row = summary.set_index("system").loc[name]
        for text, metric in ((number, "pesq"), (mel, "mel_distance")):
            mark = {"better": " ▲", "worse": " ▼", "": ""}[row[f"{metric}_verdict"]]
            assert re.search(r"± [\d.]+(.*?)( \|)?$", text).group(1) == mark
        printed = next(line for line in console.splitlines() if line.startswith(f"{name} "))
        assert printed.count("▲") + printed.count("▼") == (row[["pesq_verdict", "mel_distance_verdict"]] != "").sum()
    assert summary.set_index("system").loc["fsq", "pesq_verdict"] == ""
    assert latex.read_text().startswith(r"% needs \usepackage{booktabs,amssymb}")
    assert r"$\blacktriangle$" in latex.read_text()
    assert not re.search("[▲▼±]", latex.read_text())
    for text in (markdown.read_text(), console):
        assert "▲ better, ▼ worse than fsq (one training each)" in text
    assert "the marks say nothing of other seeds" in markdown.read_text()
    assert "over 12 speakers" in markdown.read_text()


def test_without_a_baseline_there_are_no_marks_and_no_differences(
    utterances: pd.DataFrame, systems: pd.DataFrame, tmp_path: Path
) -> None:
    paths = write_tables(utterances, systems, tmp_path, "T")
    assert [path.name for path in paths] == ["comparison.csv", "comparison.md", "comparison.tex"]
    assert not re.search("[▲▼]", paths[1].read_text())
    alone = utterances[utterances["system"] == "fsq"]
    assert len(write_tables(alone, systems[systems["system"] == "fsq"], tmp_path, "T", baseline="fsq")) == 3
    with pytest.raises(ValueError, match="'fqs' is none of the systems"):
        write_tables(utterances, systems, tmp_path, "T", baseline="fqs")


def test_differences_are_written_in_full_and_rounded(
    utterances: pd.DataFrame, systems: pd.DataFrame, differences: pd.DataFrame, tmp_path: Path
) -> None:
    paths = write_tables(utterances, systems, tmp_path, "T", ["Minutes of training."], baseline="fsq")
    assert [path.name for path in paths[3:]] == ["differences.csv", "differences.md", "differences.tex"]
    pd.testing.assert_frame_equal(pd.read_csv(paths[3], keep_default_na=False, na_values=[""]).fillna({"verdict": ""}),
                                  differences.astype({"verdict": object}), check_dtype=False)  # fmt: skip
    markdown, latex = paths[4].read_text(), paths[5].read_text()
    row = differences.set_index(["metric", "system"]).loc[("pesq", "vq")]
    line = f"| vq | 60 | 12 | {row['difference']:+.3f} | \\[{row['low']:+.3f}, {row['high']:+.3f}\\] | \\<0.001 |"
    assert line in markdown
    assert markdown.count("### ") == 2  # the metric nobody scored has no table, but is named
    assert "No utterance was scored of both: UTMOS (MOS) ↑." in markdown
    assert markdown.index("Minutes of training.") < markdown.index("Wilcoxon signed-rank test over 12 speakers")
    assert "Protocol: strict." in markdown
    assert latex.count(r"\begin{table*}") == latex.count(r"\end{tabular}") == 2
    assert not re.search("[▲▼±<]", latex)
    bare = re.sub(r"\\.", "", latex)
    assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize("width", [80, 100])
def test_console_lists_every_difference(width: int, differences: pd.DataFrame) -> None:
    text = on_console(render_differences(differences, make_systems(), width), width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    rows = [line for line in text.splitlines() if " ± " in line and "a ± b" not in line]
    assert len(rows) == (differences["n"] > 0).sum()
    row = differences.set_index(["metric", "system"]).loc[("pesq", "vq")]
    printed = next(line for line in rows if re.search(r"\bvq\b", line))
    half = (row["high"] - row["low"]) / 2
    assert f"{row['difference']:+.3f} ± {half:.3f} ▼" in printed
    assert f"{row['effect_dz']:+.2f}" in printed
    assert "fsq" in text
    assert len({re.search(r"± [\d.]+", line).end() for line in rows}) == 1  # with or without a mark


def test_console_says_that_nothing_could_be_compared(utterances: pd.DataFrame, systems: pd.DataFrame) -> None:
    nothing = compare_with_baseline(utterances[utterances["metric"] == "utmos"], systems, "fsq")
    assert "no utterance was scored of both" in on_console(render_differences(nothing, systems))
    alone = utterances[utterances["system"] == "fsq"], systems[systems["system"] == "fsq"]
    nobody = compare_with_baseline(*alone, "fsq")
    assert "no system beside the baseline" in on_console(render_differences(nobody, systems))
    pd.testing.assert_frame_equal(summarize(*alone, nobody), summarize(*alone))


def test_too_few_units_for_any_mark_are_told(tmp_path: Path, systems: pd.DataFrame) -> None:
    rows = make_all_metrics(systems=FEW).query("metric == 'pesq'")
    few = rows[rows["utterance"].isin([f"u{number}" for number in range(6)])]
    differences = compare_with_baseline(few, systems, "fsq")
    assert not any(differences["verdict"])
    _, markdown, _, _, listed, _ = write_tables(few, systems, tmp_path, "T", baseline="fsq")
    for text in (
        markdown.read_text(),
        listed.read_text(),
        " ".join(on_console(render_differences(differences, systems)).split()),
    ):
        assert "With 6 units and 3 comparisons the smallest corrected p there can be is 0.094" in text
        assert "nothing can be marked" in text
    _, markdown, *_ = write_tables(rows, systems, tmp_path, "T", baseline="fsq")
    assert "nothing can be marked" not in markdown.read_text()


def test_a_metric_of_unknown_direction_is_higher_or_lower(
    utterances: pd.DataFrame, systems: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str) -> object:
        raise UnknownName(name)

    monkeypatch.setattr(METRICS, "resolve", missing)
    _, markdown, latex, *_ = write_tables(utterances, systems, tmp_path, "T", baseline="fsq")
    assert "△ higher, ▽ lower than fsq" in markdown.read_text()
    assert "▲ better" not in re.sub("▲ better, ▼ worse, △", "", markdown.read_text())
    assert not re.search("[△▽]", latex.read_text())


def test_forest_plot_shows_differences_intervals_and_what_is_significant(
    systems: pd.DataFrame, differences: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    muted = differences.assign(verdict=differences["verdict"].mask(differences["system"] == "rhombic", ""))
    figure = plot_differences(muted, systems)
    texts = assert_legible(figure, monkeypatch)
    assert len(figure.axes) == 2
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [name for name in systems["system"] if name != "fsq"]
    points = {}
    for line in axes.lines:
        if line.get_marker() == "o":
            points[names[int(line.get_ydata()[0])]] = (float(line.get_xdata()[0]), to_rgba(line.get_markerfacecolor()))
    found = muted[muted["metric"] == "pesq"].set_index("system")
    for name in ("vq", "rhombic"):
        assert points[name][0] == pytest.approx(found.loc[name, "difference"])
    assert points["rhombic"][1] == to_rgba("white") != points["vq"][1]
    spans = [tuple(np.round(line.get_xdata(), 9)) for line in axes.lines if len(line.get_xdata()) == 2]
    assert tuple(np.round(found.loc["vq", ["low", "high"]].astype(float), 9)) in spans
    assert (0, 0) in spans  # the line at zero
    assert "ground-truth" not in points  # far beyond: named at the edge, with its value
    assert f"{found.loc['ground-truth', 'difference']:+.2f}" in texts
    left, right = axes.get_xlim()
    assert left < found.loc["vq", "low"]
    assert right < found.loc["ground-truth", "difference"]


def test_forest_plot_needs_something_to_compare(systems: pd.DataFrame, differences: pd.DataFrame) -> None:
    with pytest.raises(NothingToDraw, match="no utterance was scored of both"):
        plot_differences(differences[differences["metric"] == "utmos"], systems)


def test_metrics_come_in_figures_of_few_panels_the_papers_first() -> None:
    names = list(reversed(SCALES))
    parts = pages(names)
    assert parts[0] == ["utmos", "pesq", "stoi", "vuv_f1"]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert [len(part) for part in parts] == [4, 5, 5]
    assert pages(["si_sdr", "pesq@paper", "pesq@strict"]) == [["pesq@paper", "pesq@strict", "si_sdr"]]
    assert pages([]) == [[]]


def test_plots_of_folders_are_those_that_make_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systems = pd.concat([make_systems().iloc[:1], make_folders(("dac", "mimi"))], ignore_index=True)
    rows = make_all_metrics(("utmos", "stoi"), ("ground-truth", "fsq", "vq"))
    rows = rows[rows["metric"].isin(["utmos", "stoi", "pesq", "estoi"])]
    rows = rows.assign(system=rows["system"].replace({"fsq": "dac", "vq": "mimi"}))
    no_codes = pd.DataFrame(columns=["system", "quantizer", "code", "count"])
    drawn = draw_plots(rows, systems, no_codes, {}, {}, tmp_path, "", baseline="dac")
    assert [path.name for path in drawn.files if path.suffix == ".png"] == ["distributions.png", "differences.png"]
    assert drawn.skipped == {"quality-vs-bitrate": "no bit rates known", "spectrograms": "no audio to show"}
    compared = compare_with_baseline(rows, systems, "dac")
    figure = plot_differences(compared, systems)
    assert_legible(figure, monkeypatch)
    assert [axes.get_title() for axes in figure.axes] == ["PESQ ↑", "ESTOI ↑"]  # unavailable metrics have no panel
    assert math.isclose(figure.axes[0].get_ylim()[0], 1.5)
