"""Pieces of a chart as inline SVG: elements, scales, ticks, markers. Colours are classes, which themes can change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from evalkit.figures.axis import Axis
from evalkit.text import shown_value

# Corners on a circle of radius 1; two strokes each for + and x, which are drawn as outlines of crosses.
_CROSS = ((-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35), (0.35, 1), (-0.35, 1),
          (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35))  # fmt: skip


def _polygon(corners: int, start: float) -> tuple[tuple[float, float], ...]:
    angles = [math.radians(start + 360 * corner / corners) for corner in range(corners)]
    return tuple((math.cos(angle), math.sin(angle)) for angle in angles)


def _turned(points: Iterable[tuple[float, float]], degrees: float) -> tuple[tuple[float, float], ...]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return tuple((c * x - s * y, s * x + c * y) for x, y in points)


# By the names that evalkit.figures.looks gives to markers; y points down.
MARKERS = {
    "o": _polygon(24, 0),
    "s": tuple((0.87 * x, 0.87 * y) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))),
    "^": _polygon(3, -90),
    "D": _polygon(4, 0),
    "v": _polygon(3, 90),
    "P": _CROSS,
    "X": _turned(_CROSS, 45),
    "<": _polygon(3, 180),
    ">": _polygon(3, 0),
    "h": _polygon(6, -90),
    "p": _polygon(5, -90),
}


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element; attributes of value None are left out, "class_" is class, "_" in names becomes "-"."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not children:
        return Markup(f"<{name}{written}/>")
    inside = Markup("").join(escape(shown_value(child)) for child in children)
    return Markup(f"<{name}{written}>") + inside + Markup(f"</{name}>")


def _attribute(value: object) -> str:
    return escape(number(value) if isinstance(value, float) else shown_value(value))


def number(value: float) -> str:
    """A coordinate, to a tenth."""
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> Markup:
    return tag("path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", **attributes)


def text(x: float, y: float, content: str, **attributes: object) -> Markup:
    return tag("text", content, x=float(x), y=float(y), **attributes)


def outline(points: Iterable[Sequence[float]], closed: bool = True) -> str:
    """The `d` of a path through `points`, each (x, y)."""
    corners = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return f"M{corners}{'Z' if closed else ''}"


def marker(shape: str, x: float, y: float, size: float = 6.0, **attributes: object) -> Markup:
    """A marker of MARKERS around (x, y); `size` is its radius."""
    return tag("path", d=outline((x + size * dx, y + size * dy) for dx, dy in MARKERS[shape]), **attributes)


@dataclass(frozen=True)
class Scale:
    """From the values of an axis to places in [start, end]."""

    axis: Axis
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + self.axis.share(value) * (self.end - self.start)


def tick_label(value: float) -> str:
    """A tick in few characters; no negative zero."""
    return f"{value + 0.0:,.6g}" if abs(value) > 1e-12 else "0"


def drawing(
    identity: str, width: float, height: float, title: str, description: str, *children: object, tips: bool = False
) -> Markup:
    """The whole `svg` with its title and description.

    One whose parts can take the focus (`tips`) is a group; an image would hide its parts from a screen reader.
    """
    return tag(
        "svg",
        tag("title", title, id=f"{identity}-title"),
        tag("desc", description, id=f"{identity}-desc"),
        *children,
        class_="chart",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=float(width),
        height=float(height),
        role="group" if tips else "img",
        aria_labelledby=f"{identity}-title",
        aria_describedby=f"{identity}-desc",
        data_tips="" if tips else None,
    )


def bottom_axis(scale: Scale, top: float, bottom: float, label: str) -> Markup:
    """Grid lines from `top` to `bottom`, numbers and the label below."""
    parts = []
    for value in scale.axis.ticks():
        x = scale(value)
        parts.append(line(x, top, x, bottom, class_="grid"))
        parts.append(text(x, bottom + 16, tick_label(value), text_anchor="middle", class_="tick"))
    parts.append(text((scale.start + scale.end) / 2, bottom + 34, label, text_anchor="middle"))
    return Markup("").join(parts)


def left_axis(scale: Scale, left: float, right: float, label: str) -> Markup:
    """Grid lines from `left` to `right`, numbers on the left, the label above them."""
    parts = []
    for value in scale.axis.ticks():
        y = scale(value)
        parts.append(line(left, y, right, y, class_="grid"))
        parts.append(text(left - 6, y + 4, tick_label(value), text_anchor="end", class_="tick"))
    parts.append(text(left - 46, min(scale.start, scale.end) - 12, label))
    return Markup("").join(parts)
