"""Two rate-quality curves in one number: by how much quality differs at equal rate, and rate at equal quality.

The measures of Bjontegaard ("Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001): the
mean distance of two curves over the range that both have, rates on a logarithmic scale. Points are joined by monotone
cubics (PCHIP, as in the common test conditions of JCT-VC, JCTVC-L1100), because M33's one cubic through four points can
swing between them and takes exactly four. The base of the logarithm does not matter: it scales both curves alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.stats.crossed import CrossedEstimate, Scores, Undefined, crossed_estimate

# A common range below this share of the shorter curve is a touch: its mean would be rounding.
MIN_OVERLAP = 1e-6

Rate = float | Sequence[float] | NDArray[np.float64]


class CurveError(Undefined):
    """A measure of curves is undefined for these points; the message says why."""


@dataclass(frozen=True)
class Curve:
    """Quality against rate; the points are put in the order of rate.

    Attributes:
        rates: at least two, > 0 and unlike each other; bits per frame or bit/s, the same of all curves compared.
        qualities: one a rate, in the metric's unit.

    Raises:
        CurveError: fewer than two points, two at one rate, or a rate that is not > 0.
        ValueError: not one quality a rate, or a number that is not finite.
    """

    rates: tuple[float, ...]
    qualities: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.rates) != len(self.qualities):
            raise ValueError(f"{len(self.rates)} rates for {len(self.qualities)} qualities")
        points = sorted((float(rate), float(quality)) for rate, quality in zip(self.rates, self.qualities, strict=True))
        if not np.isfinite(points).all():
            raise ValueError(f"rates and qualities must be finite, got {points}")
        if len(points) < 2:
            raise CurveError(f"a curve needs two points, got {len(points)}")
        rates, qualities = zip(*points, strict=True)
        if rates[0] <= 0:
            raise CurveError(f"rate {rates[0]:g} has no logarithm")
        for rate, following in pairwise(rates):
            if math.log2(rate) == math.log2(following):
                raise CurveError(f"two points at rate {rate:g}")
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "qualities", qualities)


def quality_at(curve: Curve, rate: float) -> float:
    """Quality at `rate` (> 0), read off the curve.

    Raises:
        CurveError: `rate` is outside the curve: nothing is extrapolated.
    """
    if not curve.rates[0] <= rate <= curve.rates[-1]:
        raise CurveError(f"rate {rate:g} is outside the curve, {curve.rates[0]:g} to {curve.rates[-1]:g}")
    return float(_quality_over_rate(curve)(math.log2(rate)))


def common_rates(a: Curve, b: Curve) -> tuple[float, float]:
    """Lowest and highest rate that both curves reach.

    Raises:
        CurveError: there is no such range.
    """
    _overlap(np.log2(a.rates), np.log2(b.rates), "rates", np.exp2)
    return max(a.rates[0], b.rates[0]), min(a.rates[-1], b.rates[-1])


def common_qualities(a: Curve, b: Curve) -> tuple[float, float]:
    """Lowest and highest quality that both curves reach.

    Raises:
        CurveError: there is no such range.
    """
    return _overlap(np.array(a.qualities), np.array(b.qualities), "qualities", np.asarray)


def quality_difference(a: Curve, b: Curve) -> float:
    """Mean of a's quality minus b's over the common range of log rate, in the metric's unit (BD-PSNR of VCEG-M33).

    Raises:
        CurveError: the curves have no range of rates in common.
    """
    low, high = _overlap(np.log2(a.rates), np.log2(b.rates), "rates", np.exp2)
    return _mean(_quality_over_rate(a), low, high) - _mean(_quality_over_rate(b), low, high)


def rate_difference(a: Curve, b: Curve, *, higher_is_better: bool = True) -> float:
    """By what share a's rate exceeds b's at equal quality (BD-rate of VCEG-M33): 0.1 says that a needs 10 % more bits.

    2^d - 1, d the mean of log2 a's rate minus log2 b's over the common range of quality; > -1.

    Args:
        a: compared with `b`.
        b: see `a`.
        higher_is_better: whether the metric's larger values are better; a curve must get better all along the rate.

    Raises:
        CurveError: the curves have no range of qualities in common, or one gets no better somewhere as the rate rises.
    """
    return _relative(_log_rate_difference(a, b, higher_is_better))


@dataclass(frozen=True)
class CurveComparison:
    """Curve a against curve b, with intervals over seeds and utterances.

    Attributes:
        quality: `quality_difference`, in the metric's unit. Its `means`, and those of `rate`, are the points: the rates
            of a and of b, then the qualities of a and of b.
        rate: `rate_difference`. Its interval is made on the scale of log rates, so no end is below -1, it need not be
            symmetric, and `high` may be infinite.
        rates: lowest and highest rate in common, on which `quality` rests; None where there is none.
        qualities: lowest and highest quality in common, on which `rate` rests; None where there is none.
    """

    quality: CrossedEstimate
    rate: CrossedEstimate
    rates: tuple[float, float] | None
    qualities: tuple[float, float] | None


def compare_curves(
    a: Sequence[tuple[Rate, Scores]], b: Sequence[tuple[Rate, Scores]], higher_is_better: bool, level: float = 0.95
) -> CurveComparison:
    """Compare two families of configurations along the rate, such as two bottlenecks of several sizes each.

    Args:
        a: a point of the curve each: rate (> 0; a number, or (seeds,) in the order of its Scores' seeds where the rate
            was measured, NaN where it failed) and scores. The rate of a point is the mean over the seeds in use.
        b: the same of the family that `a` is compared with.
        higher_is_better: of the metric.
        level: nominal coverage, in (0, 1).

    Returns:
        Estimates without a value where a measure is undefined, with the reason as their note. Both rest on the seeds
        and utterances that all points of both curves share.

    Raises:
        ValueError: not one rate a seed, no point at all, or as `crossed_estimate`.
    """
    points = [*a, *b]
    systems = [*(_as_scores(rate, scores) for rate, scores in points), *(scores for _, scores in points)]

    def curves(means: Sequence[float]) -> tuple[Curve, Curve]:
        rates, qualities = means[: len(points)], means[len(points) :]
        both = [
            Curve(tuple(rates[part]), tuple(qualities[part])) for part in (slice(0, len(a)), slice(len(a), len(points)))
        ]
        return both[0], both[1]

    quality = crossed_estimate(lambda means: quality_difference(*curves(means)), systems, level)
    log_rate = crossed_estimate(
        lambda means: _log_rate_difference(*curves(means), higher_is_better=higher_is_better), systems, level
    )
    ranges: list[tuple[float, float] | None] = []
    for common in (common_rates, common_qualities):
        try:
            ranges.append(common(*curves(quality.means)))
        except CurveError:  # the estimates' notes say why
            ranges.append(None)
    return CurveComparison(quality, log_rate.mapped(_relative), ranges[0], ranges[1])


def _as_scores(rate: Rate, scores: Scores) -> Scores:
    """The rate as a score that all utterances of a seed share: its mean is then over the seeds in use."""
    rates = np.asarray(rate, np.float64)
    if rates.shape not in ((), (len(scores.seeds),)):
        raise ValueError(f"rates of shape {rates.shape} for {len(scores.seeds)} seeds: give one number or one a seed")
    values = np.broadcast_to(rates.reshape(-1, 1), scores.values.shape)
    return Scores(values, scores.seeds, scores.utterances, scores.clusters)


def _log_rate_difference(a: Curve, b: Curve, higher_is_better: bool) -> float:
    """Mean of log2 a's rate minus log2 b's over the common range of quality."""
    rate_a, rate_b = (_rate_over_quality(curve, higher_is_better) for curve in (a, b))
    low, high = _overlap(rate_a.x, rate_b.x, "qualities", lambda x: x if higher_is_better else -x)
    return _mean(rate_a, low, high) - _mean(rate_b, low, high)


def _relative(log_ratio: float) -> float:
    try:
        return math.expm1(math.log(2) * log_ratio)
    except OverflowError:
        return math.inf


def _quality_over_rate(curve: Curve) -> Any:
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(np.log2(curve.rates), curve.qualities)


def _rate_over_quality(curve: Curve, higher_is_better: bool) -> Any:
    """log2 rate over quality; over its negative where lower is better, as the abscissa must rise."""
    from scipy.interpolate import PchipInterpolator

    goodness = np.array(curve.qualities) if higher_is_better else -np.array(curve.qualities)
    stuck = np.flatnonzero(np.diff(goodness) <= 0)
    if stuck.size:
        where = int(stuck[0])
        rates, qualities = curve.rates[where : where + 2], curve.qualities[where : where + 2]
        raise CurveError(
            f"no better at rate {rates[1]:g} than at {rates[0]:g} (quality {qualities[1]:g}, {qualities[0]:g}): "
            "a quality does not belong to one rate"
        )
    return PchipInterpolator(goodness, np.log2(curve.rates))


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64], what: str, shown: Any) -> tuple[float, float]:
    low, high = max(a.min(), b.min()), min(a.max(), b.max())
    if high - low <= MIN_OVERLAP * min(np.ptp(a), np.ptp(b)):
        ranges = (sorted((float(shown(x.min())), float(shown(x.max())))) for x in (a, b))
        first, second = (f"{ends[0]:g} to {ends[1]:g}" for ends in ranges)
        raise CurveError(f"the curves have no {what} in common: {first} and {second}")
    return float(low), float(high)


def _mean(function: Any, low: float, high: float) -> float:
    return float(function.integrate(low, high)) / (high - low)
