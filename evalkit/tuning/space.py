"""What is searched: families and channels, each pair with the one configuration that is nearest to the target rate."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evalkit.sweeps.families import MAX_LEVELS, Configuration, FamilyError, nearest
from q2d2.errors import UserError, did_you_mean
from q2d2.lattices import LATTICES
from q2d2.tilings import TILINGS, build_tiling

CHANNELS = range(2, 13, 2)
# Channels come in whole groups: the numbers between would be the same bottleneck again.
GROUPS = {**dict.fromkeys(TILINGS, 2), **{name: lattice[0] for name, lattice in LATTICES.items()}, "fsq": 1}
BASELINE_FAMILY, BASELINE_CHANNELS = "rhombic", 6  # the configuration that Q2D2's paper reports


class TuneError(UserError, ValueError):
    """A search that cannot be made or gone on with; the message names the value and the way out."""


@dataclass(frozen=True)
class Choice:
    """A point of the space.

    Attributes:
        family: tiling, lattice or "fsq".
        channels: of the bottleneck (the paper's d).
        bottleneck: {"name": ..., options}.
        bits_per_frame: nominal, exact; at most half a bit from the target.
    """

    family: str
    channels: int
    bottleneck: dict[str, Any]
    bits_per_frame: float

    @property
    def key(self) -> tuple[str, int]:
        """What it is found by."""
        return self.family, self.channels


@dataclass(frozen=True)
class Space:
    """All that is searched at one rate.

    Attributes:
        target: bits per frame.
        choices: by family, then channels.
        left_out: family -> numbers of channels in which it has nothing within half a bit of the target.
    """

    target: float
    choices: tuple[Choice, ...]
    left_out: Mapping[str, tuple[int, ...]]

    @cached_property
    def by_key(self) -> dict[tuple[str, int], Choice]:
        """(family, channels) -> point."""
        return {choice.key: choice for choice in self.choices}


def search_space(target: float, families: Sequence[str] | None = None) -> Space:
    """The points of `families` (all that have channels to choose, for None) at `target` bits per frame.

    Raises:
        TuneError: the target is no positive number, a family is not known or cannot be searched, or none reaches the
            target.
    """
    if not (math.isfinite(target) and target > 0):
        raise TuneError(f"--bits-per-frame {target:g}: expected a positive number")
    names = list(GROUPS) if families is None else list(dict.fromkeys(families))
    for name in names:
        if name not in GROUPS:
            raise TuneError(f"--families: {name!r} is not searched.{did_you_mean(name, GROUPS)} Known: {_known()}.")
    if not names:
        raise TuneError(f"--families: none given. Known: {_known()}.")
    choices: list[Choice] = []
    left_out: dict[str, tuple[int, ...]] = {}
    for name in names:
        for channels in _channels(name):
            try:
                found = _nearest(name, target, channels)
            except FamilyError:
                left_out[name] = (*left_out.get(name, ()), channels)
                continue
            choices.append(Choice(name, channels, found.bottleneck, found.bits_per_frame))
    if not choices:
        raise TuneError(
            f"--bits-per-frame {target:g}: out of reach of {', '.join(names)} in {CHANNELS[0]} to {CHANNELS[-1]} "
            "channels (within half a bit); choose another rate, or see `evalkit sweep nearest`"
        )
    return Space(target, tuple(choices), left_out)


def baseline_choice(target: float) -> Choice:
    """The published rhombic configuration at `target` bits per frame: in 6 channels, or as near to 6 as reach it.

    At 19.23 bits per frame it is exactly the published one, seven levels in each channel.

    Raises:
        TuneError: none reaches it.
    """
    for channels in sorted(_channels(BASELINE_FAMILY), key=lambda number: abs(number - BASELINE_CHANNELS)):
        try:
            found = _nearest(BASELINE_FAMILY, target, channels)
        except FamilyError:
            continue
        return Choice(BASELINE_FAMILY, channels, found.bottleneck, found.bits_per_frame)
    raise TuneError(
        f"--bits-per-frame {target:g}: no {BASELINE_FAMILY} configuration has it, so there is no baseline; choose "
        "another rate"
    )


def _nearest(family: str, target: float, channels: int) -> Configuration:
    """`nearest`, without its search through hundreds of large tilings where even the largest is too small.

    Raises:
        FamilyError: nothing is near.
    """
    if family in TILINGS and channels / GROUPS[family] * _most_bits(family) < target - 0.5:
        raise FamilyError(f"{family} with {channels} channels has nothing near {target:g} bits per frame")
    return nearest(family, target, channels)


@functools.cache
def _most_bits(tiling: str) -> float:
    """Of a pair of channels."""
    return build_tiling(tiling, MAX_LEVELS, MAX_LEVELS).bits


def _channels(family: str) -> Iterator[int]:
    return (channels for channels in CHANNELS if channels % GROUPS[family] == 0)


def _known() -> str:
    return ", ".join(GROUPS)
