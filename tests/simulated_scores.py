"""Test sets with a known true mean, for coverage and error rates."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

# Simulated test sets: (cluster sizes, spread of clusters in units of the spread within them, a draw of n values of
# mean 0 and spread 1). Typical are 40 speakers, as in LibriSpeech test-clean, and subsets of it.
SKEWED_SPREAD = math.sqrt(8 * 2 / 11) / 10


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal(n)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Left-skewed like STOI."""
    return (rng.beta(8, 2, n) - 0.8) / SKEWED_SPREAD


Draw = Callable[[np.random.Generator, int], np.ndarray]
SIZES = np.random.default_rng(0)
TYPICAL: dict[str, tuple[np.ndarray, float, Draw]] = {
    "40 utterances, normal": (np.ones(40, int), 0, normal),
    "40 utterances, skewed": (np.ones(40, int), 0, skewed),
    "40 speakers x 47..100, skewed": (SIZES.integers(47, 101, 40), 0.7, skewed),
    "40 speakers x 1..8, normal": (SIZES.integers(1, 9, 40), 1.0, normal),
    "27 speakers x 1..4, skewed": (np.array([1] * 11 + [2] * 6 + [3] * 6 + [4] * 4), 0.7, skewed),
    "20 speakers x 10, normal": (np.full(20, 10), 1.0, normal),
    "20 speakers x 1..8, normal": (SIZES.integers(1, 9, 20), 1.0, normal),
}
SMALL: dict[str, tuple[np.ndarray, float, Draw]] = {
    "10 utterances, normal": (np.ones(10, int), 0, normal),
    "10 utterances, skewed": (np.ones(10, int), 0, skewed),
    "6 speakers x 10, normal": (np.full(6, 10), 1.0, normal),
    "6 speakers x 1..8, normal": (SIZES.integers(1, 9, 6), 1.0, normal),
}


def simulated(rng: np.random.Generator, sizes: np.ndarray, between: float, draw: Draw) -> np.ndarray:
    """One test set of true mean 0: a value an utterance, clusters one after another."""
    return np.repeat(between * draw(rng, len(sizes)), sizes) + draw(rng, int(sizes.sum()))
