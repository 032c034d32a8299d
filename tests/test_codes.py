"""Code usage: the statistics against slow definitions, edge cases, and that bookkeeping loses nothing."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evalkit.stats.code_usage
from evalkit.stats.code_usage import CodeUsage, entropy_bits, frame_ids, split_words


def usage_of(sizes: tuple[int, ...], *utterances: np.ndarray) -> CodeUsage:
    usage = CodeUsage(sizes)
    for codes in utterances:
        usage.add(codes)
    return usage


def random_codes(sizes: tuple[int, ...], frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, size, frames) for size in sizes])


def slow_entropy(symbols: list[tuple[int, ...]]) -> float:
    return -sum(n / len(symbols) * math.log2(n / len(symbols)) for n in Counter(symbols).values())


def same(a: CodeUsage, b: CodeUsage) -> bool:
    tables = all(np.array_equal(x, y) for x, y in zip(a.counts, b.counts, strict=True))
    return tables and (a.distinct_frames, a.summary(75)) == (b.distinct_frames, b.summary(75))


def test_hand_computed_example() -> None:
    usage = usage_of((4, 2), np.array([[0, 0, 1, 2], [0, 0, 1, 1]]))
    assert usage.frames == 4
    assert [count.tolist() for count in usage.counts] == [[2, 1, 1, 0], [2, 2]]
    np.testing.assert_allclose(usage.utilization, [0.75, 1.0])
    np.testing.assert_allclose(usage.entropy, [1.5, 1.0])
    np.testing.assert_allclose(usage.normalized_entropy, [0.75, 1.0])
    np.testing.assert_allclose(usage.perplexity, [2**1.5, 2.0])
    assert usage.distinct_frames == 3
    assert usage.frame_utilization == 3 / 4  # min(8 possible, 4 seen)
    assert usage.bits_per_frame == 3
    assert usage.entropy_bitrate(50) == pytest.approx(125)
    assert usage.summary(50) == pytest.approx(
        {
            "frames_counted": 4,
            "utilization": 0.875,
            "frame_utilization": 0.75,
            "entropy": 2.5,
            "normalized_entropy": 2.5 / 3,
            "perplexity": (2**1.5 + 2) / 2,
            "entropy_bitrate": 125,
        }
    )


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4).flatmap(
        lambda sizes: st.tuples(
            st.just(tuple(sizes)),
            st.lists(st.tuples(*(st.integers(0, size - 1) for size in sizes)), min_size=1, max_size=60),
        )
    )
)
def test_statistics_equal_their_definitions(case: tuple[tuple[int, ...], list[tuple[int, ...]]]) -> None:
    sizes, frames = case
    usage = usage_of(sizes, np.array(frames).T)
    columns = list(zip(*frames, strict=True))
    np.testing.assert_allclose(usage.utilization, [len(set(c)) / s for c, s in zip(columns, sizes, strict=True)])
    np.testing.assert_allclose(usage.entropy, [slow_entropy([(v,) for v in c]) for c in columns], atol=1e-12)
    assert usage.frame_utilization == len(set(frames)) / min(math.prod(sizes), len(frames))
    assert usage.entropy_bitrate(1.0) <= usage.bits_per_frame + 1e-9


def test_entropy_weighs_usage_not_the_set_of_used_codes() -> None:
    skewed = usage_of((4,), np.array([[0] * 97 + [1, 2, 3]]))
    assert skewed.utilization == 1
    assert skewed.entropy == pytest.approx(0.2419, abs=1e-4)  # over the set it would be 2 bits


def test_frame_utilization_of_few_possible_frames_counts_against_those() -> None:
    usage = usage_of((2, 2), np.array([[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]]))
    assert usage.frame_utilization == 2 / 4


def test_whole_frames_beyond_64_bits_stay_distinct() -> None:
    """12 x 10 bits: frames that differ in one quantizer only, the first or the last, are different frames."""
    sizes = (1024,) * 12
    base = np.zeros((12, 24), np.int64)
    base[np.arange(12), np.arange(12)] = 512  # the top bit: the first that an overflow loses
    usage = usage_of(sizes, base)
    assert usage.distinct_frames == 13
    wide = usage_of((2**20,) * 9, random_codes((2**20,) * 9, 1000), random_codes((2**20,) * 9, 1000))
    assert wide.distinct_frames == 1000


def test_a_product_of_exactly_63_bits_does_not_overflow() -> None:
    sizes = (2**21,) * 3
    usage = usage_of(sizes, np.array([[2**21 - 1, 0], [2**21 - 1, 0], [2**21 - 1, 0]]))
    assert usage.distinct_frames == 2
    assert frame_ids(np.full((3, 1), 2**21 - 1), sizes, split_words(sizes)).tolist() == [[2**63 - 1]]


SMALL_BESIDE_HUGE = (5, 2**40, 7, 2**30, 3)  # two words: the first three, and the others


def test_codebooks_too_large_for_a_table_are_counted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (7, 50, 3)
    parts = [random_codes(sizes, frames, seed=frames) for frames in (40, 300, 17)]
    table = usage_of(sizes, *parts)
    monkeypatch.setattr(evalkit.stats.code_usage, "MAX_COUNTED", 49)
    sparse = usage_of(sizes, *parts)
    assert sparse.counts == []
    assert sparse.summary(75) == pytest.approx(table.summary(75), rel=1e-12)
    np.testing.assert_array_equal(sparse.utilization, table.utilization)
    np.testing.assert_allclose(sparse.entropy, table.entropy)
    assert sparse.summary(75) == usage_of(sizes, *reversed(parts)).summary(75)


def test_huge_codebooks_are_not_judged_by_few_frames() -> None:
    """Uniform codes of 2**40 would show an entropy of log2(frames) bits: a property of the sample."""
    codes = random_codes(SMALL_BESIDE_HUGE, 500)
    usage = usage_of(SMALL_BESIDE_HUGE, codes)
    small = usage_of((5, 7, 3), codes[::2])
    for name in ("utilization", "entropy", "perplexity", "normalized_entropy"):
        values = getattr(usage, name)
        np.testing.assert_array_equal(np.isnan(values), [False, True, False, True, False])
        np.testing.assert_allclose(values[::2], getattr(small, name))
    summary = usage.summary(75)
    assert summary.pop("frames_counted") == summary["frame_utilization"] * 500 == usage.distinct_frames == 500
    assert {name for name, value in summary.items() if value is None} == set(summary) - {"frame_utilization"}


def test_any_order_and_any_split_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (7, 5, 3)
    parts = [random_codes(sizes, frames, seed=frames) for frames in (1, 40, 0, 300, 17)]
    whole = usage_of(sizes, np.concatenate(parts, axis=1))
    monkeypatch.setattr(evalkit.stats.code_usage, "MIN_PENDING", 8)  # fold often
    assert same(whole, usage_of(sizes, *parts))
    assert same(whole, usage_of(sizes, *reversed(parts)))


def test_memory_grows_with_distinct_frames_not_with_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evalkit.stats.code_usage, "MIN_PENDING", 1000)
    usage = CodeUsage((4, 4))
    for seed in range(200):
        usage.add(random_codes((4, 4), 100, seed))
        assert usage._num_pending < 1000
    assert usage.frames == 20_000
    assert usage.distinct_frames == 16


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.array([[0, 3], [0, 0]]), r"quantizer 0: codes 0..3 are outside 0..2"),
        (np.array([[0, 0], [-1, 0]]), r"quantizer 1: codes -1..0 are outside 0..3"),
        (np.array([0, 1]), r"shape \(2,\), expected \(2, frames\)"),
        (np.array([[0, 1]]), r"shape \(1, 2\), expected \(2, frames\)"),
        (np.zeros((1, 2, 3), int), r"shape \(1, 2, 3\)"),
        (np.zeros((2, 3)), r"type float64, expected integers"),
        (np.zeros((2, 3), bool), r"type bool, expected integers"),
    ],
)
def test_wrong_codes_are_refused_and_leave_no_trace(codes: np.ndarray, message: str) -> None:
    usage = CodeUsage((3, 4))
    with pytest.raises(ValueError, match=message):
        usage.add(codes)
    assert same(usage, CodeUsage((3, 4)))


def test_codes_of_the_full_grid_do_not_fit_the_table_of_the_level_below() -> None:
    """The published table holds 61 points for level 7, where the rhombic grid has 85."""
    with pytest.raises(ValueError, match=r"outside 0..60"):
        usage_of((61,), np.array([[84]]))
    usage_of((85,), np.array([[84]]))


def test_small_integer_types_do_not_wrap() -> None:
    usage = usage_of((200, 200), np.full((2, 3), 199, np.uint8))
    assert [count[199] for count in usage.counts] == [3, 3]
    assert usage.distinct_frames == 1


@pytest.mark.parametrize("sizes", [(3, 4), ()])
def test_nothing_to_count_gives_none(sizes: tuple[int, ...]) -> None:
    usage = CodeUsage(sizes)
    if not sizes:
        usage.add(np.empty((0, 25), np.int64))  # a continuous bottleneck
    for name in ("utilization", "entropy", "normalized_entropy", "perplexity", "frame_utilization"):
        assert getattr(usage, name) is None
    summary = usage.summary(75)
    assert summary.pop("frames_counted") == (0 if sizes else 25)
    assert set(summary.values()) == {None}


def test_a_quantizer_of_one_code_carries_nothing() -> None:
    usage = usage_of((1,), np.zeros((1, 5), int))
    assert usage.entropy == 0
    assert np.isnan(usage.normalized_entropy).all()
    assert usage.summary(75)["normalized_entropy"] is None


def test_unknown_frame_rate_gives_no_bit_rate() -> None:
    assert usage_of((3,), np.array([[0, 1]])).summary(None)["entropy_bitrate"] is None


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        CodeUsage((4, 0))


def test_entropy_of_no_counts_is_nan() -> None:
    assert math.isnan(entropy_bits(np.zeros(4, np.int64)))
