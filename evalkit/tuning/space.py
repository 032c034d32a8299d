"""What is searched: families and channels, each pair with the one configuration that is nearest to the target rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evalkit.sweeps.families import FamilyError, families, nearest
from q2d2.errors import UserError, did_you_mean

CHANNELS = range(2, 13, 2)
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


def search_space(target: float, chosen: Sequence[str] | None = None) -> Space:
    """The points of the families `chosen` (all that have channels to choose, for None) at `target` bits per frame.

    Raises:
        TuneError: the target is no positive number, a family is not known or cannot be searched, or none reaches the
            target.
    """
    if not (math.isfinite(target) and target > 0):
        raise TuneError(f"--bits-per-frame {target:g}: expected a positive number")
    known = searched_families()
    names = list(known) if chosen is None else list(dict.fromkeys(chosen))
    for name in names:
        if name not in known:
            raise TuneError(f"--families: {name!r} is not searched.{did_you_mean(name, known)} Known: {_known()}.")
    if not names:
        raise TuneError(f"--families: none given. Known: {_known()}.")
    choices: list[Choice] = []
    left_out: dict[str, tuple[int, ...]] = {}
    for name in names:
        for channels in _channels(name):
            try:
                found = nearest(name, target, channels)
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
            found = nearest(BASELINE_FAMILY, target, channels)
        except FamilyError:
            continue
        return Choice(BASELINE_FAMILY, channels, found.bottleneck, found.bits_per_frame)
    raise TuneError(
        f"--bits-per-frame {target:g}: no {BASELINE_FAMILY} configuration has it, so there is no baseline; choose "
        "another rate"
    )


def searched_families() -> dict[str, int]:
    """Families with channels to choose -> channels that come together: the numbers between are no other bottleneck."""
    return {name: family.group for name, (_, family) in families().items() if family.group}


def _channels(family: str) -> Iterator[int]:
    return (channels for channels in CHANNELS if channels % searched_families()[family] == 0)


def _known() -> str:
    return ", ".join(searched_families())
