"""What a table prints: its columns, the text of every cell, and which system is best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from evalkit.tables.summary import metric_format

MISSING = "-"
METRICS_PER_BLOCK = 3


class Column(NamedTuple):
    """One printed column of a summary.

    key: the summary's column; a metric also has `key`_low, _high, _n_ok, _n_total.
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


class Cell(NamedTuple):
    """`text` is the number, `detail` the interval and n_ok/n_total of a mean, `best` whether it is printed in bold."""

    text: str
    detail: str = ""
    best: bool = False


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
    """The printed columns of a summary in order: rates, metrics, codes and speed."""
    return [*RATES, *_metric_columns(summary), *CODES_AND_SPEED]


def blocks(summary: pd.DataFrame) -> list[list[Column]]:
    """`columns` in tables narrow enough for a page: rates and the first metrics, further metrics, codes and speed."""
    metrics = _metric_columns(summary)
    parts = [metrics[start : start + METRICS_PER_BLOCK] for start in range(0, len(metrics), METRICS_PER_BLOCK)] or [[]]
    return [[*RATES, *parts[0]], *parts[1:], list(CODES_AND_SPEED)]


def _metric_columns(summary: pd.DataFrame) -> list[Column]:
    found = []
    for name in (key.removesuffix("_n_total") for key in summary.columns if key.endswith("_n_total")):
        style = metric_format(name)
        heading = f"{style.label} ({style.unit})" if style.unit else style.label
        ranked = style.higher_is_better is not None
        found.append(Column(name, heading, style.decimals, style.arrow, ranked, is_metric=True))
    return found


def is_ranked(summary: pd.DataFrame) -> pd.Series:
    """Which rows compete for the best: codecs with a bit rate. Anchors and codecs without codes (null) do not."""
    return (summary["kind"] == "codec") & summary["kbps"].notna()


def identity_columns(summary: pd.DataFrame) -> list[str]:
    """The columns that name a row: the data set only where there are several."""
    return ["dataset", "system"] if summary["dataset"].nunique() > 1 else ["system"]


def format_number(value: float, decimals: int) -> str:
    """`value` with `decimals` decimals, thousands separated, no negative zero; "-" for NaN."""
    if math.isnan(value):
        return MISSING
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def cells(summary: pd.DataFrame, shown: Sequence[Column]) -> list[list[Cell]]:
    """Printed cells, one list a row of `summary`, one cell a column of `shown`.

    The best of a ranked column is taken within each data set and only where at least two ranked systems have a
    number; systems equal to it at the printed precision are all best.
    """
    best = _best_texts(summary, shown)
    ranked = is_ranked(summary).to_list()
    table = []
    for position, row in enumerate(summary.to_dict("records")):
        line = []
        for column in shown:
            text = format_number(row[column.key], column.decimals)
            wins = ranked[position] and text != MISSING and text == best.get((row["dataset"], column.key))
            line.append(Cell(text, _detail(row, column), wins))
        table.append(line)
    return table


def _detail(row: dict[Any, Any], column: Column) -> str:
    if not column.is_metric:
        return ""
    count = f"{row[f'{column.key}_n_ok']:,}/{row[f'{column.key}_n_total']:,}"
    low, high = row[f"{column.key}_low"], row[f"{column.key}_high"]
    if math.isnan(low) or math.isnan(high):
        return count
    return f"[{format_number(low, column.decimals)}, {format_number(high, column.decimals)}] {count}"


def _best_texts(summary: pd.DataFrame, shown: Sequence[Column]) -> dict[tuple[str, str], str]:
    best = {}
    for dataset, rows in summary[is_ranked(summary)].groupby("dataset", sort=False):
        for column in shown:
            values = rows[column.key].dropna()
            if column.ranked and len(values) >= 2:
                value = values.max() if column.better == "↑" else values.min()
                best[str(dataset), column.key] = format_number(value, column.decimals)
    return best
