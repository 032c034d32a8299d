"""The comparison table of the page: the cells of the printed tables, each with what stands behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalkit.report.charts import interval_text
from evalkit.report.joined import Joined
from evalkit.stats.differences import MARKS
from evalkit.tables.cells import Column, cells, columns, format_number, is_ranked
from evalkit.tables.summary import metric_format
from evalkit.tables.table import Cell
from evalkit.text import first_sentence, isolated

MAX_REASONS = 3
MEANING = {
    "bits_per_frame": "bits per frame, from the sizes of the codebooks",
    "kbps": "bit rate in kbit/s: nominal, or what the packets took where a coder has no codebooks",
    "tokens_per_second": "code indices per second of audio",
    "utilization_percent": "codes used at least once, in percent, mean over quantizers",
    "normalized_entropy": "entropy of the codes in use over the nominal bits",
    "entropy_kbps": "rate with ideal entropy coding, in kbit/s",
    "rtf_encode": "seconds of encoding per second of audio",
    "rtf_decode": "seconds of decoding per second of audio",
    "parameters_millions": "parameters in millions",
}


@dataclass(frozen=True)
class TableCell:
    """A cell as drawn.

    Attributes:
        printed: as in the Markdown.
        value: what is sorted by; empty where there is no number.
        tip: what stands behind it, plain text over some lines.
        verdict: "better", "worse", "higher", "lower" than the baseline, or empty.
    """

    printed: Cell
    value: str
    tip: str
    verdict: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row: the system, whether it competes for the best, its data set, and its cells."""

    system: str
    dataset: str
    ranked: bool
    cells: tuple[TableCell, ...]


@dataclass(frozen=True)
class ComparisonTable:
    """The table: its columns (without the names') and rows."""

    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]


def comparison_table(joined: Joined) -> ComparisonTable:
    """All of `joined.summary`: one row a data set and system."""
    shown = columns(joined.summary)
    reasons = _reasons(joined.utterances)
    speed = dict(zip(joined.systems["system"], joined.systems.get("rtf_detail", []), strict=False))
    rows = []
    records: list[Mapping[Any, Any]] = list(joined.summary.to_dict("records"))
    ranked = is_ranked(joined.summary).to_list()
    for record, line, competes in zip(records, cells(joined.summary, shown), ranked, strict=True):
        made = [
            _metric_cell(record, column, cell, reasons, joined.baseline)
            if column.is_metric
            else _other_cell(record, column, cell, speed.get(record["system"]))
            for column, cell in zip(shown, line, strict=True)
        ]
        rows.append(TableRow(str(record["system"]), str(record["dataset"]), competes, tuple(made)))
    return ComparisonTable(tuple(shown), tuple(rows))


def _metric_cell(
    record: Mapping[Any, Any],
    column: Column,
    cell: Cell,
    reasons: Mapping[tuple[str, str, str], list[str]],
    baseline: str | None,
) -> TableCell:
    key, system = column.key, str(record["system"])
    style = metric_format(key)
    value, num_ok, num_total = record[key], record[f"{key}_n_ok"], record[f"{key}_n_total"]
    lines = [f"{style.heading} of {isolated(system)}"]
    if num_ok:
        interval = interval_text(record[f"{key}_low"], record[f"{key}_high"], column.decimals)
        lines.append(f"mean {format_number(value, column.decimals)}, 95 % interval {interval}")
        lines.append(f"n {num_ok:,} of {num_total:,} utterances scored")
    elif num_total:
        lines.append(f"no number: none of {num_total:,} utterances was scored")
    else:
        lines.append("no number: it was not asked for, or not on this data set or under this protocol")
    verdict = str(record.get(f"{key}_verdict") or "")
    if verdict and baseline is not None:
        lines.append(f"{MARKS[verdict]} {verdict} than {isolated(baseline)}")
    lost = reasons.get((str(record["dataset"]), system, key), [])
    if len(lost) > MAX_REASONS:
        lost = [*lost[:MAX_REASONS], f"and {len(lost) - MAX_REASONS} further reasons"]
    return TableCell(cell, "" if not num_ok else repr(float(value)), "\n".join([*lines, *lost]), verdict)


def _other_cell(record: Mapping[Any, Any], column: Column, cell: Cell, speed: object) -> TableCell:
    lines = [f"{column.heading} of {isolated(str(record['system']))}: {MEANING[column.key]}"]
    missing = math.isnan(record[column.key])
    if missing:
        lines.append(_why_missing(record, column.key))
    elif column.key.startswith("rtf") and isinstance(speed, str) and speed:
        lines.append(f"measured with: {speed}")
    return TableCell(cell, "" if missing else repr(float(record[column.key])), "\n".join(lines))


def _why_missing(record: Mapping[Any, Any], key: str) -> str:
    if record["kind"] == "anchor":
        return "no number: a known answer is no codec"
    if record["kind"] == "folder":
        return "no number: of decoded files neither codes nor speed are known"
    if key.startswith("rtf"):
        return "no number: its speed was not measured"
    if key == "parameters_millions":
        return "no number: it has no parameters, or they are not known"
    return "no number: it has no codebooks, or its codes were not counted"


def _reasons(utterances: pd.DataFrame) -> dict[tuple[str, str, str], list[str]]:
    """(data set, system, metric) -> why scores are missing, most frequent first, with their number."""
    lost = utterances[utterances["status"] != "ok"]
    counted = (
        lost.assign(detail=lost["detail"].fillna("").replace("", "no reason given"))
        .groupby(["dataset", "system", "key", "status", "detail"], sort=False)
        .size()
        .sort_values(ascending=False, kind="stable")
    )
    found: dict[tuple[str, str, str], list[str]] = {}
    for dataset, system, key, status, detail, count in counted.reset_index(name="count").itertuples(index=False):
        found.setdefault((dataset, system, key), []).append(f"{status}, {count:,}: {first_sentence(detail)}")
    return found
