"""What a search leaves to read: its trials as CSV, the finalists as a table, Markdown and CSV, and a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from rich.table import Table
from rich.text import Text

from evalkit.figures.looks import NothingToDraw, looks
from evalkit.plots.figures import legend_columns, save, styled
from evalkit.plots.lettering import add_legend
from evalkit.sweeps.tables import interval
from evalkit.tables import metric_format
from evalkit.tables import table as tables
from evalkit.tables.cells import MISSING, probability, signed
from evalkit.tables.console import terminal_grid
from evalkit.tables.csv_text import csv_text
from evalkit.tables.markup import markdown_page, markdown_table
from q2d2.files import write_atomically

TRIALS = "trials.csv"
EDGE = 0.03  # of the axes' height, from where scores are worst
LABEL_POINTS = 7
CELLS = (
    "±: half of the 95 % interval over seeds and utterances (speakers, where there are six at least). Difference: "
    "minus the baseline, paired over seeds and utterances, with its 95 % interval and p by jackknife, corrected by "
    "Holm over the finalists.",
    "Verdict: better or worse only where the interval excludes 0, p (Holm) < 0.05, and more bits per frame cannot be "
    "the reason. Empty: not told apart, which does not mean that there is no difference.",
)


def write_trials(searched: pd.DataFrame, folder: Path) -> Path:
    """Write the rows of the search, `SearchStudy.rows`, as trials.csv."""
    path = folder / TRIALS
    write_atomically(path, csv_text(searched))
    return path


def write_tuned(compared: pd.DataFrame, title: str, notes: Sequence[str], folder: Path) -> list[Path]:
    """Write the finalists, `compare_finals`, as tuned.md and tuned.csv into `folder`, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for metric in compared["metric"].unique():
        rows = compared[compared["metric"] == metric].to_dict("records")
        parts.append(markdown_table(tables.Table(_head(metric), [_cells(row, metric) for row in rows])))
    text = markdown_page(title, parts, [*notes, *CELLS])
    paths = [folder / "tuned.md", folder / "tuned.csv"]
    write_atomically(paths[0], text)
    write_atomically(paths[1], csv_text(compared))
    return paths


def show_tuned(compared: pd.DataFrame, metric: str) -> Table:
    """The finalists by one metric, for a terminal of 80 characters; the rest is in the files."""
    table = terminal_grid()
    style = metric_format(metric)
    table.add_column("configuration", overflow="fold")
    for heading in ("bits", f"{style.label} {style.arrow}".strip(), "difference, 95 %", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in compared[compared["metric"] == metric].to_dict("records"):
        _, bits, mean, difference, ends, *_ = _cells(row, metric)
        verdict = row["verdict"] if row["rank"] else "baseline"
        cells = (row["configuration"], bits, mean, f"{difference} {ends}".strip(), verdict)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _head(metric: str) -> list[str]:
    style = metric_format(metric)
    heading = f"{style.heading} {style.arrow}".strip()
    return ["configuration", "bits/frame", heading, "difference", "95 %", "p (Holm)", "seeds", "n", "verdict", "note"]


def _cells(row: dict[Any, Any], metric: str) -> list[str]:
    """Of _head."""
    decimals = metric_format(metric).decimals + 1

    def show(value: float) -> str:
        return signed(value, decimals)

    name = row["configuration"] if row["rank"] else f"{row['configuration']} (baseline)"
    half = (row["high"] - row["low"]) / 2
    mean = MISSING if math.isnan(row["mean"]) else f"{row['mean']:.{decimals}f}"
    mean += "" if math.isnan(half) else f" ± {half:.{decimals}f}"
    difference = ["", "", ""]
    if row["rank"]:
        difference = [
            MISSING if math.isnan(row["difference"]) else show(row["difference"]),
            interval(row["difference_low"], row["difference_high"], show), probability(row["p_holm"]),
        ]  # fmt: skip
    return [
        name, f"{row['bits_per_frame']:.2f}", mean, *difference, f"{row['seeds']}", f"{row['utterances']:,}",
        row["verdict"], row["note"],
    ]  # fmt: skip


def draw_search(searched: pd.DataFrame, metric: str, folder: Path) -> list[Path]:
    """Draw the objective of each trial in the order of the search into plots/search; paths, none where none is done."""
    try:
        return save(_search_figure(searched, metric), folder / "plots", "search")
    except NothingToDraw:
        return []


@styled
def _search_figure(searched: pd.DataFrame, metric: str) -> Figure:
    done = searched[searched["state"] == "done"]
    if done.empty:
        raise NothingToDraw("no trial is done")
    style = metric_format(metric)
    families = list(dict.fromkeys(searched["family"]))
    found = looks(pd.DataFrame({"system": families, "kind": "codec"}))
    handles = [
        Line2D([], [], color=found[name].color, marker=found[name].marker, linestyle="", label=name)
        for name in families
    ]
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for row in done.to_dict("records"):
        look = found[row["family"]]
        axes.plot(row["number"], row["objective"], look.marker, color=look.color, zorder=3)
        axes.annotate(
            f"{row['channels']}", (row["number"], row["objective"]), xytext=(4, 3), textcoords="offset points",
            fontsize=LABEL_POINTS,
        )  # fmt: skip
    without = searched[searched["state"].isin(["pruned", "failed"])]
    edge = EDGE if style.higher_is_better else 1 - EDGE
    for row in without.to_dict("records"):
        look = found[row["family"]]
        face = "white" if row["state"] == "pruned" else "black"
        axes.plot(
            row["number"], edge, look.marker, color=look.color, markerfacecolor=face, zorder=2, clip_on=False,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
        axes.annotate(
            f"{row['channels']}", (row["number"], edge), xycoords=axes.get_xaxis_transform(), xytext=(4, 3),
            textcoords="offset points", fontsize=LABEL_POINTS,
        )  # fmt: skip
    for state, face in (("pruned", "white"), ("failed", "black")):
        if (without["state"] == state).any():
            handles.append(
                Line2D(
                    [], [], color="#555555", marker="o", markerfacecolor=face, linestyle="", label=f"{state}, no score"
                )
            )
    axes.set(xlabel="trial", ylabel=f"{style.heading} {style.arrow}".strip())
    axes.set_title("The search, with numbers of channels; on the part that it chooses by")
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    columns = legend_columns([str(handle.get_label()) for handle in handles], 7.2)
    add_legend(figure, handles, loc="outside lower center", ncols=columns)
    return figure
