"""A timeline as inline SVG: means with interval bars, marks where something changed, gaps where nothing compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from evalkit.history.boards import number_cell, number_format
from evalkit.history.timeline import Timeline, TimePoint
from evalkit.stats.differences import MARKS
from evalkit.tables.cells import format_number, probability, signed
from evalkit.text import shown

WIDTH, HEIGHT = 440, 190
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 18, 30
TICKS = 4
MAX_BARS = 80  # more intervals than that would be a wall: they become a band


def timeline_chart(timeline: Timeline, positions: Sequence[int], labels: Sequence[str]) -> Markup:
    """Draw a timeline.

    Args:
        timeline: with at least one number.
        positions: of all publications on the horizontal axis, at least two, oldest first; shared by a system's charts.
        labels: what is said of each of these, such as its date and version.
    """
    style = number_format(timeline.metric)
    numbers = [point for segment in timeline.segments() for point in segment]
    low, high, ticks = _axis([value for point in numbers for value in _ends(point)])
    slot = (WIDTH - LEFT - RIGHT) / len(positions)
    across = {position: LEFT + (index + 0.5) * slot for index, position in enumerate(positions)}
    names = dict(zip(positions, labels, strict=True))

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    parts = [
        f'<path class="grid" d="M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{up(tick) + 4:.1f}">{format_number(tick, decimals)}</text>'
        for tick in ticks
    ]
    parts += _dates(labels)
    for number, segment in enumerate(timeline.segments()):
        parts += _segment(segment, across, up, len(numbers) <= MAX_BARS)
        if number:
            told = escape(shown(f"Not comparable with what was before: {segment[0].broken}"))
            x = across[segment[0].position] - slot / 2
            line = f'<path class="break" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
            parts.append(f'<g role="img" aria-label="{told}" data-tip="{told}">{line}</g>')
    radius = 3.5 if len(numbers) <= MAX_BARS else 2.0
    parts += [_point(point, across[point.position], up, radius, names[point.position]) for point in numbers]
    described = escape(shown(f"{style.heading} over {len(positions)} versions. {_description(timeline, numbers)}"))
    # Texts are escaped where they are put in; everything else here is ours.
    return Markup(
        f'<svg class="timeline" role="group" data-tips viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{described}">'
        f"{''.join(parts)}</svg>"
    )


def change_text(point: TimePoint) -> str:
    """What is known of a point against its predecessor, in words."""
    change = point.change
    if change is None:
        return point.broken and f"not comparable with the one before: {point.broken}"
    style = number_format(point.row["metric"])
    if math.isnan(change["difference"]):
        return "no utterance was scored both times"
    decimals = style.decimals + 1
    number = signed(change["difference"], decimals)
    ends = "" if math.isnan(change["low"]) else " [{}, {}]".format(
        *(signed(change[end], decimals) for end in ("low", "high"))
    )  # fmt: skip
    verdict = change["verdict"] or ("equal" if is_equal(change) else "no difference found")
    p_holm = "" if math.isnan(change["p_holm"]) else f", corrected p {probability(change['p_holm'])}"
    return f"{verdict}: {number}{ends}, n {change['n']:,}{p_holm}"


def is_equal(change: Mapping[Any, Any]) -> bool:
    """Whether every utterance got the same score both times."""
    return bool(change["difference"] == 0 and change["low"] == 0 == change["high"])


def mark_of(point: TimePoint) -> str:
    """The mark of a change that was found, or ""."""
    return "" if point.change is None else MARKS.get(point.change["verdict"], "")


def _segment(
    segment: Sequence[TimePoint], across: dict[int, float], up: Callable[[float], float], bars: bool
) -> Iterator[str]:
    known = [point for point in segment if not math.isnan(point.row["low"])]
    if bars:
        for point in known:
            low, high = up(point.row["low"]), up(point.row["high"])
            yield f'<path class="bar" d="M{across[point.position]:.1f} {low:.1f}V{high:.1f}"/>'
    elif known:
        edge = [(point, "high") for point in known] + [(point, "low") for point in reversed(known)]
        outline = " ".join(f"{across[point.position]:.1f},{up(point.row[end]):.1f}" for point, end in edge)
        yield f'<polygon class="band" points="{outline}"/>'
    line = " ".join(f"{across[point.position]:.1f},{up(point.row['mean']):.1f}" for point in segment)
    yield f'<polyline class="line" points="{line}"/>'


def _point(point: TimePoint, x: float, up: Callable[[float], float], radius: float, label: str) -> str:
    cell = number_cell(point.row)
    told = "\n".join(filter(None, [label, f"{cell.text} {cell.spread}".strip(), cell.hint, change_text(point)]))
    drawn = f'<circle class="point" cx="{x:.1f}" cy="{up(point.row["mean"]):.1f}" r="{radius}"/>'
    if point.change is not None and (mark := mark_of(point)):
        top = max(12, min(up(value) for value in _ends(point)) - 6)
        drawn += f'<text class="mark {point.change["verdict"]}" x="{x:.1f}" y="{top:.1f}">{mark}</text>'
    name = escape(shown(f"{label}: {cell.text}"))
    return f'<g role="img" aria-label="{name}" data-tip="{escape(shown(told))}">{drawn}</g>'


def _dates(labels: Sequence[str]) -> list[str]:
    """The first and the last label under the axis; the others are told by their points."""
    ends = ((labels[0], "start", LEFT), (labels[-1], "end", WIDTH - RIGHT))
    return [
        f'<text class="date" text-anchor="{anchor}" x="{x}" y="{HEIGHT - 10}">{escape(shown(label))}</text>'
        for label, anchor, x in ends
    ]


def _ends(point: TimePoint) -> list[float]:
    row = point.row
    return [value for value in (row["mean"], row["low"], row["high"]) if not math.isnan(value)]


def _axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Lower and upper end of the axis, and its ticks at round numbers."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        spread = 0.05 * abs(high) or 1.0
        low, high = low - spread, high + spread
    rough = (high - low) / TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return first * step, last * step, [number * step for number in range(first, last + 1)]


def _description(timeline: Timeline, numbers: Sequence[TimePoint]) -> str:
    """What a chart shows, for those who do not see it."""
    if not numbers:
        return "No number yet."
    style = number_format(timeline.metric)
    found = [mark_of(point) for point in numbers]
    changes = sum(map(bool, found))
    last = number_cell(numbers[-1].row)
    first = number_cell(numbers[0].row)
    parts = [f"From {first.text} to {last.text}" if len(numbers) > 1 else f"{last.text} {last.spread}".strip()]
    parts.append(f"{changes} change{'' if changes == 1 else 's'} marked" if changes else "no change marked")
    gaps = sum(1 for _ in timeline.segments()) - 1
    if gaps:
        parts.append(f"{gaps} break{'' if gaps == 1 else 's'} where points do not compare")
    direction = {True: "higher is better", False: "lower is better", None: ""}[style.higher_is_better]
    return "; ".join(filter(None, [*parts, direction])) + ". All numbers are in the table below."
