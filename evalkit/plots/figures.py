"""What all figures of matplotlib share: the style, saving, axes, grids of panels."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from evalkit.figures.axis import Axis
from evalkit.plots.lettering import legible
from q2d2.files import whole

STYLE = Path(__file__).parent.parent / "style.mplstyle"

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


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


def set_axis(axes: Axes, which: Literal["x", "y"], axis: Axis, label: Callable[[float], str] = "{:g}".format) -> None:
    """Set the limits of one side of `axes`; where it is logarithmic its ticks are plain numbers that fit."""
    axes.set(**{f"{which}lim": (axis.low, axis.high)})
    if axis.logarithmic:
        side = axes.xaxis if which == "x" else axes.yaxis
        axes.set(**{f"{which}scale": "log", f"{which}lim": (axis.low, axis.high)})
        side.set_major_locator(FixedLocator(axis.ticks()))
        side.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
        side.set_minor_locator(NullLocator())


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


def fold(name: str, length: int) -> str:
    """`name` over as many lines of at most `length` characters as it needs, broken at hyphens where there are any."""
    return textwrap.fill(name, length)


def lighten(color: str, share: float) -> tuple[float, float, float]:
    """`color` mixed with `share` (0..1) of white."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(color)
    return tuple(channel + (1 - channel) * share for channel in (red, green, blue))  # type: ignore[return-value]
