"""From the blocks of a sweep to its points: which keys have which values."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.sweeps.families import nearest
from evalkit.sweeps.schema import Block, Draw, Matched, Sweep


@dataclass(frozen=True)
class Point:
    """Values of some keys, over the sweep's `set`.

    Attributes:
        values: key -> value, in the order in which they are applied.
        varied: the keys that tell it from its block's other points.
        seeds: of training.
        target: the rate it stands nearest to, where it was asked for by rate; bits per frame.
    """

    values: Mapping[str, Any]
    varied: tuple[str, ...]
    seeds: tuple[int, ...]
    target: float | None = None


def points(sweep: Sweep) -> Iterator[Point]:
    """All points, block after block.

    Raises:
        FamilyError: a family has no configuration near a rate.
    """
    for block in sweep.points:
        seeds = sweep.seeds if block.seeds is None else block.seeds
        for values, target in _values(block):
            yield Point({**sweep.set, **block.set, **values}, tuple(values), seeds, target)


def _values(block: Block) -> Iterator[tuple[dict[str, Any], float | None]]:
    if block.grid is not None:
        for combination in itertools.product(*block.grid.values()):
            yield dict(zip(block.grid, combination, strict=True)), None
    elif block.listed is not None:
        for values in block.listed:
            yield values, None
    elif block.random is not None:
        assert block.samples is not None
        for number in range(block.samples):
            # A stream of its own for each point: more samples leave the first ones as they were.
            generator = np.random.default_rng((block.seed, number))
            yield {key: _draw(generator, draw) for key, draw in block.random.items()}, None
    else:
        assert block.matched is not None
        yield from _matched(block.matched)


def _draw(generator: np.random.Generator, draw: Draw) -> Any:
    if draw.choice is not None:
        return copy.deepcopy(draw.choice[int(generator.integers(len(draw.choice)))])
    if draw.integer is not None:
        return int(generator.integers(draw.integer[0], draw.integer[1], endpoint=True))
    if draw.uniform is not None:
        return float(generator.uniform(*draw.uniform))
    assert draw.log_uniform is not None
    low, high = map(math.log, draw.log_uniform)
    return float(math.exp(generator.uniform(low, high)))


def _matched(matched: Matched) -> Iterator[tuple[dict[str, Any], float]]:
    for rate, family in itertools.product(matched.bits_per_frame, matched.families):
        for channels in matched.channels_of(family):
            found = nearest(family, rate, channels)
            yield {"bottleneck": {**found.bottleneck, **matched.options.get(family, {})}}, rate
