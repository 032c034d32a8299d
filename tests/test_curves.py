"""Differences of rate-quality curves: Bjontegaard's arithmetic, known curves, refusals, intervals over a sweep."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats.crossed import Scores, crossed_estimate
from evalkit.stats.rate_curves import (
    Curve,
    CurveError,
    common_qualities,
    common_rates,
    compare_curves,
    quality_at,
    quality_difference,
    rate_difference,
)

# Four points of two settings of an encoder (kbit/s, dB), from the documentation of the Python package bjontegaard.
ANCHOR = Curve((9487.76, 4593.60, 2486.44, 1358.24), (40.037, 38.615, 36.845, 34.851))
TESTED = Curve((9787.80, 4469.00, 2451.52, 1356.24), (40.121, 38.651, 36.970, 34.987))


def vceg_m33(a: Curve, b: Curve) -> tuple[float, float]:
    """Quality and relative rate of a minus b as in VCEG-M33: one cubic through four points, log10 of the rates."""

    def mean_difference(x_a: np.ndarray, y_a: np.ndarray, x_b: np.ndarray, y_b: np.ndarray) -> float:
        low, high = max(x_a.min(), x_b.min()), min(x_a.max(), x_b.max())
        areas = [np.diff(np.polyval(np.polyint(np.polyfit(x, y, 3)), (low, high))) for x, y in ((x_a, y_a), (x_b, y_b))]
        return float(areas[0][0] - areas[1][0]) / (high - low)

    (rate_a, quality_a), (rate_b, quality_b) = ((np.log10(c.rates), np.array(c.qualities)) for c in (a, b))
    quality = mean_difference(rate_a, quality_a, rate_b, quality_b)
    return quality, 10 ** mean_difference(quality_a, rate_a, quality_b, rate_b) - 1


def test_straight_lines_worked_by_hand() -> None:
    """With x = log10 rate: q_a = 21 + 6 x and q_b = 10 + 10 x for x in [2, 3].

    Quality: a - b = 11 - 4 x, whose mean over [2, 3] is 11 - 10 = 1. Rate: x_a - x_b = (q - 21) / 6 - (q - 10) / 10,
    whose mean over the common [33, 39] is its value at 36, 2.5 - 2.6 = -0.1: a needs 10^-0.1 - 1 = -20.57 % more bits.
    """
    a, b = Curve((100, 1000), (33, 39)), Curve((100, 1000), (30, 40))
    assert quality_difference(a, b) == pytest.approx(1)
    assert rate_difference(a, b) == pytest.approx(10**-0.1 - 1)
    assert rate_difference(a, b) == pytest.approx(-0.2057, abs=1e-4)
    assert (common_rates(a, b), common_qualities(a, b)) == ((100, 1000), (33, 39))
    assert Curve((1000, 100), (39, 33)) == a


def test_lines_of_four_points_are_those_of_vceg_m33() -> None:
    rates = np.array([100, 250, 400, 1000])
    a = Curve(tuple(rates), tuple(21 + 6 * np.log10(rates)))
    b = Curve(tuple(1.2 * rates), tuple(10 + 10 * np.log10(1.2 * rates)))
    quality, rate = vceg_m33(a, b)
    assert quality_difference(a, b) == pytest.approx(quality)
    assert rate_difference(a, b) == pytest.approx(rate)


def test_measured_curves_are_as_other_programs_have_them() -> None:
    """bjontegaard 1.3.0, method "pchip"; it states agreement with the spreadsheet of JCT-VC to ten decimals."""
    assert 100 * rate_difference(TESTED, ANCHOR) == pytest.approx(-4.417485350589, abs=1e-9)
    assert quality_difference(TESTED, ANCHOR) == pytest.approx(0.119692785425, abs=1e-9)
    # M33's single cubic is close where curves are as tame as these.
    quality, rate = vceg_m33(TESTED, ANCHOR)
    assert rate_difference(TESTED, ANCHOR) == pytest.approx(rate, abs=1e-3)
    assert quality_difference(TESTED, ANCHOR) == pytest.approx(quality, abs=2e-3)


def test_saturating_curves_have_the_difference_of_their_integrals() -> None:
    """Quality 4 - 2^-x against 4 - 2^(1 - x), x = log2 rate: half the bits; the mean of 2^-x over [1, 4] is known."""
    x = np.linspace(1, 4, 61)
    a, b = Curve(tuple(2**x), tuple(4 - 2**-x)), Curve(tuple(2**x), tuple(4 - 2 ** (1 - x)))
    assert quality_difference(a, b) == pytest.approx((2**-1 - 2**-4) / math.log(2) / 3, rel=1e-4)
    assert rate_difference(a, b) == pytest.approx(-0.5, rel=1e-4)
    assert quality_at(a, 5.0) == pytest.approx(4 - 1 / 5, rel=1e-5)


steps = st.lists(st.tuples(st.floats(0.1, 3), st.floats(0.05, 3)), min_size=1, max_size=6)


def rising(drawn: Sequence[tuple[float, float]]) -> Curve:
    """A curve of at least two points that starts at rate 100 and quality 1."""
    rate_steps, quality_steps = np.transpose(drawn)
    return Curve((100, *(100 * 2 ** np.cumsum(rate_steps))), (1, *(1 + np.cumsum(quality_steps))))


@given(steps, st.floats(0.25, 4), st.floats(-3, 3))
def test_a_shifted_curve_differs_by_its_shift(drawn: list[tuple[float, float]], factor: float, gain: float) -> None:
    plain = rising(drawn)
    costly = Curve(tuple(factor * np.array(plain.rates)), plain.qualities)
    better = Curve(plain.rates, tuple(gain + np.array(plain.qualities)))
    assert rate_difference(costly, plain) == pytest.approx(factor - 1, abs=1e-6)
    assert quality_difference(better, plain) == pytest.approx(gain, abs=1e-6)
    assert rate_difference(plain, plain) == quality_difference(plain, plain) == 0


@given(steps, steps)
def test_swapped_curves_differ_the_other_way(
    first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> None:
    a, b = rising(first), rising(second)
    assert quality_difference(b, a) == pytest.approx(-quality_difference(a, b), abs=1e-9)
    assert (1 + rate_difference(b, a)) * (1 + rate_difference(a, b)) == pytest.approx(1)


@given(steps, steps, st.floats(0.01, 100))
def test_units_do_not_matter(first: list[tuple[float, float]], second: list[tuple[float, float]], unit: float) -> None:
    """Bits per frame or bit/s; a distance in place of a quality."""
    curves = rising(first), rising(second)
    in_units = [Curve(tuple(unit * np.array(c.rates)), c.qualities) for c in curves]
    distances = [Curve(c.rates, tuple(5 - np.array(c.qualities))) for c in curves]
    assert quality_difference(*in_units) == pytest.approx(quality_difference(*curves), abs=1e-6)
    assert quality_difference(*distances) == pytest.approx(-quality_difference(*curves), abs=1e-6)
    rates = rate_difference(*in_units), rate_difference(*distances, higher_is_better=False)
    assert rates == pytest.approx((rate_difference(*curves),) * 2, rel=1e-6, abs=1e-6)


@given(steps, st.floats(0, 1))
def test_a_curve_passes_its_points_and_stays_between_them(drawn: list[tuple[float, float]], share: float) -> None:
    curve = rising(drawn)
    for rate, quality in zip(curve.rates, curve.qualities, strict=True):
        assert quality_at(curve, rate) == pytest.approx(quality)
    between = curve.rates[0] ** (1 - share) * curve.rates[1] ** share
    between = min(max(between, curve.rates[0]), curve.rates[1])
    assert curve.qualities[0] - 1e-9 <= quality_at(curve, between) <= curve.qualities[1] + 1e-9


LINE = Curve((100, 200), (1, 2))


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: Curve((100,), (1,)), "needs two points, got 1"),
        (lambda: Curve((0, 100), (1, 2)), "rate 0 has no logarithm"),
        (lambda: Curve((100, 100), (1, 2)), "two points at rate 100"),
        (lambda: quality_at(LINE, 99), "rate 99 is outside the curve, 100 to 200"),
        (lambda: quality_at(LINE, -1), "rate -1 is outside"),
        (lambda: quality_difference(LINE, Curve((300, 400), (1, 2))), "no rates in common: 100 to 200 and 300 to 400"),
        (lambda: quality_difference(LINE, Curve((200, 400), (1, 2))), "no rates in common"),
        (lambda: rate_difference(LINE, Curve((100, 200), (3, 4))), "no qualities in common: 1 to 2 and 3 to 4"),
        (
            lambda: rate_difference(Curve((1, 2), (2, 1)), Curve((1, 2), (4, 3)), higher_is_better=False),
            "no qualities in common: 1 to 2 and 3 to 4",
        ),
        (
            lambda: rate_difference(Curve((1, 2, 4), (1, 3, 2)), LINE),
            r"no better at rate 4 than at 2 \(quality 2, 3\)",
        ),
        (lambda: rate_difference(LINE, Curve((1, 2, 4), (1, 1, 2))), "no better at rate 2 than at 1"),
        (lambda: rate_difference(LINE, LINE, higher_is_better=False), "no better at rate 200 than at 100"),
    ],
)
def test_what_is_undefined_says_why(measure: Callable[[], object], message: str) -> None:
    with pytest.raises(CurveError, match=message):
        measure()


def test_a_curve_that_cannot_be_inverted_still_has_a_quality_difference() -> None:
    assert quality_difference(Curve((1, 2, 4), (2, 4, 3)), Curve((1, 2, 4), (1, 3, 2))) == pytest.approx(1)


def scores(values: np.ndarray) -> Scores:
    seeds, utterances = values.shape
    return Scores(values, range(seeds), [f"u{n:02}" for n in range(utterances)], [n // 2 for n in range(utterances)])


def sweep(rng: np.random.Generator, noise: float, offset: float = 0.0) -> list[Scores]:
    """Scores of four sizes: 1, 2, 3, 4, `offset` and noise of seeds, utterances and both; 3 seeds, 12 utterances."""
    hard = rng.normal(size=(1, 12))
    return [
        scores(k + offset + noise * (hard + rng.normal(size=(3, 1)) + rng.normal(size=(3, 12)))) for k in range(1, 5)
    ]


RATES = (100.0, 200.0, 400.0, 800.0)


def test_a_steady_gain_has_its_size_and_no_width() -> None:
    """Without noise: 0.5 better at each rate, where doubling the rate brings 1: 2^-0.5 of the bits."""
    rng = np.random.default_rng(0)
    a, b = sweep(rng, 0, offset=0.5), sweep(rng, 0)
    found = compare_curves(list(zip(RATES, a, strict=True)), list(zip(RATES, b, strict=True)), True)
    assert (found.quality.value, found.quality.low, found.quality.high) == pytest.approx((0.5, 0.5, 0.5))
    assert (found.rate.value, found.rate.low, found.rate.high) == pytest.approx((2**-0.5 - 1,) * 3)
    assert found.rates == pytest.approx((100, 800))
    assert found.qualities == pytest.approx((1.5, 4))
    assert found.rate.means == pytest.approx((*RATES, *RATES, 1.5, 2.5, 3.5, 4.5, 1, 2, 3, 4))


def test_two_points_at_equal_rates_are_a_linear_statistic() -> None:
    rng = np.random.default_rng(1)
    a, b = sweep(rng, 0.3)[:2], sweep(rng, 0.3)[:2]
    found = compare_curves(list(zip(RATES, a, strict=False)), list(zip(RATES, b, strict=False)), True).quality
    direct = crossed_estimate(lambda m: (m[0] + m[1] - m[2] - m[3]) / 2, [*a, *b])
    assert (found.value, found.low, found.high) == pytest.approx((direct.value, direct.low, direct.high))
    assert (found.p, found.df, found.seed_share) == pytest.approx((direct.p, direct.df, direct.seed_share))


def test_the_interval_of_rates_is_that_of_their_logarithm() -> None:
    rng = np.random.default_rng(2)
    a, b = (list(zip(RATES, sweep(rng, 0.1), strict=True)) for _ in range(2))
    there, back = compare_curves(a, b, True).rate, compare_curves(b, a, True).rate
    assert -1 < there.low < there.value < there.high  # type: ignore[operator]
    logs = [math.log1p(x) for x in (there.low, there.value, there.high)]  # type: ignore[arg-type]
    assert logs[1] - logs[0] == pytest.approx(logs[2] - logs[1])
    assert (1 + there.low) * (1 + back.high) == pytest.approx(1)  # type: ignore[operator]
    assert there.p == pytest.approx(back.p)


def test_lower_is_better_is_honoured() -> None:
    rng = np.random.default_rng(3)
    curves = [list(zip(RATES, sweep(rng, 0.1, offset), strict=True)) for offset in (0.3, 0.0)]
    distances = [[(rate, scores(9 - found.values)) for rate, found in curve] for curve in curves]
    quality, distance = compare_curves(*curves, True), compare_curves(*distances, False)
    assert quality.rate.value < 0  # type: ignore[operator]
    assert [distance.rate.low, distance.rate.value] == pytest.approx([quality.rate.low, quality.rate.value])
    assert distance.quality.value == pytest.approx(-quality.quality.value)  # type: ignore[operator]
    assert compare_curves(*curves, False).rate.note.startswith("undefined: no better at rate 200 than at 100")


def test_measured_rates_are_the_mean_over_the_seeds_in_use() -> None:
    rng = np.random.default_rng(4)
    a, b = sweep(rng, 0, offset=0), sweep(rng, 0)
    spread = np.array([0.9, 1.0, 1.4])
    fixed = list(zip(RATES, b, strict=True))
    measured = compare_curves([(rate * spread, found) for rate, found in zip(RATES, a, strict=True)], fixed, True)
    assert measured.rate.value == pytest.approx(0.1)
    assert measured.rate.seed_share == pytest.approx(1)
    log2_ratios = np.log2([1.2, 1.15, 0.95]) - np.log2(1.1)  # without each seed
    half = math.sqrt(2 / 3 * float(log2_ratios @ log2_ratios)) * 4.302653  # t quantile of two degrees of freedom
    assert measured.rate.high == pytest.approx(1.1 * 2**half - 1, rel=1e-6)
    failed = [(rate * np.array([0.9, 1.0, np.nan]), found) for rate, found in zip(RATES, a, strict=True)]
    without = compare_curves(failed, fixed, True).rate
    assert (without.value, without.n_seeds, without.left_out_seeds) == (pytest.approx(-0.05), 2, 1)


def test_undefined_measures_give_their_reason_and_the_other_is_there() -> None:
    rng = np.random.default_rng(5)
    low, high = (list(zip(RATES, sweep(rng, 0.1, offset), strict=True)) for offset in (0, 20))
    apart = compare_curves(high, low, True)
    assert (apart.rate.value, apart.rate.low, apart.rate.p, apart.qualities) == (None, None, None, None)
    assert apart.rate.note.startswith("undefined: the curves have no qualities in common")
    assert apart.quality.value == pytest.approx(20, abs=0.5)
    assert apart.rates == (100, 800)
    single = compare_curves(low[:1], low, True)
    assert single.quality.note == single.rate.note == "undefined: a curve needs two points, got 1"
    assert compare_curves([], low, True).quality.note == "undefined: a curve needs two points, got 0"
    collapsed = compare_curves([(0.0, low[0][1]), low[1]], low, True)
    assert collapsed.quality.note == "undefined: rate 0 has no logarithm"


def test_a_curve_that_only_one_seed_keeps_rising_has_no_interval() -> None:
    family = [scores(np.tile([[first], [second], [first]], 12)) for first, second in ((1, 1), (2, 2), (1.9, 2.5))]
    plain = list(zip(RATES, sweep(np.random.default_rng(6), 0), strict=True))
    found = compare_curves(list(zip(RATES, family, strict=False)), plain, True)
    assert (found.rate.value is None, found.rate.low, found.rate.high) == (False, None, None)
    assert found.rate.note.startswith("no interval: undefined without seed 1: no better at rate 400 than at 200")
    assert found.quality.low is not None


def test_an_end_beyond_all_floats_is_infinite() -> None:
    """Two seeds whose rates are 1 and 2^500: half the width of the logarithm is 12.7 x 353."""
    family = sweep(np.random.default_rng(9), 0)
    seeds = [Scores(found.values[:2], [0, 1], found.utterances, found.clusters) for found in family]
    wild = [(rate * np.array([1, 2.0**500]), found) for rate, found in zip(RATES, seeds, strict=True)]
    found = compare_curves(wild, list(zip(RATES, seeds, strict=True)), True).rate
    assert (found.low, found.high) == (pytest.approx(-1), math.inf)
    assert found.value == pytest.approx(2.0**499)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rates for 1 qualities"):
        Curve((100, 200), (1,))
    with pytest.raises(ValueError, match="finite"):
        Curve((100, math.nan), (1, 2))
    points = list(zip(RATES, sweep(np.random.default_rng(7), 0), strict=True))
    with pytest.raises(ValueError, match="no systems"):
        compare_curves([], [], True)
    with pytest.raises(ValueError, match=r"rates of shape \(2,\) for 3 seeds"):
        compare_curves([([1.0, 2.0], points[0][1]), points[1]], points, True)


def test_a_sweep_of_two_families_is_fast() -> None:
    rng = np.random.default_rng(8)
    rates = [100 * 2 ** (k / 2) for k in range(9)]
    a, b = ([(rate, scores(k + 0.1 * rng.normal(size=(3, 57)))) for k, rate in enumerate(rates)] for _ in range(2))
    compare_curves(a, b, True)  # imports scipy
    start = time.thread_time()
    compare_curves(a, b, True)
    assert time.thread_time() - start < 0.15
