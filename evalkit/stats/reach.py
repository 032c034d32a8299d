"""What a design could never mark, however large the difference: said before anything is trained, and beside marks."""

from __future__ import annotations

import math

from evalkit.stats.differences import ALPHA

# Seeds from which on nothing is said: five need less than six standard errors of seeds for one of ten comparisons.
ENOUGH_SEEDS = 5


def smallest_p(units: int, comparisons: int) -> float:
    """The smallest p of Wilcoxon's test of `units` differences, corrected by Holm for `comparisons`."""
    return min(1.0, comparisons * 2 * 0.5**units)


def few_units(units: int, unit: str, comparisons: int) -> str:
    """A sentence where nothing could be marked with so many `unit`s ("speaker", "utterance"); else nothing."""
    if comparisons < 1 or smallest_p(units, comparisons) < ALPHA:
        return ""
    needed = math.floor(math.log2(2 * comparisons / ALPHA)) + 1
    return (
        f"Only {units} {unit}{'' if units == 1 else 's'}: no change, however large, could be significant; "
        f"{comparisons} comparison{'' if comparisons == 1 else 's'} need{'s' if comparisons == 1 else ''} {needed}."
    )


def few_seeds(seeds: int, comparisons: int) -> str:
    """A sentence where nothing, or hardly anything, could be marked with so many seeds; else nothing."""
    from scipy import special

    if seeds == 1:
        return (
            "Only 1 seed: no difference, however large, could be marked, as another training of the same system may "
            "come out otherwise."
        )
    if seeds >= ENOUGH_SEEDS:
        return ""
    times = [float(special.stdtrit(n - 1, 1 - ALPHA / 2 / max(1, comparisons))) for n in (seeds, ENOUGH_SEEDS)]
    return (
        f"Only {seeds} seeds: one of {comparisons} comparison{'' if comparisons == 1 else 's'} is marked where a "
        f"difference is {times[0]:.3g} times its standard error over seeds at least; {ENOUGH_SEEDS} seeds need "
        f"{times[1]:.2g} times."
    )
