"""Paired comparisons: tests and effects in closed form, rare false marks, frames by data set, metric and protocol."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from evalkit.metrics import METRICS
from evalkit.stats.bootstrap import paired_difference
from evalkit.stats.differences import PairedComparison, compare_paired, holm, wilcoxon_p
from evalkit.stats.reach import few_seeds, few_units
from evalkit.tables import compare_with_baseline, write_tables
from q2d2.registry import UnknownName
from tests.simulated_scores import normal, simulated
from tests.synthetic_run import make_all_metrics, make_systems
from tests.table_rows import score_rows, system_row


def paired(differences: list[float], speakers: list[str] | None = None, **options: int) -> PairedComparison:
    """The comparison of a system that differs from its baseline by `differences`."""
    ids = [f"u{number:03}" for number in range(len(differences))]
    clusters = None if speakers is None else dict(zip(ids, speakers, strict=True))
    system = dict(zip(ids, differences, strict=True))
    return compare_paired(system, dict.fromkeys(ids, 0.0), clusters=clusters, **options)


def test_holm_as_worked_by_hand() -> None:
    """4 x 0.005, 3 x 0.01, then 2 x 0.03 raises what follows: 1 x 0.04 may not be below it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match="must be in"):
        holm([0.5, p])


def test_holm_lies_between_the_plain_and_the_bonferroni_corrected_values() -> None:
    p = np.random.default_rng(11).uniform(0, 0.2, 12)
    adjusted = np.array(holm(p.tolist()))
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(12 * p, 1) + 1e-15).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@pytest.mark.parametrize("count", [2, 5, 6, 12])
def test_wilcoxon_of_a_unanimous_sample_has_the_smallest_p_there_is(count: int) -> None:
    """All of n lean to one side in 2 of 2 ** n sign patterns; with ties as without. So five units never reach 0.05."""
    assert wilcoxon_p(np.arange(1.0, count + 1)) == pytest.approx(2 / 2**count)
    assert wilcoxon_p(np.ones(count)) == pytest.approx(2 / 2**count)


@pytest.mark.parametrize(("count", "decimals"), [(9, 8), (50, 8), (80, 8), (13, 0), (40, 0)])
def test_wilcoxon_is_scipys(count: int, decimals: int) -> None:
    """Without ties and with them (whole numbers), where it is exact and where it is not."""
    for seed in range(5):
        values = np.round(np.random.default_rng(seed).normal(0.4, 2, count), decimals)
        moved = values[values != 0]
        method: Any = "exact" if decimals and len(moved) <= 50 else "asymptotic"
        if not decimals and len(moved) <= 13:
            method = scipy.stats.PermutationMethod(n_resamples=2**13 + 1)  # more than there are signs: all of them
        assert wilcoxon_p(values) == pytest.approx(scipy.stats.wilcoxon(moved, method=method).pvalue, rel=1e-12)


def test_wilcoxon_leaves_zeros_out_and_has_no_side() -> None:
    values = np.random.default_rng(12).normal(0.3, 1, 25)
    assert wilcoxon_p(np.append(values, [0.0, 0.0])) == wilcoxon_p(values) == pytest.approx(wilcoxon_p(-values))
    assert wilcoxon_p(np.zeros(8)) == 1.0


def test_effect_sizes_in_closed_form() -> None:
    """Ranks of 1, 2, -3, 4: 3 against 7 of 10; mean 1, standard deviation sqrt(26 / 3)."""
    comparison = paired([1.0, 2.0, -3.0, 4.0])
    assert comparison.effect_rank == pytest.approx(0.4)
    assert comparison.effect_dz == pytest.approx(1 / math.sqrt(26 / 3))
    mirrored = paired([-1.0, -2.0, 3.0, -4.0])
    assert (mirrored.effect_rank, mirrored.effect_dz) == pytest.approx((-0.4, -1 / math.sqrt(26 / 3)))
    assert mirrored.p == comparison.p


def test_no_difference_at_all_is_p_1_and_no_effect() -> None:
    nothing = paired([0.0] * 8)
    assert (nothing.p, nothing.effect_dz, nothing.effect_rank, nothing.units) == (1.0, 0.0, 0.0, 8)
    assert (nothing.interval.mean, nothing.interval.half_width) == (0.0, 0.0)
    assert not nothing.is_significant(0.0)


def test_a_constant_difference_has_no_standardized_effect() -> None:
    constant = paired([0.1] * 8)
    assert (constant.effect_dz, constant.effect_rank) == (None, 1.0)
    assert constant.is_significant(constant.p)


@pytest.mark.parametrize("speakers", [None, ["a"]])
def test_fewer_than_two_units_have_no_test(speakers: list[str] | None) -> None:
    lone = paired([1.0, 2.0] if speakers else [1.0], speakers and speakers * 2)
    assert (lone.units, lone.p, lone.effect_dz, lone.effect_rank) == (1, None, None, None)
    assert not lone.is_significant(0.0)
    nobody = compare_paired({"a": 1.0}, {"b": 1.0})
    assert (nobody.units, nobody.p, nobody.interval.n) == (0, None, 0)


def test_speakers_are_the_units_of_test_and_effect_not_their_utterances() -> None:
    """100 utterances of 5 speakers who all gain: no smaller p than 2 / 2 ** 5."""
    speakers = [f"s{number % 5}" for number in range(100)]
    clustered = paired([1 + number % 5 + 0.01 * (number // 5) for number in range(100)], speakers)
    assert (clustered.units, clustered.interval.n) == (5, 100)
    assert clustered.p == pytest.approx(2 / 32)
    assert paired([0.5] * 99 + [1.0]).p < 1e-10


def test_significance_needs_the_test_and_the_interval() -> None:
    clear = paired(np.random.default_rng(13).normal(1, 0.1, 20).tolist())
    assert clear.is_significant(0.04)
    assert not clear.is_significant(0.05)
    # Most lean to one side, one outweighs them all: the test finds a lean, but the mean may be 0.
    torn = paired([0.1 + 0.001 * number for number in range(20)] + [-3.0])
    assert torn.p < 0.01
    assert torn.interval.low < 0 < torn.interval.high
    assert not torn.is_significant(torn.p)


def test_a_comparison_does_not_depend_on_order_or_names() -> None:
    rng = np.random.default_rng(14)
    a, b = ({f"u{number}": float(value) for number, value in enumerate(rng.normal(size=60))} for _ in range(2))
    speakers = {f"u{number}": f"s{number % 9}" for number in range(60)}
    shuffled = {name: a[name] for name in rng.permutation(list(a)).tolist()}
    renamed = {name: f"{99 - int(speaker[1:])}" for name, speaker in speakers.items()}
    found = compare_paired(a, b, clusters=speakers)
    assert found == compare_paired(shuffled, b, clusters=renamed)
    # To the last bit: other names bring the speakers in another order.
    other_a, other_b, other_speakers = (
        {f"v{99 - int(name[1:])}": kept[name] for name in a} for kept in (a, b, speakers)
    )
    assert found == compare_paired(other_a, other_b, clusters=other_speakers)


def test_false_marks_are_as_rare_as_they_should_be() -> None:
    """Seven systems that differ from the baseline by chance alone: any mark in at most 7 % of the trials."""
    sizes = np.random.default_rng(15).integers(1, 5, 24)
    speakers = np.repeat(np.arange(24), sizes).tolist()
    ids = [f"u{number}" for number in range(len(speakers))]
    clusters = dict(zip(ids, speakers, strict=True))
    rng = np.random.default_rng(16)
    marked = uncorrected = 0
    for seed in range(500):
        scores = [dict(zip(ids, simulated(rng, sizes, 1.0, normal).tolist(), strict=True)) for _ in range(8)]
        family = [
            compare_paired(system, scores[7], seed=seed, resamples=200, clusters=clusters) for system in scores[:7]
        ]
        plain = [comparison.p or 0.0 for comparison in family]
        marked += any(c.is_significant(p) for c, p in zip(family, holm(plain), strict=True))
        uncorrected += any(c.is_significant(p) for c, p in zip(family, plain, strict=True))
    print(f"family-wise error: {marked / 5:.1f} % corrected, {uncorrected / 5:.1f} % not")
    assert 0.005 < marked / 500 <= 0.07
    assert uncorrected / 500 > 0.1


SYSTEMS = pd.DataFrame([system_row(name) for name in ("base", "up", "down", "same")])


def rows_of(metric: str = "stoi", count: int = 20, speakers: int = 0, **shifts: float) -> pd.DataFrame:
    """Scores of `base` and of systems that differ from it by `shifts`, a little more or less in each utterance."""
    rng = np.random.default_rng(20)
    base = rng.normal(0.8, 0.05, count)
    frames = []
    for name, shift in {"base": 0.0, **shifts}.items():
        wobble = 0.1 * shift * rng.normal(size=count)
        frames.append(pd.DataFrame(score_rows(name, metric, (base + shift + wobble).tolist())))
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(speaker=rows["utterance"].str[1:].astype(int).mod(speakers).astype(str)) if speakers else rows


def test_a_frame_holds_what_the_functions_give() -> None:
    rows = rows_of(up=0.01, down=-0.02, speakers=7)
    found = compare_with_baseline(rows, SYSTEMS, "base").set_index("system")
    assert list(found.index) == ["up", "down", "same"]  # in the order of the systems, without the baseline
    table = rows.pivot(index="utterance", columns="system", values="value")
    speakers = dict(zip(rows["utterance"], rows["speaker"], strict=True))
    interval = paired_difference(table["up"].to_dict(), table["base"].to_dict(), clusters=speakers)
    assert found.loc["up", ["difference", "low", "high"]].tolist() == [interval.mean, interval.low, interval.high]
    assert found.loc["up", ["n", "units", "baseline"]].tolist() == [20, 7, "base"]
    assert found["p_holm"].tolist()[:2] == pytest.approx(holm(found["p"].tolist()[:2]))
    assert found["verdict"].tolist() == ["better", "worse", ""]
    nothing = found.loc["same"]
    assert (nothing["n"], nothing["units"], nothing["verdict"]) == (0, 0, "")
    assert nothing[["difference", "low", "high", "p", "p_holm", "effect_dz", "effect_rank"]].isna().all()


def test_only_utterances_that_both_scored_are_compared() -> None:
    rows = rows_of(up=0.01)
    lost = ((rows["system"] == "up") & (rows["utterance"] == "u3")) | (
        (rows["system"] == "base") & rows["utterance"].isin(["u4", "u5"])
    )
    poisoned = rows.assign(value=rows["value"].mask(lost, 99.0), status=rows["status"].mask(lost, "failed"))
    found = compare_with_baseline(poisoned, SYSTEMS, "base").iloc[0]
    kept = compare_with_baseline(rows[~rows["utterance"].isin(["u3", "u4", "u5"])], SYSTEMS, "base").iloc[0]
    assert found["n"] == 17
    pd.testing.assert_series_equal(found, kept)


def test_better_follows_the_direction_of_the_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    falling = pd.concat([rows_of("mel_distance", up=0.1, down=-0.1), rows_of("pesq", up=0.1, down=-0.1)])
    verdicts = compare_with_baseline(falling, SYSTEMS, "base").query("n > 0").set_index(["metric", "system"])["verdict"]
    assert verdicts["mel_distance"].to_dict() == {"up": "worse", "down": "better"}
    assert verdicts["pesq"].to_dict() == {"up": "better", "down": "worse"}

    def missing(name: str) -> object:
        raise UnknownName(name)

    monkeypatch.setattr(METRICS, "resolve", missing)
    unknown = compare_with_baseline(rows_of("mystery", up=0.1, down=-0.1), SYSTEMS, "base")
    assert unknown["verdict"].tolist() == ["higher", "lower", ""]


def test_known_answers_are_no_part_of_the_family() -> None:
    """They are measured and never marked: what they give is known, and each would cost the others power."""
    rows = pd.concat([rows_of(up=0.001, down=-0.02), rows_of(count=20, known=-0.3).query("system == 'known'")])
    kinds = pd.concat([SYSTEMS, pd.DataFrame([system_row("known", kind="anchor", bits=None)])], ignore_index=True)
    found = compare_with_baseline(rows, kinds, "base").set_index("system")
    without = compare_with_baseline(rows[rows["system"] != "known"], SYSTEMS, "base").set_index("system")
    pd.testing.assert_series_equal(found["p_holm"].iloc[:3], without["p_holm"])
    known = found.loc["known"]
    assert known["high"] < 0
    assert known["p"] < 0.001
    assert math.isnan(known["p_holm"])
    assert known["verdict"] == ""


@pytest.mark.parametrize("speakers", [1, 2, 3, 5])
def test_few_speakers_are_never_marked_and_the_reason_stands_beside(speakers: int, tmp_path: Path) -> None:
    """By single utterances each of these differences was marked."""
    rows = rows_of(up=0.05, down=-0.05, speakers=speakers)
    found = compare_with_baseline(rows, SYSTEMS, "base")
    assert set(found["verdict"]) == {""}
    assert found["units"].tolist()[:2] == [speakers] * 2
    text = " ".join(path.read_text() for path in write_tables(rows, SYSTEMS, tmp_path, "T", baseline="base"))
    if speakers == 1:
        assert found["low"].isna().all()
        assert found["p"].isna().all()
        assert "With one speaker there is no interval and nothing can be marked" in text
    else:
        assert f"over {speakers} speakers" in text
        assert f"With {speakers} units and 2 comparisons the smallest corrected p there can be is" in text


@pytest.mark.parametrize(("units", "comparisons", "said"), [(3, 1, True), (6, 1, False), (6, 2, True), (9, 10, False)])
def test_a_design_that_can_mark_nothing_says_so(units: int, comparisons: int, said: bool) -> None:
    text = few_units(units, "utterance", comparisons)
    assert (text != "") == said == (comparisons * wilcoxon_p(np.arange(1.0, units + 1)) >= 0.05)
    if units == 3:
        assert text == ("Only 3 utterances: no change, however large, could be significant; 1 comparison needs 6.")


def test_few_seeds_say_what_a_mark_needs() -> None:
    assert "Only 1 seed: no difference, however large, could be marked" in few_seeds(1, 7)
    assert "Only 2 seeds: one of 10 comparisons is marked where a difference is 127 times" in few_seeds(2, 10)
    assert "is 14.1 times its standard error over seeds at least; 5 seeds need 5.6 times" in few_seeds(3, 10)
    assert few_seeds(5, 10) == ""


def test_each_data_set_metric_and_protocol_is_a_family_of_its_own() -> None:
    one = rows_of(up=0.001, down=-0.02).assign(protocol="strict")
    rows = pd.concat([one, one.assign(protocol="paper"), one.assign(metric="pesq"), one.assign(dataset="other")])
    found = compare_with_baseline(rows, SYSTEMS, "base")
    assert len(found) == 4 * 3
    alone = compare_with_baseline(one, SYSTEMS, "base")
    for _, family in found.groupby(["dataset", "metric", "protocol"]):
        assert family["p_holm"].tolist()[:2] == alone["p_holm"].tolist()[:2]


def test_the_order_of_rows_does_not_matter() -> None:
    rows = make_all_metrics(systems=("ground-truth", "fsq", "vq", "rvq"))
    systems = make_systems()
    key = ["metric", "system"]
    first = compare_with_baseline(rows, systems, "fsq").sort_values(key, ignore_index=True)
    second = compare_with_baseline(rows.sample(frac=1, random_state=1), systems, "fsq")
    pd.testing.assert_frame_equal(first, second.sort_values(key, ignore_index=True), check_exact=True)


def test_speakers_are_known_in_one_data_set_and_not_in_another() -> None:
    known = rows_of(up=0.01, speakers=7)
    rows = pd.concat([known, rows_of(up=0.01).assign(dataset="other", speaker=None)])
    found = compare_with_baseline(rows, SYSTEMS, "base").query("system == 'up'")
    assert found["units"].tolist() == [7, 20]


def test_a_baseline_must_be_there_and_may_be_alone() -> None:
    with pytest.raises(ValueError, match="baseline 'bse' is none of the systems: base, up, down, same"):
        compare_with_baseline(rows_of(up=0.01), SYSTEMS, "bse")
    alone = compare_with_baseline(rows_of(), SYSTEMS[:1], "base")
    assert alone.empty
    assert "p_holm" in alone
