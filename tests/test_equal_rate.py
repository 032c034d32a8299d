"""Two sides at equal rate: what is sure, and what a mismatch of rates may explain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from evalkit.stats.crossed import CrossedEstimate, Scores
from evalkit.sweeps.equal_rate import Difference, Point, equal_rate, surely
from tests.synthetic_sweep import q2d2, swept


def estimate(low: float | None, high: float | None, seeds: int = 3) -> CrossedEstimate:
    value = None if low is None or high is None else (low + high) / 2
    return CrossedEstimate(value, low, high, 0.001, 5.0, None, (), seeds, 12, 36, 0, 0, "")


@pytest.mark.parametrize(
    ("low", "high", "p", "seeds", "offset", "expected"),
    [
        (0.1, 0.2, 0.01, 3, 0.0, 1), (-0.2, -0.1, 0.01, 3, 0.0, -1), (-0.1, 0.2, 0.01, 3, 0.0, 0),
        (0.1, 0.2, 0.05, 3, 0.0, 0), (0.1, 0.2, 0.01, 1, 0.0, 0), (0.1, 0.2, 0.01, 2, 0.0, 1),
        (0.1, 0.2, None, 3, 0.0, 0), (0.1, 0.1, None, 3, 0.0, 1), (-0.1, -0.1, None, 3, 0.0, -1),
        (0.1, 0.1, None, 1, 0.0, 0), (None, None, 0.01, 3, 0.0, 0), (0.1, 0.2, 0.01, 3, 0.15, 0),
        (0.1, 0.2, 0.01, 3, 0.3, -1), (0.0, 0.2, 0.01, 3, 0.0, 0),
    ],
)  # fmt: skip
def test_what_is_sure(low, high, p, seeds, offset, expected):
    assert surely(estimate(low, high, seeds), p, offset) == expected


@pytest.mark.parametrize(
    ("rates", "worth", "expected"),
    [
        ((20.0, 20.0), 0.0, 1), ((20.4, 20.0), 0.05, 1), ((20.4, 20.0), 0.15, 0), ((20.4, 20.0), 0.5, 0),
        ((20.4, 20.0), None, 0), ((19.6, 20.0), None, 1), ((20.04, 20.0), None, 1), ((19.6, 20.0), -0.05, 1),
    ],
)  # fmt: skip
def test_a_difference_must_survive_what_its_mismatch_is_worth(rates, worth, expected):
    assert Difference(estimate(0.1, 0.2), *rates, worth, "").side(0.01) == expected
    mirrored = Difference(estimate(-0.2, -0.1), rates[1], rates[0], None if worth is None else -worth, "")
    assert mirrored.side(0.01) == -expected


def measured(rates: Sequence[float], extra: float = 0.0) -> Point:
    """A point whose seeds have these coded rates, and the quality log2(rate) + `extra`."""
    (configuration,), _ = swept([q2d2("rhombic", [7] * 6, 20.0)])
    values = np.repeat(np.log2(rates)[:, None] + extra, 8, axis=1) + 0.01 * np.arange(8)
    names = [f"u{number}" for number in range(8)]
    return Point(configuration, np.array(rates), Scores(values, [0, 1, 2], names, [None] * 8))


def test_what_measured_rates_explain_is_no_spread_between_seeds():
    """Seeds differ in quality by 0.06, all of it by their rates: at equal rate they agree."""
    a = [measured([14.8, 15.0, 15.2], 0.1), measured([20.4, 20.0, 19.6], 0.1)]
    b = [measured([14.1, 14.0, 13.7]), measured([18.7, 19.0, 19.6])]
    found = equal_rate(a, b, 17.0, 0.0, None)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.1, abs=1e-3)
    assert found.estimate.low == pytest.approx(0.1, abs=3e-3)
    assert found.estimate.high == pytest.approx(0.1, abs=3e-3)
    assert found.rate_a == found.rate_b == 17.0


def test_rates_that_meet_in_some_seeds_only_have_no_interval():
    a, b = [measured([14.0, 14.0, 14.0]), measured([16.0, 16.0, 16.0])], [measured([15.8, 15.8, 16.3])]
    found = equal_rate(a, b, 17.0, 0.0, None)
    assert found.estimate is not None
    assert found.rate_a == pytest.approx(15.9667, abs=1e-4)
    assert (found.estimate.low, found.side(0.01)) == (None, 0)
    assert "without seed 0: no rate in common: 16.05 above 16.00 bits/frame" in found.note
