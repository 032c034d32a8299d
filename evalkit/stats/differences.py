"""A difference between two systems: how it is tested, corrected for its family, and called; everybody's one rule.

Test: Wilcoxon's signed-rank test on the means of the clusters' differences, Holm's correction, two effect sizes.
Measured error rates: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evalkit.stats.bootstrap import Interval, members, paired_difference

ALPHA = 0.05  # level of all tests
# Values up to which p is exact: counted over all signs, with and without ties.
MOST_EXACT, MOST_TIED = 50, 13
MARKS = {"better": "▲", "worse": "▼", "higher": "△", "lower": "▽"}

Name = TypeVar("Name", bound=Hashable)


def verdict_of(side: int, higher_is_better: bool | None) -> str:
    """What is said of a system that is surely higher (1) or lower (-1) than its baseline; "" for 0, which is open.

    "better" or "worse"; "higher" or "lower" by a metric without a known direction.
    """
    if side == 0:
        return ""
    if higher_is_better is None:
        return "higher" if side > 0 else "lower"
    return "better" if (side > 0) == higher_is_better else "worse"


def marked(verdict: str) -> str:
    """A verdict with its mark, such as "▲ better"; "" for none."""
    return f"{MARKS[verdict]} {verdict}" if verdict else ""


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (Scandinavian Journal of Statistics 1979), in the order of `p_values`.

    Marking what is < alpha keeps the chance of any false mark in the family at most alpha, however the tests depend.

    Raises:
        ValueError: a value is not in [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p values must be in [0, 1], got {list(p_values)}")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm_of(p_values: Mapping[Name, float | None], left_out: Collection[Name] = ()) -> dict[Name, float]:
    """`holm` over a family by name; NaN for what has no p, and for those `left_out`, which are no hypotheses."""
    tested = {name: p for name, p in p_values.items() if p is not None and not math.isnan(p) and name not in left_out}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {name: adjusted.get(name, math.nan) for name in p_values}


@dataclass(frozen=True)
class PairedComparison:
    """How one system differs from a baseline, over the utterances both have.

    Attributes:
        interval: of the mean difference over utterances, system minus baseline.
        units: independent units the test ranks: speakers where they are known, else utterances.
        p: of the two-sided Wilcoxon signed-rank test on the units' mean differences; 1 where all are zero, None for
            fewer than two units.
        effect_dz: Cohen's d_z, mean / standard deviation (n - 1) of the units' mean differences; 0 where all are zero,
            None for fewer than two units or where they are all equal and not zero.
        effect_rank: matched-pairs rank-biserial correlation in [-1, 1], (W+ - W-) / (W+ + W-) (Kerby, Comprehensive
            Psychology 2014); 0 where all are zero, None for fewer than two units.
    """

    interval: Interval
    units: int
    p: float | None
    effect_dz: float | None
    effect_rank: float | None

    def is_significant(self, p_adjusted: float, alpha: float = ALPHA) -> bool:
        """Whether `p_adjusted` (this comparison's p, corrected for its family) is < alpha and the interval excludes 0.

        Both are asked because they answer different questions: the test whether units lean to one side, the interval
        whether the mean over utterances is away from 0.
        """
        low, high = self.interval.low, self.interval.high
        return p_adjusted < alpha and low is not None and high is not None and not low <= 0 <= high

    def side(self, p_adjusted: float, alpha: float = ALPHA) -> int:
        """1 where the system is surely higher than the baseline, -1 where it is lower, 0 where that is open."""
        mean = self.interval.mean
        return 0 if mean is None or not self.is_significant(p_adjusted, alpha) else 1 if mean > 0 else -1

    def numbers(self, p_adjusted: float) -> dict[str, float]:
        """As columns, NaN where there is no number: difference, low, high, p, p_holm, effect_dz, effect_rank."""
        found = {
            "difference": self.interval.mean, "low": self.interval.low, "high": self.interval.high, "p": self.p,
            "p_holm": p_adjusted, "effect_dz": self.effect_dz, "effect_rank": self.effect_rank,
        }  # fmt: skip
        return {name: math.nan if number is None else number for name, number in found.items()}


def compare_paired(
    a: Mapping[str, float],
    b: Mapping[str, float],
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    clusters: Mapping[str, Hashable | None] | None = None,
) -> PairedComparison:
    """Compare system `a` with baseline `b`; arguments and errors as for `paired_difference`."""
    interval = paired_difference(a, b, seed=seed, resamples=resamples, level=level, clusters=clusters)
    shared = sorted(a.keys() & b.keys())
    differences = np.array([a[utterance] - b[utterance] for utterance in shared], np.float64)
    labels = None if clusters is None else [clusters.get(utterance) for utterance in shared]
    # Sorted: what is computed from them then depends on the values alone, to the last bit.
    units = np.sort([math.fsum(group) / len(group) for group in members(differences, labels)])
    if units.size < 2:
        return PairedComparison(interval, units.size, None, None, None)
    return PairedComparison(interval, units.size, wilcoxon_p(units), _effect_dz(units), _effect_rank(units))


def wilcoxon_p(units: NDArray[np.float64]) -> float:
    """Two-sided p of the Wilcoxon signed-rank test that `units` (n,), n >= 1, lie symmetrically about 0.

    Zeros are left out (Wilcoxon's own way); 1 if nothing is left. Exact up to 50 values without ties; with ties, exact
    over all signs up to 13 values, else the normal approximation with its correction for ties.
    """
    moved = units[units != 0]
    if moved.size == 0:
        return 1.0
    ranks = _ranks(np.abs(moved))
    positive = float(ranks[moved > 0].sum())
    tied = np.unique(ranks).size < moved.size
    if moved.size <= (MOST_TIED if tied else MOST_EXACT):
        return _exact_p(ranks, positive)
    from scipy.special import ndtr

    _, counts = np.unique(ranks, return_counts=True)
    n, ties = moved.size, float((counts**3 - counts).sum())
    deviation = math.sqrt((n * (n + 1) * (2 * n + 1) - ties / 2) / 24)
    return 2 * float(ndtr(-abs(positive - n * (n + 1) / 4) / deviation))


def _exact_p(ranks: NDArray[np.float64], positive: float) -> float:
    """Two-sided p of a sum of ranks over all signs of these, by counting the signs that give each sum."""
    doubled = np.rint(2 * ranks).astype(int)  # ranks of ties are halves
    counts = np.ones(1)  # exact in float64: at most 2**50
    for rank in doubled:
        longer = np.zeros(len(counts) + rank)
        longer[: len(counts)] += counts
        longer[rank:] += counts
        counts = longer
    place = round(2 * positive)
    return min(1.0, 2 * min(counts[: place + 1].sum(), counts[place:].sum()) / 2 ** len(ranks))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 1; ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _effect_dz(units: NDArray[np.float64]) -> float | None:
    mean, deviation = float(units.mean()), float(units.std(ddof=1))
    if deviation <= 1e-12 * abs(mean):  # equal but for rounding
        return 0.0 if mean == 0 else None
    return mean / deviation


def _effect_rank(units: NDArray[np.float64]) -> float:
    moved = units[units != 0]
    if moved.size == 0:
        return 0.0
    ranks = _ranks(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())
