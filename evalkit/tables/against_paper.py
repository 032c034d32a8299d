"""Our means beside a paper's, and everything that makes the comparison an unequal one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd
from rich.table import Table
from rich.text import Text

from evalkit.papers import Paper
from evalkit.stats.bootstrap import MIN_RESAMPLED
from evalkit.tables import table as tables
from evalkit.tables.cells import MISSING, format_number
from evalkit.tables.console import terminal_grid
from evalkit.tables.markup import PACKAGES, latex_float, latex_tabular, markdown_page, markdown_table
from evalkit.tables.summary import metric_format

COLUMNS = (
    "system", "published_as", "metric", "dataset", "n", "ours", "low", "high", "published", "decimals", "difference",
    "covered", "remarks",
)  # fmt: skip
HEAD = ("System", "Published as", "Metric", "n", "Ours", "95 % interval", "Published", "Difference", "Covered")
RTF = "rtf"
UNEQUAL = "*"
NAME_WIDTH = 22
SHORT = {"Published": "Paper", "Difference": "Diff."}  # headings on the terminal


class Counterpart(NamedTuple):
    """The paper's row that a system is compared with, and what else differs between them, as a clause or nothing."""

    published: str
    differs: str = ""


def compare_with_paper(
    summary: pd.DataFrame,
    paper: Paper,
    counterparts: Mapping[str, Counterpart],
    protocol: str,
    reasons: Mapping[str, str],
) -> pd.DataFrame:
    """One row a system and published metric, in the order of the paper's table.

    Columns: `system`; `published_as`, the paper's name of it; `metric`, `dataset`, `n` utterances; `ours` with its 95 %
    interval `low`, `high`; `published` and with how many `decimals` it is printed; `difference`, ours minus published;
    `covered`: whether the interval, widened by half of the last printed digit, holds the published number (None where
    there is no interval, or one over too few utterances to mean much); `remarks`: what makes the comparison an unequal
    one, or why there is no number. The real-time factor is that of encoding and decoding together; decoded audio has
    none.

    Args:
        summary: from `summarize`.
        paper: the published numbers.
        counterparts: system -> its row in the paper.
        protocol: label of the protocol the summary was scored by.
        reasons: system -> why it could not run.
    """
    order = {name: place for place, name in enumerate(paper.systems)}
    rows = {row["system"]: row for row in summary.to_dict("records")}
    table = []
    for system, counterpart in sorted(counterparts.items(), key=lambda item: order[item[1].published]):
        published = paper.systems[counterpart.published]
        for metric, value in published.values.items():
            if metric == RTF and rows.get(system, {}).get("kind") == "folder":
                continue  # decoded audio has no speed
            half = 0.5 * 10.0 ** -published.decimals[metric]
            found = _ours(rows.get(system, {}), metric)
            covered = None
            if metric != RTF and not math.isnan(found["low"]) and found["n"] >= MIN_RESAMPLED:
                covered = found["low"] - half <= value <= found["high"] + half
            table.append(
                {"system": system, "published_as": published.label, "metric": metric}
                | {"published": value, "decimals": published.decimals[metric]}
                | found
                | {"difference": found["ours"] - value, "covered": covered}
                | {"remarks": _remarks(found, metric, paper, counterpart, protocol, reasons.get(system, ""))}
            )
    return pd.DataFrame(table, columns=list(COLUMNS)).astype({"covered": object})


def _ours(row: Mapping[Any, Any], metric: str) -> dict[str, Any]:
    nothing = {"dataset": row.get("dataset", ""), "n": 0, "ours": math.nan, "low": math.nan, "high": math.nan}
    if metric == RTF:
        return nothing | {"ours": row.get("rtf_encode", math.nan) + row.get("rtf_decode", math.nan)}
    if metric not in row:
        return nothing
    numbers = {"ours": row[metric], "low": row[f"{metric}_low"], "high": row[f"{metric}_high"]}
    return nothing | numbers | {"n": row[f"{metric}_n_ok"]}


def _remarks(
    found: Mapping[str, Any], metric: str, paper: Paper, counterpart: Counterpart, protocol: str, reason: str
) -> str:
    if reason:
        return reason
    if math.isnan(found["ours"]):
        return "not measured here"
    if metric == RTF:
        return "; ".join(part for part in ("other hardware and other formula", counterpart.differs) if part)
    parts = []
    if found["dataset"] != paper.dataset:
        parts.append(f"on {found['dataset']}, not {paper.dataset}")
    elif found["n"] < paper.n:
        parts.append(f"{found['n']:,} of {paper.n:,} utterances")
    if protocol != paper.protocol:
        parts.append(f"protocol {protocol}, not {paper.protocol}")
    return "; ".join([*parts, *([counterpart.differs] if counterpart.differs else [])])


def published_notes(compared: pd.DataFrame, paper: Paper) -> list[str]:
    """What the columns are, what the paper's numbers are, and each remark with the systems it holds for."""
    notes = [
        f"Published: {paper.title} ({paper.source}). " + " ".join(paper.remarks),
        f"{UNEQUAL}: not an equal comparison, for the reasons below.",
        "Covered: whether our 95 % interval, widened by half of the last printed digit, holds the published mean; "
        f"not said of fewer than {MIN_RESAMPLED} utterances.",
    ]
    for remark, rows in compared[compared["remarks"] != ""].groupby("remarks", sort=False):
        who = "; ".join(
            f"{system} ({', '.join(map(_metric_label, of_system['metric']))})"
            for system, of_system in rows.groupby("system", sort=False)
        )
        notes.append(f"{who}: {remark}.")
    return notes


def published_markdown(compared: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """Markdown: one table, the notes as a list."""
    return markdown_page(title, [markdown_table(_table(compared))], notes)


def published_latex(compared: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """LaTeX: one `table*`. Needs the packages in `PACKAGES`, UTF-8."""
    body = latex_tabular(_table(compared))
    return "\n".join([PACKAGES, *latex_float(title, body, notes, title), ""])


def render_published(compared: pd.DataFrame, paper: Paper) -> Table:
    """The comparison on the terminal, at least 80 characters wide, remarks on what has a number below it."""
    table = terminal_grid()
    shown = [position for position, name in enumerate(HEAD) if name != "Published as"]
    for position in shown:
        justify: Literal["left", "right"] = "left" if position < 3 else "right"
        widest = NAME_WIDTH if position == 0 else None
        heading = SHORT.get(HEAD[position], HEAD[position])
        table.add_column(heading, justify=justify, overflow="fold", max_width=widest, no_wrap=position > 0)
    lines = _lines(compared)
    for position, line in enumerate(lines):
        first = position == 0 or lines[position - 1][0] != line[0]
        texts = line if first else ["", *line[1:]]
        last = position + 1 < len(lines) and lines[position + 1][0] != line[0]
        table.add_row(*(Text(texts[column]) for column in shown), end_section=last)
    outer = Table.grid()
    outer.add_row(table)
    outer.add_row("")
    outer.add_row(Text("\n".join(published_notes(compared[compared["ours"].notna()], paper)), style="dim"))
    return outer


def _table(compared: pd.DataFrame) -> tables.Table:
    return tables.Table(HEAD, _lines(compared), 3)


def _lines(compared: pd.DataFrame) -> list[list[str]]:
    return [published_texts(row) for row in compared.to_dict("records")]


def published_texts(row: Mapping[Any, Any]) -> list[str]:
    """A row as printed, in the order of HEAD."""
    decimals = 4 if row["metric"] == RTF else metric_format(row["metric"]).decimals
    ours, low, high, difference = (format_number(row[key], decimals) for key in ("ours", "low", "high", "difference"))
    unequal = bool(row["remarks"]) and not math.isnan(row["ours"])
    covered = {None: "" if unequal else MISSING, True: "yes", False: "no"}[row["covered"]]
    return [
        str(row["system"]),
        str(row["published_as"]),
        _metric_label(row["metric"]),
        f"{row['n']:,}" if row["n"] else MISSING,
        ours,
        MISSING if math.isnan(row["low"]) else f"[{low}, {high}]",
        format_number(row["published"], row["decimals"]),
        f"+{difference}" if row["difference"] > 0 else difference,
        covered + (UNEQUAL if unequal else ""),
    ]


def _metric_label(metric: str) -> str:
    return "RTF" if metric == RTF else metric_format(metric).label
