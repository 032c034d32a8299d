"""What a bottleneck says of its configurations: of each family, the one that is nearest to a rate."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Beyond this a codebook cannot be filled by the frames of a batch, and k-means on one starts most codes empty.
MAX_CODEBOOK = 2**14
MAX_LEVELS = 256
LEAST_LEVELS = 3  # with 2, every point of a tiling lies on its border

# (target in bits per frame, channels) -> options of the nearest configuration, without its name, and its rate.
Search = Callable[[float, int], tuple[dict[str, Any], float]]


@dataclass(frozen=True)
class Family:
    """Configurations of one bottleneck that differ in size alone.

    Attributes:
        name: as in tables: "rhombic", "d4", "fsq".
        nearest: the search; `channels` is for families that have a choice of them.
        option: which of the bottleneck's options, if any, says that it is this family: {"tiling": "rhombic"}.
        group: channels that come together, so that the numbers between are the same bottleneck again; 0 where channels
            are no choice.
        channels_per_level: of the option `levels`, where there is one.
    """

    name: str
    nearest: Search
    option: Mapping[str, str] = field(default_factory=dict)
    group: int = 0
    channels_per_level: int = 1


def even_levels(bits: float, groups: int, bits_of: Callable[[int], float]) -> tuple[list[int], float]:
    """Levels of each group, n or n + 1, whose bits add up nearest to `bits`, and that sum; `bits_of` grows with n.

    The groups with n + 1 come first.
    """
    candidates = range(LEAST_LEVELS + 1, MAX_LEVELS)
    above = bisect.bisect_right(candidates, bits, key=lambda level: groups * bits_of(level))
    level = LEAST_LEVELS + above  # the last whose bits do not exceed `bits`
    totals = [raised * bits_of(level + 1) + (groups - raised) * bits_of(level) for raised in range(groups + 1)]
    raised = min(range(groups + 1), key=lambda raised: abs(totals[raised] - bits))
    return [level + 1] * raised + [level] * (groups - raised), totals[raised]
