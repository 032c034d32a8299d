"""A pseudo-random order of a range: each number once, decided by the key, in no memory to speak of."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q2d2.training.permutation import Permutation


@given(size=st.integers(1, 3000), key=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)))
def test_every_number_comes_once(size: int, key: tuple[int, int]) -> None:
    order = Permutation(size, key)
    assert sorted(order[index] for index in range(size)) == list(range(size))


@pytest.mark.parametrize("size", [2**power + off for power in (1, 2, 7, 12) for off in (-1, 0, 1)])
def test_every_number_comes_once_around_powers_of_two(size: int) -> None:
    order = Permutation(size, (1,))
    assert sorted(order[index] for index in range(size)) == list(range(size))


@given(size=st.integers(10**6, 10**15), index=st.integers(0, 10**6 - 1))
def test_huge_sizes_stay_inside_and_apart(size: int, index: int) -> None:
    order = Permutation(size, (3,))
    here = [order[place] for place in range(index, min(index + 20, size))]
    assert all(0 <= number < size for number in here)
    assert len(set(here)) == len(here)


def test_the_key_alone_decides() -> None:
    one, same, other = (Permutation(1000, key) for key in ((5, 1), (5, 1), (5, 2)))
    numbers = [one[index] for index in range(1000)]
    assert (
        numbers == [same[index] for index in range(1000)] == [pickle.loads(pickle.dumps(one))[i] for i in range(1000)]
    )
    equal = sum(number == other[index] for index, number in enumerate(numbers))
    assert equal < 10  # 1 is expected of two unrelated orders


@pytest.mark.parametrize("size", [3, 24, 60])
def test_over_the_keys_every_place_holds_every_number_equally_often(size: int) -> None:
    trials = 3000
    counts = np.zeros((size, size))
    for key in range(trials):
        order = Permutation(size, (key,))
        for place in range(size):
            counts[place, order[place]] += 1
    expected = trials / size
    # Of random orders the statistic has mean size * (size - 1) and a deviation of about sqrt(2) * size.
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - size * (size - 1)) < 4 * np.sqrt(2) * size


def test_neighbours_are_scattered() -> None:
    size = 10_000
    order = Permutation(size, (0,))
    steps = np.diff([order[index] for index in range(size)])
    assert np.abs(steps).mean() == pytest.approx(size / 3, rel=0.03)  # of two random places
    assert abs(np.corrcoef(steps[:-1], steps[1:])[0, 1] + 0.5) < 0.05  # as of independent draws


def test_places_outside_are_refused() -> None:
    with pytest.raises(IndexError, match="place 5 of a permutation of 5"):
        Permutation(5, (0,))[5]
    with pytest.raises(IndexError, match="place -1"):
        Permutation(5, (0,))[-1]
    with pytest.raises(ValueError, match="size=0"):
        Permutation(0, (0,))
