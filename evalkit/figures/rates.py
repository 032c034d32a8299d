"""Quality against bit rate: a panel a metric, systems as points, those without a rate as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.figures.axis import Axis
from evalkit.tables.cells import is_ranked, metric_names
from evalkit.tables.summary import MetricFormat, metric_format

REACH = 0.4  # a line at most this share of the points' span away still widens the panel
ENDS = ("_low", "_high", "_n_ok")  # of the columns beside a metric's mean
LOG_RATIO = 4.0  # rates further apart than this are drawn on a logarithmic axis


@dataclass(frozen=True)
class Level:
    """A system's mean with its 95 % interval (NaN where there is none) over `n` utterances."""

    system: str
    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class RatePoint(Level):
    """At a bit rate.

    Attributes:
        codec: what it shares with others of its kind at other rates; may be empty.
        rate: kbit/s, nominal, or measured where a coder has no codebooks.
        coded: kbit/s of an ideal entropy code; NaN or 0 where there is none.
    """

    codec: str
    rate: float
    coded: float


@dataclass(frozen=True)
class RatePanel:
    """One metric of one data set.

    Attributes:
        points: by rate.
        references: known answers, and systems without a bit rate.
        rates: kbit/s.
        quality: around the points and what is near to them.
    """

    metric: MetricFormat
    points: tuple[RatePoint, ...]
    references: tuple[Level, ...]
    rates: Axis
    quality: Axis

    def joined(self) -> list[list[RatePoint]]:
        """The points of each codec that has several rates."""
        codecs: dict[str, list[RatePoint]] = {}
        for point in self.points:
            codecs.setdefault(point.codec, []).append(point)
        return [points for codec, points in codecs.items() if codec and len(points) > 1]


def rate_panel(summary: pd.DataFrame, metric: str) -> RatePanel:
    """The panel of `metric` (in `rated_metrics`) of one data set's `summary` (`evalkit.tables.summarize`)."""
    needed = ["system", "kind", "codec", "kbps", "entropy_kbps", *(f"{metric}{end}" for end in ("", *ENDS))]
    rows = summary.loc[summary[metric].notna(), needed]
    rated = is_rated(rows)
    points = tuple(
        RatePoint(*_level(row, metric), row["codec"] or "", row["kbps"], row["entropy_kbps"])
        for row in rows[rated].sort_values("kbps", kind="stable").to_dict("records")
    )
    references = tuple(Level(*_level(row, metric)) for row in rows[~rated].to_dict("records"))
    return RatePanel(metric_format(metric), points, references, _rates(points), _quality(points, references))


def rated_metrics(summary: pd.DataFrame) -> list[str]:
    """The metrics of which a system with a bit rate has a score, in order."""
    rated = is_rated(summary)
    return [name for name in metric_names(summary) if summary.loc[rated, name].notna().any()]


def is_rated(summary: pd.DataFrame) -> pd.Series:
    """Which systems are points."""
    return is_ranked(summary) & summary["kbps"].notna()


def cover_levels(places: NDArray[np.float64], reach: float) -> list[int]:
    """For each of `places` (n, 2) the least number that no earlier one within `reach` has: 0 where it covers none."""
    found: list[int] = []
    for index, place in enumerate(places):
        near = np.hypot(*(places[:index] - place).T) < reach
        taken = {found[other] for other in np.flatnonzero(near)}
        found.append(next(level for level in range(index + 1) if level not in taken))
    return found


def _level(row: Mapping[Any, Any], metric: str) -> tuple[str, float, float, float, int]:
    return row["system"], row[metric], *(row[f"{metric}{end}"] for end in ENDS)


def _rates(points: Sequence[RatePoint]) -> Axis:
    rates = [rate for point in points for rate in (point.rate, point.coded) if rate > 0]
    low, high = min(rates), max(rates)
    if high / low > LOG_RATIO:
        return Axis.logarithmic_around(low, high, 1.25)
    room = max(0.15 * (high - low), 0.01 * high)
    return Axis(low - room, high + room)


def _quality(points: Sequence[RatePoint], references: Sequence[Level]) -> Axis:
    axis = Axis.around([value for each in points for value in (each.mean, each.low, each.high)], 0.1)
    span = axis.high - axis.low
    near = [each.mean for each in references if axis.low - REACH * span <= each.mean <= axis.high + REACH * span]
    room = 0.05 * span
    return Axis(min([axis.low, *(mean - room for mean in near)]), max([axis.high, *(mean + room for mean in near)]))
