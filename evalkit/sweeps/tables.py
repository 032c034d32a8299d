"""The tables of a sweep as Markdown and LaTeX: configurations, series against the baseline, trials that failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from evalkit.stats.code_usage import FRAMES_PER_CODE
from evalkit.stats.differences import ALPHA, marked
from evalkit.sweeps.equal_rate import SAME_RATE
from evalkit.tables import MetricFormat, metric_format
from evalkit.tables.cells import METRICS_PER_BLOCK, MISSING, format_number, mark_legend, probability, signed
from evalkit.tables.markup import (
    PACKAGES,
    escape_markdown,
    latex_float,
    latex_tabular,
    markdown_heading,
    markdown_page,
    markdown_table,
)  # fmt: skip
from evalkit.tables.table import Table

ONE_SEED = "*"
HEADINGS = {
    "difference": "difference at equal rate",
    "mean difference": "mean difference over the rates in common",
    "rate difference": "bits more or less at equal quality",
}
RATES = {"nominal": "nominal rates", "entropy": "entropy-coded rates"}


def configurations_markdown(summary: pd.DataFrame, metrics: Sequence[str], title: str, notes: Sequence[str]) -> str:
    """Markdown of `summarize_configurations`: rates and metrics, then codes; `notes` and what the cells mean below."""
    parts = list(map(markdown_table, _configuration_blocks(summary, metrics)))
    return markdown_page(title, parts, [*notes, *configuration_notes(summary, metrics)])


def configurations_latex(summary: pd.DataFrame, metrics: Sequence[str], title: str, notes: Sequence[str]) -> str:
    """The same as LaTeX; needs the packages named in its first line."""
    body: list[str] = []
    for table in _configuration_blocks(summary, metrics):
        body += ["", r"\medskip"] if body else []
        body += latex_tabular(table)
    below = [*notes, *configuration_notes(summary, metrics)]
    return "\n".join([PACKAGES, *latex_float(title, body, below, f"{title} configurations"), ""])


def configuration_notes(summary: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """What the cells of the table of configurations mean, as sentences."""
    notes = [
        "a ± b: mean over seeds and utterances, and half of its 95 % interval over seeds and speakers (utterances "
        "where speakers are few or not known). Intervals of differences are in the table matched: these here overlap "
        "even where a difference is sure, because all configurations share their utterances."
    ]
    if any((summary[f"{metric}_note"] != "").any() for metric in metrics):
        notes.append(f"{ONE_SEED}: over utterances only, as one seed is done: it says nothing of another training.")
    counts = {count for metric in metrics for count in summary[f"{metric}_utterances"] if count}
    if counts:
        over = f"{max(counts):,}" if len(counts) == 1 else f"{max(counts):,} utterances, or a where a cell ends in (a)"
        notes.append(f"Means are over {over}{' utterances' if len(counts) == 1 else ''}, those scored in all seeds.")
    notes.append(
        "bits/frame: nominal, from the sizes of the codebooks. coded: entropy of the codes in use, mean over seeds. "
        "Utilization: share of the codes in use, mean over quantizers and seeds; normalized entropy: coded over "
        f"nominal bits. None of these is given for a codebook that was seen in fewer than {FRAMES_PER_CODE} frames a "
        "code: they would describe the sample."
    )
    notes += dict.fromkeys(style.caveat for style in map(metric_format, metrics) if style.caveat)
    return notes


def matched_markdown(matched: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """Markdown of `compare_series`: under each metric one table a measure, rate and target; reasons and notes below."""
    parts = []
    for metric, of_metric in matched.groupby("metric", sort=False):
        style = metric_format(str(metric))
        parts.append(markdown_heading(f"{style.heading} {style.arrow}".strip(), 3))
        for key, rows in of_metric.groupby(["measure", "rate", "target"], sort=False, dropna=False):
            measure, rate, target = str(key[0]), str(key[1]), float(rows["target"].iloc[0])
            near = "" if math.isnan(target) else f" near {target:g} bits/frame"
            named = f"{HEADINGS[measure]}{near}, {RATES[rate]}"
            parts.append(f"#### {named[0].upper()}{named[1:]}")
            parts += _matched_table(rows, measure, style)
    return markdown_page(title, parts, [*notes, *matched_notes(matched)])


def matched_notes(matched: pd.DataFrame) -> list[str]:
    """How series were compared, as sentences."""
    if matched.empty:
        return ["There is no second series to compare, or no rate is known."]
    baseline = str(matched["baseline"].iloc[0])
    return [
        f"difference: series minus {baseline}, paired over seeds and utterances; 95 % interval and p by jackknife over "
        "both. A series is the configurations of one family with equal channels; along it quality is read off at the "
        "rate nearest to the one in the heading that both series reach (bits/frame). Where they reach none in common, "
        "the nearest configurations are compared and the note says by how much their rates differ.",
        f"{mark_legend(matched['verdict'], baseline)}: p < {ALPHA:g} with Holm's correction over the series of one "
        "table, an interval without 0, at least two seeds, and not by a difference of rates alone. "
        "No mark: no difference was found, which does not mean that there is none.",
        "Entropy-coded rates are those that an ideal entropy coder would need for the codes in use; the rate in a "
        f"heading then stands for the coded rate of the {baseline} configuration that belongs to it.",
        "Rate differences are relative: +10 % needs 10 % more bits for the same quality (Bjontegaard).",
    ]


def failed_markdown(failed: pd.DataFrame, title: str) -> str:
    """Markdown: the trials that failed, each with its reason."""
    keys = ("id", "label", "seed", "host", "reason")
    rows = [[str(row[key]) for key in keys] for row in failed.to_dict("records")]
    return markdown_page(
        title, [markdown_table(Table(["Trial", "Configuration", "Seed", "Host", "Reason"], rows, 5))], []
    )


def interval(low: float, high: float, show: Callable[[float], str]) -> str:
    """Its ends in brackets; "-" where there is none."""
    return MISSING if math.isnan(low) else f"[{show(low)}, {show(high)}]"


def metric_cell(row: dict[Any, Any], metric: str, usual: int) -> str:
    """The mean of a configuration with half of its interval, "*" for one seed, "(n)" for another count than usual."""
    decimals = metric_format(metric).decimals
    if math.isnan(row[metric]):
        return MISSING
    half = (row[f"{metric}_high"] - row[f"{metric}_low"]) / 2
    star = ONE_SEED if "one seed" in row[f"{metric}_note"] else ""
    count = row[f"{metric}_utterances"]
    parts = [format_number(row[metric], decimals)]
    parts.append("" if math.isnan(half) else f"± {format_number(half, decimals)}{star}")
    parts.append("" if count == usual else f"({count:,})")
    return " ".join(filter(None, parts))


def usual_count(summary: pd.DataFrame, metrics: Sequence[str]) -> int:
    """Utterances that the fullest mean is over."""
    return max((int(summary[f"{metric}_utterances"].max()) for metric in metrics), default=0)


def _configuration_blocks(summary: pd.DataFrame, metrics: Sequence[str]) -> list[Table]:
    """The tables: rates, first metrics and status; further metrics; codes."""
    usual = usual_count(summary, metrics)
    records = summary.to_dict("records")
    blocks = []
    parts = [metrics[start : start + METRICS_PER_BLOCK] for start in range(0, len(metrics), METRICS_PER_BLOCK)] or [[]]
    for number, part in enumerate(parts):
        styles = [metric_format(metric) for metric in part]
        head = [f"{style.heading} {style.arrow}".strip() for style in styles]
        rows = [[metric_cell(row, metric, usual) for metric in part] for row in records]
        if number == 0:
            head = ["target", "bits/frame", "coded", *head, "seeds"]
            keys = (("target", 1), ("bits_per_frame", 2), ("entropy_bits_per_frame", 2))
            rows = [
                [*(format_number(row[key], decimals) for key, decimals in keys), *cells, row["status"]]
                for row, cells in zip(records, rows, strict=True)
            ]
        blocks.append((head, rows))
    codes = [
        [
            str(row["family"]),
            format_number(row["channels"], 0),
            format_number(100 * row["utilization"], 1),
            format_number(row["normalized_entropy"], 3),
        ]
        for row in records
    ]
    blocks.append((["family", "channels", "utilization %", "norm. entropy"], codes))
    named = [str(row["configuration"]) for row in records]
    return [
        Table(["Configuration", *head], [[name, *row] for name, row in zip(named, rows, strict=True)])
        for head, rows in blocks
    ]


def _matched_table(rows: pd.DataFrame, measure: str, style: MetricFormat) -> list[str]:
    compared = rows[rows["difference"].notna()].to_dict("records")
    parts = []
    if compared:
        where = {"difference": "bits/frame", "mean difference": "bits/frame", "rate difference": style.label}[measure]
        head = ["Series", where, "difference", "95 % interval", "p", "p (Holm)", "seeds", "n", "verdict", "note"]
        parts.append(markdown_table(Table(head, [_matched_row(row, measure, style) for row in compared])))
    reasons: dict[str, list[str]] = {}
    for row in rows[rows["difference"].isna()].to_dict("records"):
        reasons.setdefault(str(row["note"]), []).append(str(row["series"]))
    if reasons:
        told = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
        parts.append(f"Not compared: {escape_markdown(told)}.")
    return parts


def matched_place(row: Mapping[Any, Any], measure: str, style: MetricFormat) -> tuple[str, Callable[[float], str]]:
    """Where a row of `compare_series` was compared (rates, or a range), and how its difference reads."""

    def show(value: float) -> str:
        if measure == "rate difference":
            return f"{signed(100 * value, 1)} %"
        return signed(value, style.decimals + 1)  # differences are smaller than what they are between

    if measure == "difference":
        where = f"{row['rate_series']:.2f}"
        if abs(row["rate_series"] - row["rate_baseline"]) > SAME_RATE:
            where += f" against {row['rate_baseline']:.2f}"
    else:
        decimals = 2 if measure == "mean difference" else style.decimals + 1
        where = f"{row['range_low']:.{decimals}f} to {row['range_high']:.{decimals}f}"
    return where, show


def _matched_row(row: dict[Any, Any], measure: str, style: MetricFormat) -> list[str]:
    where, show = matched_place(row, measure, style)
    verdict = marked(row["verdict"])
    return [
        str(row["series"]), where, show(row["difference"]), interval(row["low"], row["high"], show),
        probability(row["p"]), probability(row["p_holm"]), f"{row['seeds']}", f"{row['utterances']:,}", verdict,
        str(row["note"]),
    ]  # fmt: skip
