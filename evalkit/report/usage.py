"""Which codes a system uses: heat maps on the cells of its tilings, sorted bars for any other family."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from evalkit.figures.cells import bounding_box, clipped_cells
from evalkit.figures.usage import QuantizerUsage, SystemUsage, code_usage
from evalkit.report.charts import Chart, Panel
from evalkit.report.svg import drawing, line, number, outline, tag, text
from evalkit.text import plain

PANEL, GAP, HEAD_ROOM = 222.0, 18.0, 40.0
ACROSS = 3
# Use relative to uniform: ends of the classes h0..h7 of the style.
BINS = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
BIN_TEXTS = ("below 1/8", "1/8 to 1/4", "1/4 to 1/2", "1/2 to 1", "1 to 2", "2 to 4", "4 to 8", "8 and more")
MAX_BARS = 74
BARS_HEIGHT = 150.0
CODES = ("Quantizer", "Code", "Count", "Share %", "Relative to uniform")
RANKS = ("Quantizer", "Ranks", "Share % each", "Relative to uniform")
MAX_TABLE = 1500


def usage_chart(codes: pd.DataFrame, systems: pd.DataFrame) -> Chart:
    """A panel a system whose codes were counted."""
    title = "Use of the codes"
    used = code_usage(codes, systems)
    mapped = any(usage.has_grids for usage in used)
    panels = [(_heat_maps if usage.has_grids else _bars)(f"usage-{number}", usage) for number, usage in enumerate(used)]
    if not panels:
        return Chart(
            "usage",
            title,
            missing="no codes were counted, or not kept here (trials of a sweep keep theirs)",
        )
    explained = (
        "Bars: share of each code or of equally many neighbouring ranks, most frequent first; line: uniform use."
    )
    if mapped:
        explained = (
            "Cells: nearest-point regions of a pair's codes, by how often a code is used; crossed out where never. "
            f"{explained}"
        )
    return Chart("usage", title, "System", explained, tuple(panels), _legend() if mapped else ())


def _legend() -> tuple[tuple[Markup, str], ...]:
    sample = '<svg class="sample" aria-hidden="true" width="18" height="18" viewBox="0 0 18 18">{}</svg>'
    cell = "M1 1L17 1L17 17L1 17Z"
    shades = [
        (Markup(sample).format(tag("path", d=cell, class_=f"cell h{index}")), told)
        for index, told in enumerate(BIN_TEXTS)
    ]
    unused = tag("g", tag("path", d=cell, class_="cell unused"), tag("path", d="M3 3L15 15M15 3L3 15", class_="cross"))
    first = (shades[0][0], f"{shades[0][1]} of uniform use")
    return (first, *shades[1:], (Markup(sample).format(unused), "never used"))


def _place(index: int, height: float) -> tuple[float, float]:
    """Left and top of a panel."""
    return (index % ACROSS) * (PANEL + GAP), HEAD_ROOM + (index // ACROSS) * (height + HEAD_ROOM)


def _size(count: int, height: float) -> tuple[float, float]:
    across = min(count, ACROSS)
    return max(across * (PANEL + GAP), PANEL + 120), -(-count // ACROSS) * (height + HEAD_ROOM) + 6


def _headings(x: float, y: float, first: str, usage: QuantizerUsage) -> list[Markup]:
    return [
        text(x, y - 22, f"{first}: {usage.used:,} of {usage.size:,} used"),
        text(x, y - 7, usage.entropy_text, class_="tick"),
    ]


def _heat_maps(identity: str, usage: SystemUsage) -> Panel:
    grids = [pair.grid.points.astype(np.float64) for pair in usage.quantizers if pair.grid is not None]
    boxes = [bounding_box(points) for points in grids]
    height = PANEL * max((y_high - y_low) / (x_high - x_low) for x_low, x_high, y_low, y_high in boxes)
    parts: list[Markup] = []
    table = []
    for index, (pair, points, box) in enumerate(zip(usage.quantizers, grids, boxes, strict=True)):
        x, y = _place(index, height)
        name = f"pair {index + 1}"
        parts += _headings(x, y, name, pair)
        scale = PANEL / (box[1] - box[0])
        for code, cell in enumerate(clipped_cells(points, box)):
            corners = [(x + (px - box[0]) * scale, y + (box[3] - py) * scale) for px, py in cell]
            share, relative = f"{100 * pair.shares[code]:.3f}", float(pair.relative[code])
            told = f"{name}, code {code}: {share} % of frames, {relative:.2g} x uniform"
            parts.append(_cell(corners, relative, told))
            table.append([name, str(code), f"{pair.counts[code]:,.0f}", share, f"{relative:.2f}"])
    svg = drawing(
        identity,
        *_size(len(grids), height),
        f"Use of the codes of {plain(usage.system)}",
        f"{len(grids)} pairs of channels, one map each. The table below has the counts.",
        *parts,
        tips=True,
    )
    return Panel(plain(usage.system), svg, CODES, table[:MAX_TABLE], _cut(len(table)))


def _cut(rows: int) -> str:
    return (
        f"Table: the first {MAX_TABLE:,} of {rows:,} codes; codes.parquet of the run has all."
        if rows > MAX_TABLE
        else ""
    )


def _cell(corners: Sequence[tuple[float, float]], relative: float, told: str) -> Markup:
    if relative > 0:
        shade = sum(relative >= end for end in BINS)
        return tag("path", d=outline(corners), class_=f"cell h{shade}", data_tip=told)
    middle_x = sum(x for x, _ in corners) / len(corners)
    middle_y = sum(y for _, y in corners) / len(corners)
    arm = 0.3 * min(math.dist((middle_x, middle_y), corner) for corner in corners)
    (left, right), (top, low) = (middle_x - arm, middle_x + arm), (middle_y - arm, middle_y + arm)
    cross = outline([(left, top), (right, low)], closed=False) + outline([(left, low), (right, top)], closed=False)
    return tag(
        "g", tag("path", d=outline(corners), class_="cell unused"), tag("path", d=cross, class_="cross"), data_tip=told
    )


def _bars(identity: str, usage: SystemUsage) -> Panel:
    parts: list[Markup] = []
    table = []
    for index, quantizer in enumerate(usage.quantizers):
        x, y = _place(index, BARS_HEIGHT)
        name = f"quantizer {index + 1}"
        parts += _headings(x, y, name, quantizer)
        share = np.sort(quantizer.shares)[::-1]
        groups = np.array_split(share, min(len(share), MAX_BARS))
        tops = [float(group.mean()) for group in groups]
        highest = max(tops)
        step = PANEL / len(groups)
        bars = "".join(
            f"M{number(x + place * step)} {number(y + BARS_HEIGHT)}v{number(-BARS_HEIGHT * top / highest)}"
            f"h{number(max(0.8 * step, 0.8))}V{number(y + BARS_HEIGHT)}Z"
            for place, top in enumerate(tops)
            if top > 0
        )
        level = y + BARS_HEIGHT * (1 - 1 / len(share) / highest)
        parts.append(tag("path", d=bars, class_="bars"))
        parts.append(line(x, y + BARS_HEIGHT, x + PANEL, y + BARS_HEIGHT, class_="grid"))
        parts.append(line(x, level, x + PANEL, level, class_="uniform"))
        first = 1
        for group, top in zip(groups, tops, strict=True):
            last = first + len(group) - 1
            ranks = str(first) if first == last else f"{first:,} to {last:,}"
            table.append([name, ranks, f"{100 * top:.3f}", f"{top * len(share):.2f}"])
            first = last + 1
    count = len(usage.quantizers)
    svg = drawing(
        identity,
        *_size(count, BARS_HEIGHT),
        f"Use of the codes of {plain(usage.system)}",
        f"{count} quantizers, most frequent code first. The table below has the shares.",
        *parts,
    )
    return Panel(plain(usage.system), svg, RANKS, table[:MAX_TABLE], _cut(len(table)))
