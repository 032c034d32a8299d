"""What a sweep's report found, read back from its folder for pages: claims, configurations, differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from evalkit.run.frames import read_parquet
from evalkit.stats.differences import marked
from evalkit.sweeps import SweepError
from evalkit.sweeps.tables import (
    configuration_notes,
    configurations_latex,
    configurations_markdown,
    interval,
    matched_markdown,
    matched_notes,
    matched_place,
    metric_cell,
    usual_count,
)
from evalkit.tables import metric_format
from evalkit.tables.cells import MISSING, format_number, probability, signed
from evalkit.tables.csv_text import csv_text, read_csv

TABLES = ("configurations", "matched", "claims")
WHAT = {"mean difference": "mean along the rates", "rate difference": "bits at equal quality"}
CLAIMS_NOTE = (
    "Difference: the first minus the second (use of codes: minus the threshold), with its interval over seeds and "
    "speakers (utterances where speakers are few or not known). p: corrected by Holm over all comparisons here."
)


class WrittenColumn(NamedTuple):
    """A heading, and whether numbers stand under it."""

    text: str
    is_number: bool = False


class WrittenCell(NamedTuple):
    """A text, and the number it is sorted by, if it is one."""

    text: str
    value: float | None = None


class WrittenTable(NamedTuple):
    """A table of a sweep.

    Attributes:
        identity: "claims", "configurations" or "matched".
        title: above it.
        notes: how to read it, as sentences.
        columns, lines: of as many cells as columns; the first names the line.
        texts: makes format -> the whole table as text, for copying.
    """

    identity: str
    title: str
    notes: tuple[str, ...]
    columns: tuple[WrittenColumn, ...]
    lines: tuple[tuple[WrittenCell, ...], ...]
    texts: Callable[[], dict[str, str]]


class WrittenSweep(NamedTuple):
    """What a sweep's report found, as far as it was written.

    Attributes:
        tables: claims, configurations, differences at equal rate; those there are.
        verdicts: (claim, verdict) of each claim.
        configurations: rows of `summarize_configurations`; None where they were not written.
    """

    tables: tuple[WrittenTable, ...]
    verdicts: tuple[tuple[str, str], ...]
    configurations: pd.DataFrame | None


def read_written(folder: Path, title: str) -> WrittenSweep:
    """Read the tables of a sweep from its folder or from a publication of it.

    Args:
        folder: of the sweep.
        title: of the sweep, for the texts to copy.

    Raises:
        SweepError: a file of them cannot be read.
    """
    configurations, matched, claims = (read_table(folder, name) for name in TABLES)
    tables: list[WrittenTable] = []
    try:
        if claims is not None:
            tables.append(_claims(claims))
        if configurations is not None:
            tables.append(_configurations(configurations, title))
        if matched is not None and len(matched):
            tables.append(_matched(matched, title))
        told = {} if claims is None else dict(zip(claims["claim"], claims["claim_verdict"], strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise SweepError(f"{folder}: the tables of the sweep are not those of this version: {error!r}") from error
    verdicts = tuple((str(claim), str(verdict)) for claim, verdict in told.items())
    return WrittenSweep(tuple(tables), verdicts, configurations)


def read_table(folder: Path, name: str) -> pd.DataFrame | None:
    """One of TABLES, published (Parquet) or still in the folder of the sweep (CSV); None where there is none.

    Raises:
        SweepError: it cannot be read.
    """
    published, own = folder / f"{name}.parquet", folder / "tables" / f"{name}.csv"
    path = published if published.is_file() else own
    if not path.is_file():
        return None
    try:
        frame = read_parquet(path) if path == published else read_csv(path)
    except (OSError, ValueError) as error:
        raise SweepError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    texts = [key for key in map(str, frame) if key in ("verdict", "note", "status") or key.endswith("_note")]
    return frame.assign(**{key: frame[key].astype(object).where(frame[key].notna(), "") for key in texts})


def configuration_metrics(configurations: pd.DataFrame) -> list[str]:
    """The keys of the metrics that a table of configurations has."""
    return [key.removesuffix("_low") for key in configurations.columns if key.endswith("_low")]


def _claims(claims: pd.DataFrame) -> WrittenTable:
    columns = (
        WrittenColumn("Claim"), WrittenColumn("Comparison"), WrittenColumn("Metric"), WrittenColumn("Difference", True),
        WrittenColumn("95 % interval", True), WrittenColumn("p (Holm)", True), WrittenColumn("Verdict"),
        WrittenColumn("Claim as a whole"), WrittenColumn("Note"),
    )  # fmt: skip
    lines = []
    for row in claims.to_dict("records"):
        style = metric_format(row["metric"])
        lines.append((
            WrittenCell(str(row["claim"])),
            WrittenCell(str(row["comparison"])),
            WrittenCell(style.label),
            *_difference(row, partial(signed, decimals=style.decimals + 1)),
            WrittenCell(row["verdict"]),
            WrittenCell(str(row["claim_verdict"])),
            WrittenCell(row["note"]),
        ))  # fmt: skip
    return WrittenTable("claims", "Claims", (CLAIMS_NOTE,), columns, tuple(lines), lambda: {"CSV": csv_text(claims)})


def _configurations(configurations: pd.DataFrame, title: str) -> WrittenTable:
    metrics = configuration_metrics(configurations)
    rates = {"bits_per_frame": ("bits/frame", 2, 1), "entropy_bits_per_frame": ("coded", 2, 1)}
    codes = {"utilization": ("utilization %", 1, 100), "normalized_entropy": ("norm. entropy", 3, 1)}
    heads = [f"{style.heading} {style.arrow}".strip() for style in map(metric_format, metrics)]
    numbers = [*(head for head, _, _ in rates.values()), *heads, *(head for head, _, _ in codes.values())]
    usual = usual_count(configurations, metrics)

    def number(row: dict[Any, Any], key: str, decimals: int, factor: int) -> WrittenCell:
        return _number(factor * row[key], format_number(factor * row[key], decimals))

    lines = [
        (
            WrittenCell(str(row["configuration"])),
            *(number(row, key, decimals, factor) for key, (_, decimals, factor) in rates.items()),
            *(_number(row[metric], metric_cell(row, metric, usual)) for metric in metrics),
            *(number(row, key, decimals, factor) for key, (_, decimals, factor) in codes.items()),
            WrittenCell(row["status"]),
        )
        for row in configurations.to_dict("records")
    ]
    columns = (WrittenColumn("Configuration"), *(WrittenColumn(head, True) for head in numbers), WrittenColumn("Seeds"))

    def texts() -> dict[str, str]:
        return {
            "Markdown": configurations_markdown(configurations, metrics, title, []),
            "LaTeX": configurations_latex(configurations, metrics, title, []),
            "CSV": csv_text(configurations),
        }

    notes = tuple(configuration_notes(configurations, metrics))
    return WrittenTable("configurations", "Configurations", notes, columns, tuple(lines), texts)


def _matched(matched: pd.DataFrame, title: str) -> WrittenTable:
    columns = (
        WrittenColumn("Series"), WrittenColumn("Metric"), WrittenColumn("Compared"), WrittenColumn("Rates"),
        WrittenColumn("At"), WrittenColumn("Difference", True), WrittenColumn("95 % interval", True),
        WrittenColumn("p (Holm)", True), WrittenColumn("Verdict"), WrittenColumn("Note"),
    )  # fmt: skip
    lines = []
    # Of curves only what could be compared: with one rate a series, nothing can, and every line would say so.
    told = matched[matched["difference"].notna() | (matched["measure"] == "difference")]
    for row in told.to_dict("records"):
        style = metric_format(row["metric"])
        where, show = matched_place(row, row["measure"], style)
        lines.append((
            WrittenCell(str(row["series"])),
            WrittenCell(style.label),
            WrittenCell(WHAT.get(row["measure"], f"near {row['target']:g} bits/frame")),
            WrittenCell("entropy-coded" if row["rate"] == "entropy" else "nominal"),
            WrittenCell(where if row["difference"] == row["difference"] else ""),
            *_difference(row, show),
            WrittenCell(marked(row["verdict"])),
            WrittenCell(row["note"]),
        ))  # fmt: skip
    heading = f"At equal rate, against {matched['baseline'].iloc[0]}"

    def texts() -> dict[str, str]:
        return {"Markdown": matched_markdown(matched, f"{title}: at equal rate", []), "CSV": csv_text(matched)}

    notes = matched_notes(matched)
    if left_out := len(matched) - len(told):
        notes.append(
            f"{left_out:,} comparisons of curves that were not possible are left out; the CSV has the reasons."
        )
    return WrittenTable("matched", heading, tuple(notes), columns, tuple(lines), texts)


def _difference(row: dict[Any, Any], show: Callable[[float], str]) -> tuple[WrittenCell, WrittenCell, WrittenCell]:
    difference, low, high, p = (float(row[key]) for key in ("difference", "low", "high", "p_holm"))
    told = MISSING if math.isnan(difference) else show(difference)
    return _number(difference, told), _number(low, interval(low, high, show)), _number(p, probability(p))


def _number(value: float, text: str) -> WrittenCell:
    return WrittenCell(text, None if math.isnan(value) else value)
