"""What a table prints: its columns, the text of every cell, and which system is best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from evalkit.stats.differences import MARKS
from evalkit.tables.summary import metric_format
from evalkit.tables.table import Cell

MISSING = "-"
METRICS_PER_BLOCK = 3


class Column(NamedTuple):
    """One printed column of a summary.

    key: the summary's column; a metric also has `key`_low, _high, _n_ok, _n_total, _n_unavailable, maybe _verdict.
    heading: text without the arrow.
    better: "↑", "↓", or "" where neither direction is better.
    ranked: whether the best system is printed in bold. Not for speed: between bottlenecks of one backbone the
        differences are those of timing.
    """

    key: str
    heading: str
    decimals: int
    better: str = ""
    ranked: bool = False
    is_metric: bool = False


RATES = (
    Column("bits_per_frame", "bits/frame", 2),
    Column("kbps", "kbit/s", 3),
    Column("tokens_per_second", "tokens/s", 1),
)
CODES_AND_SPEED = (
    Column("utilization_percent", "utilization %", 1, "↑", ranked=True),
    Column("normalized_entropy", "norm. entropy", 3, "↑", ranked=True),
    Column("entropy_kbps", "coded kbit/s", 3),
    Column("rtf_encode", "RTF encode", 4, "↓"),
    Column("rtf_decode", "RTF decode", 4, "↓"),
    Column("parameters_millions", "params (M)", 2),
)


def columns(summary: pd.DataFrame) -> list[Column]:
    """The printed columns of a summary in order: rates, metrics, codes and speed; those without any number left out.

    A metric without any number stays: that it failed or was unavailable is a result.
    """
    return [*_filled(summary, RATES), *_metric_columns(summary), *_filled(summary, CODES_AND_SPEED)]


def blocks(summary: pd.DataFrame) -> list[list[Column]]:
    """`columns` in tables narrow enough for a page: rates and the first metrics, further metrics, codes and speed."""
    metrics = _metric_columns(summary)
    parts = [metrics[start : start + METRICS_PER_BLOCK] for start in range(0, len(metrics), METRICS_PER_BLOCK)] or [[]]
    found = [[*_filled(summary, RATES), *parts[0]], *parts[1:], _filled(summary, CODES_AND_SPEED)]
    return [block for block in found if block] or [[]]


def metric_names(summary: pd.DataFrame) -> list[str]:
    """The keys of a summary's metrics, in order."""
    return [key.removesuffix("_n_total") for key in summary.columns if key.endswith("_n_total")]


def _filled(summary: pd.DataFrame, candidates: Sequence[Column]) -> list[Column]:
    return [column for column in candidates if summary[column.key].notna().any()]


def _metric_columns(summary: pd.DataFrame) -> list[Column]:
    found = []
    for name in metric_names(summary):
        style = metric_format(name)
        ranked = style.higher_is_better is not None
        found.append(Column(name, style.heading, style.decimals, style.arrow, ranked, is_metric=True))
    return found


def is_ranked(summary: pd.DataFrame) -> pd.Series:
    """Which rows compete for the best: codecs with a bit rate, and folders of decoded audio, whose rate is not known.

    Anchors and codecs without codes (unquantized) do not.
    """
    return ((summary["kind"] == "codec") & summary["kbps"].notna()) | (summary["kind"] == "folder")


def identity_columns(summary: pd.DataFrame) -> list[str]:
    """The columns that name a row: the data set only where there are several."""
    return ["dataset", "system"] if summary["dataset"].nunique() > 1 else ["system"]


def usual_counts(summary: pd.DataFrame) -> dict[str, int]:
    """Data set -> the number of utterances that most of its means are over: said once, and not in these cells."""
    usual = {}
    for dataset, rows in summary.groupby("dataset", sort=False):
        totals = [int(total) for name in metric_names(summary) for total in rows[f"{name}_n_total"] if total]
        if totals:
            usual[str(dataset)] = max(totals, key=lambda total: (totals.count(total), total))
    return usual


def mark_legend(verdicts: Iterable[str], baseline: str, trained_once: bool = False) -> str:
    """What the marks mean, such as "▲ better, ▼ worse than fsq"; "higher" and "lower" only where they occur.

    `trained_once`: it says so, as another seed may come out otherwise.
    """
    verdicts = set(verdicts)
    shown = ["better", "worse", *(verdict for verdict in ("higher", "lower") if verdict in verdicts)]
    return f"{', '.join(f'{MARKS[verdict]} {verdict}' for verdict in shown)} than {baseline}" + (
        " (one training each)" if trained_once else ""
    )


def format_number(value: float, decimals: int) -> str:
    """`value` with `decimals` decimals, thousands separated, no negative zero; "-" for NaN."""
    if math.isnan(value):
        return MISSING
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def signed(value: float, decimals: int) -> str:
    """A difference with its sign; "-" for NaN."""
    text = format_number(value, decimals)
    return f"+{text}" if value > 0 and float(text.replace(",", "")) != 0 else text


def probability(p: float) -> str:
    """p with three decimals; "-" for NaN."""
    return MISSING if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def cells(summary: pd.DataFrame, shown: Sequence[Column]) -> list[list[Cell]]:
    """Printed cells, one list a row of `summary`, one cell a column of `shown`.

    The best of a ranked column is taken within each data set and only where at least two ranked systems have a
    number; systems equal to it at the printed precision are all best.
    """
    best = _best_texts(summary, shown)
    usual = usual_counts(summary)
    ranked = is_ranked(summary).to_list()
    table = []
    for position, row in enumerate(summary.to_dict("records")):
        line = []
        for column in shown:
            cell = _score(row, column, usual) if column.is_metric else Cell(_number(row, column))
            wins = ranked[position] and _number(row, column) == best.get((row["dataset"], column.key))
            line.append(cell._replace(best=wins))
        table.append(line)
    return table


def _number(row: dict[Any, Any], column: Column) -> str:
    value = row[column.key]
    least = 10.0**-column.decimals
    if column.key.startswith("rtf") and 0 < value < least / 2:  # no computation takes no time
        return f"<{least:.{column.decimals}f}"
    return format_number(value, column.decimals)


def _score(row: dict[Any, Any], column: Column, usual: dict[str, int]) -> Cell:
    """A mean with what belongs to it, or why there is none."""
    key = column.key
    num_ok, num_total, num_unavailable = (row[f"{key}_{name}"] for name in ("n_ok", "n_total", "n_unavailable"))
    if not num_ok:
        if not num_total:
            return Cell(MISSING)
        if num_unavailable == num_total:
            return Cell("unavailable")
        return Cell(f"failed {num_total:,}" if not num_unavailable else f"0/{num_total:,}")
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    spread = "" if math.isnan(low) else f"± {format_number((high - low) / 2, column.decimals)}"
    told = num_ok == num_total == usual.get(str(row["dataset"]))
    scored = "" if told else f"{num_ok:,}/{num_total:,}"
    return Cell(_number(row, column), spread, MARKS.get(row.get(f"{key}_verdict", ""), ""), scored)


def _best_texts(summary: pd.DataFrame, shown: Sequence[Column]) -> dict[tuple[str, str], str]:
    best = {}
    for dataset, rows in summary[is_ranked(summary)].groupby("dataset", sort=False):
        for column in shown:
            values = rows[column.key].dropna()
            if column.ranked and len(values) >= 2:
                value = values.max() if column.better == "↑" else values.min()
                best[str(dataset), column.key] = format_number(value, column.decimals)
    return best
