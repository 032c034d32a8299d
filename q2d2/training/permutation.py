"""A pseudo-random order of any number of things, worked out one by one instead of being kept.

A Feistel network on the bits of the index, its rounds keyed by a seed, maps the next power of two onto itself; what
falls beyond the size is mapped again until it falls inside ("cycle walking": Black and Rogaway, Ciphers with arbitrary
finite domains, 2002).
"""

from __future__ import annotations

import numpy as np

ROUNDS = 6
_WORD = 2**64 - 1


class Permutation:
    """The numbers 0 to size - 1 in an order that `key` decides, in constant memory and about 10 microseconds each.

    Args:
        size: how many, at least 1.
        key: integers >= 0; equal ones give the same order on every machine.

    Raises:
        ValueError: size < 1.
    """

    def __init__(self, size: int, key: tuple[int, ...]) -> None:
        if size < 1:
            raise ValueError(f"size={size}: a permutation needs at least 1 element")
        bits = max(2, (size - 1).bit_length())
        self.size = size
        self._low_bits = bits // 2
        self._low_mask = 2 ** (bits // 2) - 1
        self._high_mask = 2 ** (bits - bits // 2) - 1
        # A spawn key sets the rounds apart from generators that are seeded with the same numbers.
        state = np.random.SeedSequence(key, spawn_key=(ROUNDS,)).generate_state(2 * ROUNDS, np.uint64)
        self._rounds = [(int(one), int(other)) for one, other in state.reshape(ROUNDS, 2)]

    def __getitem__(self, index: int) -> int:
        """The number at place `index` of the order.

        Raises:
            IndexError: index is not in 0 to size - 1.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"place {index} of a permutation of {self.size}")
        value = index
        while True:
            low, high = value & self._low_mask, value >> self._low_bits
            for one, other in self._rounds:
                high ^= _mixed(low + one) & self._high_mask
                low ^= _mixed(high + other) & self._low_mask
            value = high << self._low_bits | low
            if value < self.size:
                return value


def _mixed(value: int) -> int:
    """64 bits that all depend on all of `value`: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    value &= _WORD
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _WORD
    return value ^ value >> 31
