"""An axis: its ends, whether it is logarithmic, its ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, both above 0 where it is logarithmic."""

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def around(cls, values: Iterable[float], share: float) -> Self:
        """Linear, around the finite ones of `values` with room for `share` of their span at both ends."""
        finite = [value for value in values if math.isfinite(value)]
        low, high = min(finite), max(finite)
        room = share * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - room, high + room)

    @classmethod
    def logarithmic_around(cls, low: float, high: float, factor: float) -> Self:
        return cls(low / factor, high * factor, True)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def share(self, value: float) -> float:
        """Where `value` is between `low` (0) and `high` (1)."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the axis, at most about `most`."""
        from matplotlib.ticker import MaxNLocator

        if self.logarithmic:
            return _log_ticks(self.low, self.high, most)
        # To the last digits that matter: a tick's label is to be as short as it can be.
        found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        slack = 1e-9 * (self.high - self.low)
        return [float(tick) for tick in found if self.low - slack <= tick <= self.high + slack]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """matplotlib's LogLocator labels powers alone, of which less than two decades hold one or none."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) <= most + 1:
            return found or [low, high]
    return found[:: math.ceil(len(found) / most)]
