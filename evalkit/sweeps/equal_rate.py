"""Two sides of configurations at one rate: read off their curves where these meet, else nearest with nearest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.stats.crossed import CrossedEstimate, Scores, Undefined, crossed_estimate
from evalkit.stats.differences import ALPHA
from evalkit.stats.rate_curves import Curve, quality_at
from evalkit.sweeps.configurations import SweptConfiguration

RateKind = Literal["nominal", "entropy"]
# Rates this many bits per frame apart are the same: 0.25 % of 20 bits, far below what a difference of quality shows.
SAME_RATE = 0.05


@dataclass(frozen=True, eq=False)
class Point:
    """A configuration with the scores of one metric.

    Attributes:
        configuration: which.
        rates: (seeds,) bits per frame of each seed of `scores`; all alike where they are nominal.
        scores: of the metric.
    """

    configuration: SweptConfiguration
    rates: NDArray[np.float64]
    scores: Scores

    @property
    def rate(self) -> float:
        """Mean over its seeds; to the bit the same however many of them have the same."""
        return float(self.rates[0] if np.ptp(self.rates) == 0 else self.rates.mean())


def points_of(found: Iterable[SweptConfiguration], metric: str, kind: RateKind) -> list[Point]:
    """The configurations with a known rate (> 0) and a score by `metric`, as points.

    Args:
        found: in any order.
        metric: key.
        kind: "nominal" bits per frame, the same for all seeds, or "entropy" of the codes that a seed's trial used.
    """
    points = []
    for each in found:
        scores = each.scores.get(metric)
        if scores is None:
            continue
        entropies = each.measured("entropy")
        rates = [
            entropies.get(int(str(seed)), math.nan) if kind == "entropy" else each.bits_per_frame
            for seed in scores.seeds
        ]
        known = [row for row, rate in enumerate(rates) if rate is not None and rate > 0]
        if known:
            kept = Scores(
                scores.values[known], [scores.seeds[row] for row in known], scores.utterances, scores.clusters
            )
            points.append(Point(each, np.array([rates[row] for row in known], np.float64), kept))
    return points


@dataclass(frozen=True)
class Difference:
    """Side a minus side b at equal rate.

    Attributes:
        estimate: of the difference in the metric's unit; None where the sides cannot be compared.
        rate_a, rate_b: bits per frame at which each side stands; equal where they were read off curves.
        worth: what `rate_a - rate_b` is worth along a curve, in the metric's unit; 0 at equal rates, None where no
            curve says it.
        note: why there is no estimate or no interval, how it was compared; may be empty.
    """

    estimate: CrossedEstimate | None
    rate_a: float | None
    rate_b: float | None
    worth: float | None
    note: str

    @property
    def mismatch(self) -> float:
        """Bits per frame that a has more than b; NaN where it was not compared."""
        return math.nan if self.rate_a is None or self.rate_b is None else self.rate_a - self.rate_b

    def side(self, p_adjusted: float | None) -> int:
        """1 where a is surely higher, -1 where it is surely lower, else 0; see `surely` for what that asks.

        Rates that are not equal must not explain it: it holds too when `worth` is taken off, or, where that is not
        known, against the side with more bits.
        """
        if self.estimate is None:
            return 0
        found = surely(self.estimate, p_adjusted)
        if abs(self.mismatch) <= SAME_RATE:
            return found
        if self.worth is None:
            return found if found * self.mismatch < 0 else 0
        return found if surely(self.estimate, p_adjusted, self.worth) == found else 0


def surely(estimate: CrossedEstimate, p_adjusted: float | None, offset: float = 0.0, *, of_speech: bool = True) -> int:
    """The sign of `estimate` - `offset`, or 0 where it is open.

    Not open: several seeds (one says nothing of training) and several speakers (one says nothing of others; `of_speech`
    False where none had a part in it), the interval wholly on one side, and `p_adjusted`, its p after correction, below
    0.05; without p only where no seed and no utterance differed.
    """
    low, high = estimate.low, estimate.high
    if low is None or high is None or estimate.n_seeds < 2:
        return 0
    if of_speech and estimate.n_clusters < 2:
        return 0
    if p_adjusted is None and low != high:
        return 0
    if p_adjusted is not None and not p_adjusted < ALPHA:
        return 0
    return 1 if low > offset else -1 if high < offset else 0


def equal_rate(
    a: Sequence[Point], b: Sequence[Point], target: float, most_apart: float, slope: float | None
) -> Difference:
    """Quality of `a` minus that of `b` at the rate nearest to `target` that both reach.

    Each side is a curve, straight over the logarithm of the rate between neighbours, or one point. Nothing is
    extrapolated: where the sides reach no rate in common, their points nearest to `target` are compared as they are.

    Args:
        a: at least one point; of one series.
        b: see `a`.
        target: bits per frame.
        most_apart: bits per frame by which points that are compared as they are may differ.
        slope: quality per octave of rate, for what such a mismatch is worth; None where it is not known.
    """
    reach = [(min(point.rate for point in side), max(point.rate for point in side)) for side in (a, b)]
    low, high = max(ends[0] for ends in reach), min(ends[1] for ends in reach)
    if low <= high:
        rate = min(max(target, low), high)
        used = [_around(side, rate) for side in (a, b)]
        estimate = _at_rate(used[0], used[1], rate)
        return Difference(estimate, rate, rate, 0.0, estimate.note)
    first, second = (min(side, key=lambda point: abs(point.rate - target)) for side in (a, b))
    apart = first.rate - second.rate
    if abs(apart) > most_apart:
        ranges = [f"{ends[0]:.2f}" if ends[0] == ends[1] else f"{ends[0]:.2f} to {ends[1]:.2f}" for ends in reach]
        return Difference(None, None, None, None, f"no rate in common: {ranges[0]} and {ranges[1]} bits/frame")
    estimate = crossed_estimate(lambda means: means[0] - means[1], [first.scores, second.scores])
    worth = None if slope is None else slope * math.log2(first.rate / second.rate)
    return Difference(estimate, first.rate, second.rate, worth, "; ".join(filter(None, [estimate.note, _apart(apart)])))


def slope_near(points: Sequence[Point], target: float) -> float | None:
    """Quality per octave of rate between the two points of a curve that are nearest to `target`; None for fewer."""
    nearest = sorted(points, key=lambda point: abs(math.log2(point.rate / target)))
    for other in nearest[1:]:
        octaves = math.log2(other.rate / nearest[0].rate)
        if abs(other.rate - nearest[0].rate) > SAME_RATE:
            return float(np.nanmean(other.scores.values) - np.nanmean(nearest[0].scores.values)) / octaves
    return None


def _apart(bits: float) -> str:
    return f"rates {bits:+.2f} bits/frame apart" if abs(bits) > SAME_RATE else ""


def _around(side: Sequence[Point], rate: float) -> list[Point]:
    """The point at `rate`, or its neighbours below and above: a seed that a third one lacks is then not lost."""
    below = max((point for point in side if point.rate <= rate), key=lambda point: point.rate)
    above = min((point for point in side if point.rate >= rate), key=lambda point: point.rate)
    return [below] if below is above or below.rate == above.rate else [below, above]


def _at_rate(a: Sequence[Point], b: Sequence[Point], target: float) -> CrossedEstimate:
    """The difference at `target`, kept within what both sides reach, as measured rates move with the seeds in use."""
    points = [*a, *b]
    measured = [place for place, point in enumerate(points) if np.ptp(point.rates) > 0]
    rates = [
        Scores(
            np.broadcast_to(points[place].rates[:, None], points[place].scores.values.shape),
            points[place].scores.seeds, points[place].scores.utterances, points[place].scores.clusters,
        )
        for place in measured
    ]  # fmt: skip

    def difference(means: Sequence[float]) -> float:
        # A nominal rate is taken as it is: a mean of equal numbers can be another one in its last digit.
        at = [point.rate for point in points]
        for place, rate in zip(measured, means[len(points) :], strict=True):
            at[place] = rate
        sides = (at[: len(a)], means[: len(a)]), (at[len(a) :], means[len(a) : len(points)])
        low, high = max(min(side[0]) for side in sides), min(max(side[0]) for side in sides)
        if low > high:
            raise Undefined(f"no rate in common: {low:.2f} above {high:.2f} bits/frame")
        rate = min(max(target, low), high)
        first, second = (_read(rates, qualities, rate) for rates, qualities in sides)
        return first - second

    return crossed_estimate(difference, [*(point.scores for point in points), *rates])


def _read(rates: Sequence[float], qualities: Sequence[float], rate: float) -> float:
    return qualities[0] if len(rates) == 1 else quality_at(Curve(tuple(rates), tuple(qualities)), rate)
