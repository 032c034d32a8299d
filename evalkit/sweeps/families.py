"""Families of bottlenecks as a curve over the rate: the configuration of each that is nearest to a target rate."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from q2d2.errors import UserError, did_you_mean
from q2d2.lattices import LATTICES, Lattice
from q2d2.tilings import TILINGS, build_tiling

# Beyond this a codebook cannot be filled by the frames of a batch, and k-means on one starts most codes empty.
MAX_CODEBOOK = 2**14
MAX_STAGE_BITS = 10  # the size of codebooks of SoundStream, Encodec and DAC
MAX_LEVELS = 256
LEAST_LEVELS = 3  # with 2, every point of a tiling lies on its border


class FamilyError(UserError, ValueError):
    """A family that is not known, or that cannot reach a rate; the message says which and the way out."""


@dataclass(frozen=True)
class Configuration:
    """One bottleneck of a family.

    Attributes:
        family: its name in FAMILIES.
        bottleneck: {"name": ..., **options}.
        bits_per_frame: nominal, exact: sum of log2 of the codebook sizes.
    """

    family: str
    bottleneck: dict[str, Any]
    bits_per_frame: float


# (target in bits per frame, channels) -> the nearest configuration's options and its rate.
Search = Callable[[float, int], tuple[dict[str, Any], float]]


def nearest(family: str, bits_per_frame: float, channels: int = 6) -> Configuration:
    """The configuration of `family` whose nominal rate is nearest to `bits_per_frame`.

    Of a family with levels, groups of channels have equal levels n or, the first of them, n + 1: as even as the rate
    allows. VQ has one codebook, RVQ as few as hold 10 bits each, all of one size.

    Args:
        family: a tiling of `q2d2.tilings`, a lattice of `q2d2.lattices`, "fsq", "vq" or "rvq".
        bits_per_frame: the target, > 0.
        channels: of the bottleneck (the paper's d), where the family has a choice: tilings take pairs, lattices whole
            groups (D4 in 6 channels becomes two groups: 8), VQ and RVQ ignore it.

    Raises:
        FamilyError: no such family, or none of its configurations is near (more than half a bit off).
    """
    if family not in FAMILIES:
        raise FamilyError(f"no family {family!r}.{did_you_mean(family, FAMILIES)} Known: {', '.join(FAMILIES)}.")
    if not (math.isfinite(bits_per_frame) and bits_per_frame > 0):
        raise FamilyError(f"bits_per_frame {bits_per_frame}: expected a positive number")
    if channels < 1:
        raise FamilyError(f"channels {channels}: expected at least 1")
    bottleneck, bits = FAMILIES[family](bits_per_frame, channels)
    if abs(bits - bits_per_frame) > 0.5:
        raise FamilyError(
            f"{family} with {channels} channels has nothing near {bits_per_frame:g} bits per frame, the nearest has "
            f"{bits:.2f}: choose another rate or number of channels, or leave the family out"
        )
    return Configuration(family, bottleneck, bits)


def family_of(bottleneck: Mapping[str, Any]) -> str:
    """The family a bottleneck belongs to: the tiling of Q2D2, the lattice of `lattice`, else its name."""
    kind = {"q2d2": "tiling", "lattice": "lattice"}.get(str(bottleneck["name"]))
    defaults = {"tiling": "rhombic", "lattice": "d4"}
    return str(bottleneck["name"]) if kind is None else str(bottleneck.get(kind, defaults[kind]))


def _by_levels(bits: float, groups: int, bits_of: Callable[[int], float]) -> tuple[list[int], float]:
    """Levels of each group, n or n + 1, whose bits add up nearest to `bits`; `bits_of` grows with the level."""
    candidates = range(LEAST_LEVELS + 1, MAX_LEVELS)
    above = bisect.bisect_right(candidates, bits, key=lambda level: groups * bits_of(level))
    level = LEAST_LEVELS + above  # the last whose bits do not exceed `bits`
    totals = [raised * bits_of(level + 1) + (groups - raised) * bits_of(level) for raised in range(groups + 1)]
    raised = min(range(groups + 1), key=lambda raised: abs(totals[raised] - bits))
    return [level + 1] * raised + [level] * (groups - raised), totals[raised]


def _tiling(name: str) -> Search:
    @functools.cache
    def pair(level: int) -> float:
        return build_tiling(name, level, level).bits

    def search(bits: float, channels: int) -> tuple[dict[str, Any], float]:
        levels, total = _by_levels(bits, max(1, round(channels / 2)), pair)
        return {"name": "q2d2", "tiling": name, "levels": [level for level in levels for _ in range(2)]}, total

    return search


def _lattice(name: str) -> Search:
    @functools.cache
    def group(level: int) -> float:
        return Lattice(name, level).bits

    def search(bits: float, channels: int) -> tuple[dict[str, Any], float]:
        levels, total = _by_levels(bits, max(1, round(channels / LATTICES[name][0])), group)
        return {"name": "lattice", "lattice": name, "levels": levels}, total

    return search


def _fsq(bits: float, channels: int) -> tuple[dict[str, Any], float]:
    levels, total = _by_levels(bits, channels, math.log2)
    return {"name": "fsq", "levels": levels}, total


def _vq(bits: float, channels: int) -> tuple[dict[str, Any], float]:
    size = min(MAX_CODEBOOK, max(2, round(2**bits)))
    return {"name": "vq", "codebook_size": size}, math.log2(size)


def _rvq(bits: float, channels: int) -> tuple[dict[str, Any], float]:
    stages = max(1, math.ceil(bits / MAX_STAGE_BITS - 1e-9))
    size = max(2, round(2 ** (bits / stages)))
    return {"name": "rvq", "codebook_size": size, "num_quantizers": stages}, stages * math.log2(size)


# A further family is a line here.
FAMILIES: dict[str, Search] = {
    **{name: _tiling(name) for name in TILINGS},
    **{name: _lattice(name) for name in LATTICES},
    "fsq": _fsq,
    "rvq": _rvq,
    "vq": _vq,
}
