"""What every chart of the page is made of: panels of which one is shown, their data as tables, a legend, looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from markupsafe import Markup

from evalkit.figures.looks import ANCHOR_COLORS, CODEC_COLORS, LINES, looks
from evalkit.report.svg import line, marker
from evalkit.tables.cells import format_number


@dataclass(frozen=True)
class Panel:
    """One drawing, chosen by its label.

    Attributes:
        label: in the selector.
        svg: the drawing.
        head, rows: its data as a table; the first column names the row.
        note: what is to be known of this panel alone; plain text, may be empty.
    """

    label: str
    svg: Markup
    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure of the page.

    Attributes:
        identity: unique within the page.
        title: caption.
        choose: label of the selector of panels.
        explained: how to read it, plain text.
        panels: at least one.
        legend: (sample, text) pairs.
        missing: why there is nothing to draw; then there are no panels.
    """

    identity: str
    title: str
    choose: str = ""
    explained: str = ""
    panels: tuple[Panel, ...] = ()
    legend: tuple[tuple[Markup, str], ...] = field(default=())
    missing: str = ""


@dataclass(frozen=True)
class SystemLook:
    """How a system is drawn in every chart: classes of the style, a marker, dashes; not by colour alone.

    Attributes:
        color: class name, "c0".."c7" for codecs, "g0".."g2" for known answers.
        shape: of svg.MARKERS.
        dashes: class name of the line, "d0".."d8".
    """

    color: str
    shape: str
    dashes: str


def system_looks(systems: pd.DataFrame) -> dict[str, SystemLook]:
    """The looks of the plots (`evalkit.figures.looks.looks`) as classes."""
    found = {}
    for name, look in looks(systems).items():
        codec = look.color in CODEC_COLORS
        color = f"c{CODEC_COLORS.index(look.color)}" if codec else f"g{ANCHOR_COLORS.index(look.color)}"
        found[name] = SystemLook(color, look.marker, f"d{LINES.index(look.line)}")
    return found


def marker_sample(look: SystemLook, hollow: bool = False) -> Markup:
    """A small drawing for a legend; hidden from screen readers, as the text beside it says all."""
    return _sample(marker(look.shape, 9, 9, 6, class_=f"point {look.color}{' hollow' if hollow else ''}"))


def line_sample(look: SystemLook) -> Markup:
    return _sample(line(0, 9, 30, 9, class_=f"line {look.color} {look.dashes}"), 30)


def _sample(content: Markup, width: int = 18) -> Markup:
    return Markup('<svg class="sample" aria-hidden="true" width="{}" height="18" viewBox="0 0 {} 18">{}</svg>').format(
        width, width, content
    )


def number_text(value: object, decimals: int) -> str:
    """A number for a table; "-" where there is none."""
    return format_number(float(value) if isinstance(value, (int, float)) else math.nan, decimals)


def interval_text(low: float, high: float, decimals: int) -> str:
    return "-" if math.isnan(low) else f"[{format_number(low, decimals)}, {format_number(high, decimals)}]"
