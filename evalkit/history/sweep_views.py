"""What the pages say of sweeps: configurations, and verdicts on claims where there are any."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from evalkit.history.boards import format_p, signed_number
from evalkit.history.migrations import HistoryError
from evalkit.history.publication import Publication
from evalkit.tables import metric_format
from evalkit.tables.cells import MISSING, format_number

# Column of the table -> heading, decimals, factor.
NUMBERS = {
    "bits_per_frame": ("bits/frame", 2, 1.0),
    "entropy_bits_per_frame": ("coded", 2, 1.0),
    "utilization": ("utilization %", 1, 100.0),
    "normalized_entropy": ("norm. entropy", 3, 1.0),
}


class SweepColumn(NamedTuple):
    """Of a table of a sweep: its heading, and whether numbers stand under it."""

    text: str
    is_number: bool = False


CLAIMS = (
    SweepColumn("Claim"), SweepColumn("Comparison"), SweepColumn("Metric"), SweepColumn("Difference", True),
    SweepColumn("95 % interval", True), SweepColumn("Corrected p", True), SweepColumn("Verdict"),
    SweepColumn("Claim as a whole"), SweepColumn("Note"),
)  # fmt: skip
CLAIMS_LEGEND = (
    "Difference: the first minus the second (use of codes: minus the threshold), with its interval over seeds and "
    "speakers (utterances where speakers are few or not known). Corrected p: by Holm over all comparisons here."
)
CONFIGURATIONS_LEGEND = (
    "a ± b: mean over seeds and utterances, and half the width of its 95 % interval over seeds and speakers "
    "(utterances where speakers are few or not known). coded: entropy of the codes in use, bits per frame; no use of "
    "codes is told of a codebook that was seen too seldom for it."
)


class SweepCell(NamedTuple):
    """A text, and the number it is sorted by, if it is one."""

    text: str
    value: float | None = None


class SweepTable(NamedTuple):
    """A table of a sweep's page; `id` is that of its element."""

    id: str
    title: str
    legend: str
    columns: tuple[SweepColumn, ...]
    lines: tuple[tuple[SweepCell, ...], ...]


class SweepContent(NamedTuple):
    """What a sweep's report says, as far as it had been written when the sweep was published.

    Attributes:
        tables: claims and configurations.
        num_configurations: None where they were not written.
        verdicts: (claim, verdict) of each claim.
    """

    tables: tuple[SweepTable, ...]
    num_configurations: int | None
    verdicts: tuple[tuple[str, str], ...]


def read_sweep(publication: Publication) -> SweepContent:
    """Read the tables of a published sweep.

    Raises:
        HistoryError: a file of them cannot be read.
    """
    claims = _read_table(publication.folder, "claims")
    configurations = _read_table(publication.folder, "configurations")
    tables, told = [], {}
    if claims is not None:
        lines = tuple(_claim(row) for row in claims.to_dict("records"))
        tables.append(SweepTable("claims", "Claims", CLAIMS_LEGEND, CLAIMS, lines))
        told = dict(zip(claims["claim"], claims["claim_verdict"], strict=True))
    if configurations is not None:
        tables.append(_configurations(configurations))
    return SweepContent(
        tuple(tables),
        None if configurations is None else len(configurations),
        tuple((str(claim), str(verdict)) for claim, verdict in told.items()),
    )


def _read_table(folder: Path, name: str) -> pd.DataFrame | None:
    """A table of a sweep, published (Parquet) or still in the folder of the sweep (CSV); None where there is none."""
    published, own = folder / f"{name}.parquet", folder / "tables" / f"{name}.csv"
    path = published if published.is_file() else own
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path) if path == published else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise HistoryError(f"{path} is damaged: {' '.join(str(error).split())}") from error


def _claim(row: dict[Any, Any]) -> tuple[SweepCell, ...]:
    style = metric_format(row["metric"])
    decimals = style.decimals + 1
    difference, low, high, p_holm = (float(row[key]) for key in ("difference", "low", "high", "p_holm"))
    ends = [signed_number(end, decimals) for end in (low, high)]
    return (
        SweepCell(_text(row["claim"])),
        SweepCell(_text(row["comparison"])),
        SweepCell(style.label),
        SweepCell(MISSING) if math.isnan(difference) else SweepCell(signed_number(difference, decimals), difference),
        SweepCell(MISSING) if math.isnan(low) else SweepCell(f"[{ends[0]}, {ends[1]}]", low),
        SweepCell(MISSING) if math.isnan(p_holm) else SweepCell(format_p(p_holm), p_holm),
        SweepCell(_text(row["verdict"])),
        SweepCell(_text(row["claim_verdict"])),
        SweepCell(_text(row["note"])),
    )


def _configurations(frame: pd.DataFrame) -> SweepTable:
    metrics = [key.removesuffix("_low") for key in frame.columns if key.endswith("_low")]
    styles = {metric: metric_format(metric) for metric in metrics}
    numbers = [key for key in NUMBERS if key in frame and frame[key].notna().any()]
    lines = []
    for row in frame.to_dict("records"):
        cells = [SweepCell(_text(row["configuration"]))]
        for key in numbers:
            _, decimals, factor = NUMBERS[key]
            cells.append(_number(row[key] * factor, decimals))
        for metric, style in styles.items():
            mean, low, high = (row[f"{metric}{end}"] for end in ("", "_low", "_high"))
            cell = _number(mean, style.decimals)
            if cell.value is not None and low == low:
                cell = cell._replace(text=f"{cell.text} ± {format_number((high - low) / 2, style.decimals)}")
            cells.append(cell)
        lines.append((*cells, SweepCell(_text(row["status"]))))
    heads = [f"{style.heading} {style.arrow}".strip() for style in styles.values()]
    shown = [SweepColumn(text, True) for text in (*(NUMBERS[key][0] for key in numbers), *heads)]
    columns = (SweepColumn("Configuration"), *shown, SweepColumn("Seeds"))
    return SweepTable("configurations", "Configurations", CONFIGURATIONS_LEGEND, columns, tuple(lines))


def _number(value: float, decimals: int) -> SweepCell:
    return SweepCell(MISSING) if math.isnan(value) else SweepCell(format_number(value, decimals), value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
