"""The families of all bottlenecks, each as a curve over the rate."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from q2d2.bottleneck import BOTTLENECKS
from q2d2.errors import UserError, did_you_mean
from q2d2.families import Family
from q2d2.registry import UnknownName


class FamilyError(UserError, ValueError):
    """A family that is not known, or that cannot reach a rate; the message says which and the way out."""


@dataclass(frozen=True)
class Configuration:
    """One bottleneck of a family.

    Attributes:
        family: its name.
        bottleneck: {"name": ..., **options}.
        bits_per_frame: nominal, exact: sum of log2 of the codebook sizes.
    """

    family: str
    bottleneck: dict[str, Any]
    bits_per_frame: float


@functools.cache
def families() -> dict[str, tuple[str, Family]]:
    """Family -> the name of its bottleneck, and what that says of it; of all registered ones that can be imported."""
    found: dict[str, tuple[str, Family]] = {}
    for name in BOTTLENECKS.names():
        with suppress(ImportError):
            for family in BOTTLENECKS.resolve(name).families():
                found.setdefault(family.name, (name, family))
    return found


def family_names() -> list[str]:
    """What a bottleneck can be in tables: its family, or its own name where it has none."""
    named = {name for name, _ in families().values()}
    return list(dict.fromkeys([*families(), *(name for name in BOTTLENECKS.names() if name not in named)]))


def nearest(family: str, bits_per_frame: float, channels: int = 6) -> Configuration:
    """The configuration of `family` whose nominal rate is nearest to `bits_per_frame`.

    Of a family with levels, groups of channels have equal levels n or, the first of them, n + 1: as even as the rate
    allows. VQ has one codebook, RVQ as few as hold 10 bits each, all of one size.

    Args:
        family: in `families()`: a tiling of `q2d2.tilings`, a lattice of `q2d2.lattices`, "fsq", "vq", "rvq", or one of
            a bottleneck of another package.
        bits_per_frame: the target, > 0.
        channels: of the bottleneck (the paper's d), where the family has a choice: tilings take pairs, lattices whole
            groups (D4 in 6 channels becomes two groups: 8), VQ and RVQ ignore it.

    Raises:
        FamilyError: no such family, or none of its configurations is near (more than half a bit off).
    """
    if family not in families():
        raise FamilyError(f"no family {family!r}.{did_you_mean(family, families())} Known: {', '.join(families())}.")
    if not (math.isfinite(bits_per_frame) and bits_per_frame > 0):
        raise FamilyError(f"bits_per_frame {bits_per_frame}: expected a positive number")
    if channels < 1:
        raise FamilyError(f"channels {channels}: expected at least 1")
    bottleneck, known = families()[family]
    options, bits = known.nearest(bits_per_frame, channels)
    if abs(bits - bits_per_frame) > 0.5:
        raise FamilyError(
            f"{family} with {channels} channels has nothing near {bits_per_frame:g} bits per frame, the nearest has "
            f"{bits:.2f}: choose another rate or number of channels, or leave the family out"
        )
    return Configuration(family, {"name": bottleneck, **known.option, **options}, bits)


def family_of(bottleneck: Mapping[str, Any]) -> str:
    """The family a bottleneck belongs to: the tiling of Q2D2, the lattice of `lattice`, else its name."""
    name = str(bottleneck["name"])
    of_this = [family for owner, family in families().values() if owner == name]
    if len(of_this) == 1:
        return of_this[0].name
    for family in of_this:
        if all(bottleneck.get(key, _default(name, key)) == value for key, value in family.option.items()):
            return family.name
    return str(next((bottleneck[key] for family in of_this for key in family.option if key in bottleneck), name))


@functools.cache
def _default(bottleneck: str, option: str) -> Any:
    with suppress(UnknownName):
        return inspect.signature(BOTTLENECKS.resolve(bottleneck)).parameters[option].default
    return None
