"""Which sizes of a codec are plausible, checked before anything takes their memory: the numbers may be a stranger's."""

from __future__ import annotations

import math
import numbers
from typing import Any

from q2d2.errors import shown

# Of a whole codec: 4 GiB in float32, some ten times the published one.
MAX_PARAMETERS = 2**30
# Codes times channels of all codebooks of a bottleneck: 256 MiB in float32, and as much for their averages.
MAX_CODEBOOK_VALUES = 2**26
# Points of all grids of a bottleneck.
MAX_POINTS = 2**23
# Channels, groups or quantizers of a bottleneck.
MAX_CHANNELS = 1024
# Channels of a layer.
MAX_WIDTH = 2**16


def require_integer(name: str, value: Any, low: int, high: int) -> None:
    """Refuse what is no integer from `low` to `high`; true and false are none.

    Raises:
        ValueError: naming `name`, the value and the limits.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= int(value) <= high:
        raise ValueError(f"{name} {shown(value)}: expected an integer >= {low}, at most {high:,}")


def require_number(name: str, value: Any, low: float, high: float, expected: str) -> None:
    """Refuse what is no number from `low` to `high`: text, NaN, an infinity.

    Raises:
        ValueError: naming `name`, the value and what was `expected`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"{name} {shown(value)}: expected {expected}")


def require_list(name: str, values: Any, most: int = MAX_CHANNELS) -> None:
    """Refuse what is no list, or one of more than `most` entries; these are the caller's to check.

    Raises:
        ValueError: naming `name`, what was found and the limit.
    """
    if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__len__"):
        raise ValueError(f"{name} {shown(values)}: expected a list of integers")
    if len(values) > most:
        raise ValueError(f"{name}: a list of {len(values):,}, expected at most {most:,}")


def require_size(what: str, factors: list[int], most: int) -> None:
    """Refuse a product beyond `most`.

    Raises:
        ValueError: naming `what`, the product and the limit.
    """
    if (size := math.prod(map(int, factors))) > most:
        raise ValueError(f"{what}: {size:,} in all, expected at most {most:,}")
