"""What all figures share: the style, the look of each system, saving, and labels that keep clear of one another."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, ParamSpec, TypeVar

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from evalkit.plots.lettering import legible
from q2d2.files import whole

STYLE = Path(__file__).parent.parent / "style.mplstyle"

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
# What codec papers report comes first, on one page.
FIRST_METRICS = ("utmos", "pesq", "stoi", "vuv_f1")
MAX_PANELS = 6
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||", "++++", "oooo")
ANCHOR_COLORS = ("#000000", "#6b6b6b", "#a0a0a0")

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class NothingToDraw(ValueError):
    """A figure's rows are missing; the message says which."""


class Look(NamedTuple):
    """How a system is drawn in every figure; `line` is a matplotlib line style."""

    color: str
    marker: str
    line: LineStyle
    hatch: str


def styled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run `function` under the project's style whatever the user's matplotlib settings; figures come out legible."""

    @functools.wraps(function)
    def inside(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with matplotlib.style.context(["default", str(STYLE)]):
            result = function(*args, **kwargs)
            if isinstance(result, Figure):
                legible(result)
            return result

    return inside


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


@styled
def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.svg and `stem`.png into `folder` (made if missing); equal figures give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}.svg", folder / f"{stem}.png"]
    for path in paths:
        kind = path.suffix[1:]
        with whole(path) as part:
            figure.savefig(part, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return paths


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


def log_axis(
    axes: Axes, which: Literal["x", "y"], low: float, high: float, label: Callable[[float], str] = "{:g}".format
) -> None:
    """Make an axis logarithmic over [low, high], low > 0, with plain numbers that fit beside one another."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    decades = np.log10(high / low)
    steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 1 else (1.0, 2.0, 5.0) if decades < 3 else (1.0,)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axis.set_minor_locator(NullLocator())


def wrap(columns: int, count: int) -> tuple[int, int]:
    """Rows and columns of a grid for `count` panels, at most `columns` wide."""
    width = max(1, min(columns, count))
    return -(-count // width), width


def text_inches(texts: Iterable[str]) -> float:
    """About the width of the longest of `texts` in print, in inches; 0 without any."""
    return 0.08 * max((len(text) for text in texts), default=0)


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of a legend with these labels fit into `width` inches."""
    return max(1, min(len(labels), int(width / (0.7 + text_inches(labels)))))


def pages(metrics: Iterable[str]) -> list[list[str]]:
    """Metric keys in the figures they are drawn in: four that papers report first, then even parts of at most six."""
    order = {name: position for position, name in enumerate(FIRST_METRICS)}
    ordered = sorted(metrics, key=lambda key: order.get(key.partition("@")[0], len(order)))
    first, rest = ordered[: len(order)], ordered[len(order) :]
    count = -(-len(rest) // MAX_PANELS)
    parts = [rest[len(rest) * part // count : len(rest) * (part + 1) // count] for part in range(count)]
    return [first, *parts]


def fold(name: str, length: int) -> str:
    """`name` over as many lines of at most `length` characters as it needs, broken at hyphens where there are any."""
    return textwrap.fill(name, length)


def lighten(color: str, share: float) -> tuple[float, float, float]:
    """`color` mixed with `share` (0..1) of white."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(color)
    return tuple(channel + (1 - channel) * share for channel in (red, green, blue))  # type: ignore[return-value]


def present(names: Sequence[str], systems: pd.DataFrame) -> list[str]:
    """The systems of `systems` that occur in `names`, in the order of the experiment."""
    wanted = set(names)
    return [name for name in systems["system"] if name in wanted]
