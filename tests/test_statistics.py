"""Bootstrap intervals: coverage on simulated data, clustering, seeds, order, edge cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import evalkit.stats.bootstrap
from evalkit.stats.bootstrap import Interval, bootstrap_mean, paired_difference
from tests.simulated_scores import SMALL, TYPICAL, Draw, normal, simulated, skewed


def test_mean_and_interval_of_a_large_normal_sample() -> None:
    values = np.random.default_rng(0).normal(3.0, 0.5, 2000)
    interval = bootstrap_mean(values)
    expected = stats.t.interval(0.95, 1999, values.mean(), stats.sem(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.n == 2000
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1.5e-3)
    assert interval.half_width == pytest.approx((interval.high - interval.low) / 2)


def coverage(sizes: np.ndarray, between: float, draw: Draw, trials: int) -> float:
    rng = np.random.default_rng(1)
    speakers = np.repeat(np.arange(len(sizes)), sizes).tolist() if sizes.max() > 1 else None
    covered = 0
    for seed in range(trials):
        values = simulated(rng, sizes, between, draw)
        interval = bootstrap_mean(values, seed=seed, clusters=speakers)
        covered += interval.low <= 0 <= interval.high
    return covered / trials


@pytest.mark.parametrize("name", TYPICAL)
def test_intervals_cover_as_often_as_they_say(name: str) -> None:
    share = coverage(*TYPICAL[name], trials=1000)
    print(f"coverage {name}: {100 * share:.1f} %")
    assert 0.93 <= share <= 0.97


@pytest.mark.parametrize("name", SMALL)
def test_intervals_of_few_units_are_little_too_short(name: str) -> None:
    """Plain percentiles of 10 values cover about 89 %, of 6 speakers 85 %."""
    share = coverage(*SMALL[name], trials=1000)
    print(f"coverage {name}: {100 * share:.1f} %")
    assert 0.915 <= share <= 0.97


@pytest.mark.parametrize("name", ["40 utterances, skewed", "40 speakers x 1..8, normal", "27 speakers x 1..4, skewed"])
def test_intervals_of_paired_differences_cover_as_often_as_they_say(name: str) -> None:
    """What makes an utterance hard is shared, and larger than what the systems differ in."""
    sizes, between, draw = TYPICAL[name]
    speakers = np.repeat(np.arange(len(sizes)), sizes).tolist()
    ids = [f"u{number}" for number in range(len(speakers))]
    clusters = dict(zip(ids, speakers, strict=True)) if sizes.max() > 1 else None
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(1000):
        baseline = 3 * simulated(rng, sizes, between, draw)
        system = baseline + 0.2 + simulated(rng, sizes, between, draw)
        a, b = (dict(zip(ids, values.tolist(), strict=True)) for values in (system, baseline))
        interval = paired_difference(a, b, seed=seed, clusters=clusters)
        covered += interval.low <= 0.2 <= interval.high
    print(f"coverage of differences, {name}: {covered / 10:.1f} %")
    assert 0.93 <= covered / 1000 <= 0.97


def test_utterances_of_few_speakers_are_not_independent() -> None:
    """Ignoring speakers, the interval would hold 95 % of nothing: 20 speakers x 10 utterances."""
    sizes, between, draw = TYPICAL["20 speakers x 10, normal"]
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        interval = bootstrap_mean(simulated(rng, sizes, between, draw), seed=seed, resamples=500)
        covered += interval.low <= 0 <= interval.high
    assert covered / 200 < 0.7


def test_unequal_clusters_count_as_fewer() -> None:
    """One speaker of 20 utterances beside 11 of 4: 64 ** 2 / 576 = 7.1 speakers decide, not 12."""
    rng = np.random.default_rng(10)
    sizes = np.array([20] + [4] * 11)
    values = simulated(rng, sizes, 1.0, normal)
    interval = bootstrap_mean(values, clusters=np.repeat(np.arange(12), sizes).tolist(), resamples=20_000)
    drawn = rng.integers(0, 12, (20_000, 12))
    sums = np.add.reduceat(values, np.cumsum(sizes) - sizes)
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    effective = 64**2 / 576
    tail = stats.norm.cdf(math.sqrt(effective / (effective - 1)) * stats.t.ppf(0.025, effective - 1))
    expected = np.quantile(means, [tail, 1 - tail])
    assert [interval.low, interval.high] == pytest.approx(expected, abs=0.02 * (expected[1] - expected[0]))


def test_equal_clusters_count_as_they_are() -> None:
    means = np.random.default_rng(10).normal(size=12)
    equal = bootstrap_mean(np.repeat(means, 4), clusters=np.repeat(np.arange(12), 4).tolist())
    single = bootstrap_mean(means)
    assert (equal.low, equal.high) == pytest.approx((single.low, single.high))


def test_one_huge_cluster_leaves_nothing_but_the_range() -> None:
    dominated = bootstrap_mean([0.0] * 500 + [1.0] * 5, clusters=["a"] * 500 + list("bcdef"))
    assert (dominated.low, dominated.high) == pytest.approx((0.0, 1.0), abs=0.01)


@pytest.mark.parametrize("sizes", [(10, 10), (12, 3), (10, 10, 10), (12, 3, 3, 2), (5, 5, 5, 5, 5), (20, 2, 2, 2, 2)])
@pytest.mark.parametrize("draw", [normal, skewed])
def test_intervals_over_two_to_five_speakers_cover(sizes: tuple[int, ...], draw: Draw) -> None:
    """Speakers spread as utterances of one speaker do. Drawing single utterances covered 37 to 61 %."""
    rng = np.random.default_rng(11)
    speakers = np.repeat(np.arange(len(sizes)), sizes).tolist()
    intervals = [bootstrap_mean(simulated(rng, np.array(sizes), 1.0, draw), clusters=speakers) for _ in range(400)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    print(f"coverage with speakers of {sizes} utterances, {draw.__name__}: {covered:.1%}")
    assert covered >= 0.92


def test_few_equal_speakers_have_the_t_interval_of_their_means() -> None:
    means = np.array([1.0, 1.5, 3.0, 3.2])
    found = bootstrap_mean(np.repeat(means, 3), clusters=np.repeat(np.arange(4), 3).tolist(), level=0.9)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.9, 3, means.mean(), stats.sem(means)))


def test_higher_level_is_wider_and_contains_the_lower() -> None:
    values = np.random.default_rng(3).normal(size=30)
    narrow, wide = bootstrap_mean(values, level=0.8), bootstrap_mean(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_equal_seeds_are_equal_and_others_differ() -> None:
    values = np.random.default_rng(4).normal(size=30)
    assert bootstrap_mean(values, seed=7) == bootstrap_mean(values, seed=7)
    assert bootstrap_mean(values, seed=7) != bootstrap_mean(values, seed=8)


def test_the_order_of_rows_and_the_names_of_speakers_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=60)
    speakers = rng.integers(0, 7, 60)
    order = rng.permutation(60)
    assert bootstrap_mean(values) == bootstrap_mean(values[order])
    renamed = [f"speaker-{9 - speakers[i]}" for i in order]
    assert bootstrap_mean(values, clusters=speakers.tolist()) == bootstrap_mean(values[order], clusters=renamed)


def test_unlabelled_values_stand_alone() -> None:
    values = np.random.default_rng(6).normal(size=25)
    for unknown in (None, math.nan):
        assert bootstrap_mean(values, clusters=[unknown] * 25) == bootstrap_mean(values)
    assert bootstrap_mean(values, clusters=["a"] * 24 + [None]) != bootstrap_mean(values)


def test_the_mean_is_over_utterances_not_over_speakers() -> None:
    assert bootstrap_mean([1.0, 1.0, 1.0, 5.0], clusters=["a", "a", "a", "b"]).mean == 2.0


def test_a_resampled_speaker_brings_all_its_utterances() -> None:
    interval = bootstrap_mean([0.0] * 54 + [10.0], clusters=[name for name in "abcdef" for _ in range(9)] + ["g"])
    assert interval.mean == pytest.approx(10 / 55)
    shares = {round(10 * drawn / (drawn + 9 * (7 - drawn)), 9) for drawn in range(8)}  # of resamples with g so often
    assert interval.low == 0
    assert round(interval.high, 9) in shares


def test_drawing_in_parts_is_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(7).normal(size=50)
    whole = bootstrap_mean(values)
    monkeypatch.setattr(evalkit.stats.bootstrap, "MAX_DRAWN", 50 * 300)
    parts = bootstrap_mean(values)
    assert parts == bootstrap_mean(values)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.05)


def test_one_value_or_one_speaker_has_no_interval() -> None:
    assert bootstrap_mean([2.5]) == Interval(2.5, None, None, 1)
    assert bootstrap_mean([2.0, 3.0], clusters=["a", "a"]) == Interval(2.5, None, None, 2)
    assert bootstrap_mean([2.5]).half_width is None


def test_no_value_has_no_mean() -> None:
    assert bootstrap_mean([]) == Interval(None, None, None, 0)


def test_equal_values_have_an_interval_of_no_width() -> None:
    interval = bootstrap_mean([0.5] * 10)
    assert (interval.low, interval.high, interval.half_width) == (0.5, 0.5, 0.0)


def test_the_interval_stays_within_the_values() -> None:
    interval = bootstrap_mean([1.0] * 5 + [4.0])
    assert (interval.low, interval.high) == pytest.approx((1.0, 4.0), abs=1.0)
    assert 1.0 <= interval.low < interval.high <= 4.0


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0, math.nan], {}, "finite"),
        ([[1.0]], {}, "flat"),
        ([1.0], {"resamples": 10}, "resamples"),
        ([1.0], {"level": 95}, "level"),
        ([1.0, 2.0], {"clusters": ["a"]}, "1 cluster labels for 2 values"),
    ],
)
def test_wrong_arguments_are_refused(values: list[float], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(values, **options)  # type: ignore[arg-type]


def test_paired_difference_uses_shared_utterances_only() -> None:
    interval = paired_difference({"a": 3.0, "b": 4.0, "c": 9.0}, {"b": 1.0, "a": 1.0, "d": 0.0})
    assert (interval.mean, interval.n) == (2.5, 2)
    assert paired_difference({"a": 1.0}, {"b": 1.0}) == Interval(None, None, None, 0)


def test_pairing_removes_what_utterances_have_in_common() -> None:
    rng = np.random.default_rng(8)
    ids = [f"u{i}" for i in range(50)]
    difficulty = rng.normal(0, 1, 50)
    baseline = dict(zip(ids, difficulty.tolist(), strict=True))
    system = dict(zip(ids, (difficulty + 0.1 + rng.normal(0, 0.05, 50)).tolist(), strict=True))
    interval = paired_difference(system, baseline)
    assert 0 < interval.low < 0.1 < interval.high < 0.2
    assert bootstrap_mean(list(system.values())).half_width > 5 * interval.half_width
    mirrored = paired_difference(baseline, system)
    assert mirrored.mean == pytest.approx(-interval.mean)


def test_paired_difference_clusters_by_speaker() -> None:
    rng = np.random.default_rng(9)
    ids = [f"u{i}" for i in range(100)]
    speaker = {name: index // 20 for index, name in enumerate(ids)}
    offsets = rng.normal(size=5)
    system = {name: float(offsets[speaker[name]]) for name in ids}
    baseline = dict.fromkeys(ids, 0.0)
    clustered = paired_difference(system, baseline, clusters=speaker)
    assert clustered.half_width > 2 * paired_difference(system, baseline).half_width
    assert paired_difference(system, baseline, clusters={}) == paired_difference(system, baseline)
