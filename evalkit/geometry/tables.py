"""A survey on the terminal and as CSV files."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalkit.geometry.survey import REFERENCE, Survey
from evalkit.tables.console import terminal_grid
from evalkit.tables.csv_text import csv_text
from q2d2.files import write_atomically

FILES = ("second-moments.csv", "errors.csv", "gains.csv", "codes.csv")
NOTE = (
    "mse: mean squared error of a channel, the square being [-1, 1]^2. norm.: mse 2^(rate - h), the rate being that to "
    "its left in bits a pair, h the source's differential entropy; no quantizer is below 1/(2 pi e) = 0.0585. border: "
    "probability of the codes whose cells lie at the border of the square."
)


def write_tables(measured: Survey, moments: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `FILES` into `folder`, which is made if missing: everything in full, curves included."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in FILES]
    tables = (moments, measured.rows, measured.gaps, measured.codes)
    for path, table in zip(paths, tables, strict=True):
        write_atomically(path, csv_text(table, float_format="%.10g"))
    return paths


def print_tables(measured: Survey, moments: pd.DataFrame, console: Console) -> None:
    """Print the second moments, one table a source of the levels asked for, and the gains at equal rate."""
    console.print(_moments(moments))
    for source in measured.sources:
        console.print()
        console.print(_source(measured, source.name))
    console.print(Text(f"\n{NOTE}\n", style="dim"))
    if len(measured.gaps):
        console.print(_gains(measured.gaps))
        console.print()


def _moments(moments: pd.DataFrame) -> Table:
    table = _table("Normalized second moment, without a border", ["", "channels", "moment", "± error", "gain dB"])
    for row in moments.to_dict("records"):
        channels = "∞" if math.isinf(row["channels"]) else f"{row['channels']:.0f}"
        error = f"{row['standard_error']:.6f}" if row["standard_error"] else "exact"
        table.add_row(row["name"], channels, f"{row['second_moment']:.6f}", error, f"{row['gain_db']:+.3f}")
    return table


def _source(measured: Survey, source: str) -> Table:
    headings = ["", "level", "codes", "bits", "1000 mse", "norm.", "entropy", "norm.", "border %"]
    table = _table(source, headings)
    rows = measured.rows[(measured.rows["source"] == source) & measured.rows["listed"]].to_dict("records")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(
            row["tiling"],
            str(row["level"]),
            str(row["points"]),
            f"{row['bits']:.3f}",
            f"{1000 * row['mse']:.3f}",
            _known(row["normalized_at_bits"]),
            f"{row['entropy']:.3f}",
            _known(row["normalized_at_entropy"]),
            f"{100 * row['border_share']:.2f}",
            end_section=following is not None and following["tiling"] != row["tiling"],
        )
    return table


def _gains(gaps: pd.DataFrame) -> Table:
    names = list(dict.fromkeys(gaps["tiling"]))
    table = _table(f"Less squared error than {REFERENCE} at its own rate, dB", ["", "equal", "rate", *names])
    keys = ["source", "rate", "level"]
    for (source, rate, _), group in gaps.groupby(keys, sort=False):
        gains = group.set_index("tiling")["gain_db"]
        cells = [f"{gains[name]:+.3f}" if math.isfinite(gains[name]) else "" for name in names]
        table.add_row(str(source), str(rate), f"{group['value'].iloc[0]:.3f}", *cells)
    return table


def _known(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""


def _table(title: str, headings: list[str]) -> Table:
    table = terminal_grid(title)
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right" if position else "left", overflow="fold", no_wrap=not position)
    return table
