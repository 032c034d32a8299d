"""How a system looks in every figure: colour, marker, line, hatch; and which metrics share a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evalkit.metrics import headline_metrics

# Lightness L* 18, 71, 54, 27, 80, 36, 63, 45: neighbours differ most, and no two are alike in grey.
CODEC_COLORS = ("#0c207b", "#2fb9f8", "#1b9365", "#820b19", "#f5bf1f", "#135794", "#ce79c6", "#d31808")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "p")
LineStyle = Literal["-"] | tuple[float, tuple[float, ...]]
LINES: tuple[LineStyle, ...] = (
    "-",
    (0, (6, 2)),
    (0, (1, 1)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1)),
    (0, (6, 2, 1, 1, 1, 2)),
    (0, (10, 2)),
    (0, (1, 3)),
    (0, (3, 1, 1, 1)),
)
MAX_PANELS = 6
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||", "++++", "oooo")
ANCHOR_COLORS = ("#000000", "#6b6b6b", "#a0a0a0")


class NothingToDraw(ValueError):
    """A figure's rows are missing; the message says which."""


class Look(NamedTuple):
    """How a system is drawn in every figure; `line` is a matplotlib line style."""

    color: str
    marker: str
    line: LineStyle
    hatch: str


def looks(systems: pd.DataFrame) -> dict[str, Look]:
    """The look of each system: greys for anchors, colours for codecs, in the order of `systems` (system, kind).

    With a column `family`, a colour is that of a family, whose members differ by marker and line.
    """
    found = {}
    codecs = anchors = 0
    named = systems["family"] if "family" in systems else systems["system"]
    families = list(dict.fromkeys(named[systems["kind"] != "anchor"]))
    of_system = dict(zip(systems["system"], named, strict=True))
    for position, (name, kind) in enumerate(zip(systems["system"], systems["kind"], strict=True)):
        if kind == "anchor":
            color = ANCHOR_COLORS[anchors % len(ANCHOR_COLORS)]
            anchors += 1
            look = Look(color, MARKERS[-(anchors % len(MARKERS))], LINES[position % len(LINES)], "")
        else:
            color = CODEC_COLORS[families.index(of_system[name]) % len(CODEC_COLORS)]
            marker, line = MARKERS[codecs % len(MARKERS)], LINES[codecs % len(LINES)]
            look = Look(color, marker, line, HATCHES[codecs % len(HATCHES)])
            codecs += 1
        found[name] = look
    return found


def present(names: Sequence[str], systems: pd.DataFrame) -> list[str]:
    """The systems of `systems` that occur in `names`, in the order of the experiment."""
    wanted = set(names)
    return [name for name in systems["system"] if name in wanted]


def spread(positions: ArrayLike, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Move `positions` (n,) as little as needed to be at least `gap` apart and within [low, high].

    Order is kept. Where n labels do not fit, they are spaced evenly over [low, high].
    """
    wanted = np.asarray(positions, dtype=np.float64)
    count = len(wanted)
    if count == 0:
        return wanted
    order = np.argsort(wanted, kind="stable")
    if (count - 1) * gap >= high - low:
        placed = np.linspace(low, high, count)
    else:
        placed = np.clip(wanted[order], low, high)
        for index in range(1, count):
            placed[index] = max(placed[index], placed[index - 1] + gap)
        placed[-1] = min(placed[-1], high)
        for index in range(count - 2, -1, -1):
            placed[index] = min(placed[index], placed[index + 1] - gap)
    result = np.empty(count)
    result[order] = placed
    return result


def pages(metrics: Iterable[str]) -> list[list[str]]:
    """Metric keys in the figures they are drawn in: four that papers report first, then even parts of at most six."""
    order = {name: position for position, name in enumerate(headline_metrics())}
    ordered = sorted(metrics, key=lambda key: order.get(key.partition("@")[0], len(order)))
    first, rest = ordered[: len(order)], ordered[len(order) :]
    count = -(-len(rest) // MAX_PANELS)
    parts = [rest[len(rest) * part // count : len(rest) * (part + 1) // count] for part in range(count)]
    return [first, *parts]
