"""Sweeps as numbers: what makes a series, equal rates, what may be called better, and what is said where nothing is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evalkit.stats.differences import holm
from evalkit.sweeps import SweepError
from evalkit.sweeps.comparison import choose_baseline, compare_series, target_rates
from tests.synthetic_sweep import Made, Noise, octaves, q2d2, swept

SURE = Noise(seed=0.004, score=0.01)


def compared(made: list[Made], metrics: tuple[str, ...] = ("pesq",), **options: Any) -> pd.DataFrame:
    _, series = swept(made, metrics=metrics, **options)
    return compare_series(series, series[0], metrics)


def row(frame: pd.DataFrame, **values: Any) -> dict[str, Any]:
    chosen = frame
    for key, value in values.items():
        chosen = chosen[chosen[key] == value]
    assert len(chosen) == 1, f"{len(chosen)} rows with {values}"
    return dict(chosen.iloc[0])


def two_curves(**offsets: float) -> list[Made]:
    """Families with two rates each, none of them shared, whose true curves are `octaves` plus an offset."""
    made = []
    for shift, (name, offset) in enumerate(offsets.items()):
        for target in (20.0, 15.0):
            bits = target + 0.2 - 0.15 * shift
            made.append(q2d2(f"{name} {target:g}", [7] * 6, bits, octaves(bits) + offset, target=target))
    return made


def test_curves_that_share_no_rate_differ_by_their_true_offset():
    """The nearest configurations differ by 0.15 bits too, worth 0.011; at one rate nothing of that is left."""
    found = compared(two_curves(rhombic=0.0, hexagonal=0.03), noise=Noise())
    for target, rate in ((20.0, 20.0), (15.0, 15.2)):  # the curves have 15.2 to 20.05 bits in common
        one = row(found, measure="difference", rate="nominal", target=target)
        assert one["difference"] == pytest.approx(0.03, abs=1e-9)
        assert one["rate_series"] == one["rate_baseline"] == rate
    mean = row(found, measure="mean difference", rate="nominal")
    assert (mean["difference"], mean["range_low"], mean["range_high"]) == pytest.approx((0.03, 15.2, 20.05))
    relative = row(found, measure="rate difference", rate="nominal")
    assert relative["difference"] == pytest.approx(2**-0.03 - 1)
    assert relative["verdict"] == "better"  # fewer bits


def test_at_entropy_coded_rates_a_family_gets_what_its_codes_save():
    """Both have one quality at one coded rate, and hexagonal needs 5 % fewer coded bits than nominal ones."""
    made = [
        q2d2(f"{name} {bits}", [7] * 6, bits, octaves(share * bits), target=bits, coded=share * bits)
        for name, share in (("rhombic", 1.0), ("hexagonal", 0.95))
        for bits in (20.0, 17.0, 15.0)
    ]
    found = compared(made)
    assert row(found, measure="rate difference", rate="nominal")["difference"] == pytest.approx(1 / 0.95 - 1)
    assert row(found, measure="rate difference", rate="entropy")["difference"] == pytest.approx(0, abs=1e-9)
    assert row(found, measure="difference", rate="nominal", target=20.0)["difference"] == pytest.approx(math.log2(0.95))
    coded = row(found, measure="difference", rate="entropy", target=20.0)
    assert coded["difference"] == pytest.approx(0, abs=1e-9)
    assert coded["rate_series"] == pytest.approx(19.0)
    _, series = swept(made)
    turned = compare_series(series, series[1], ["pesq"])
    assert row(turned, measure="difference", rate="entropy", target=17.0)["rate_series"] == pytest.approx(0.95 * 17)


def test_coded_rates_that_move_with_the_seeds_still_give_an_interval():
    found, series = swept(two_curves(rhombic=0.0, hexagonal=0.3), noise=SURE)
    for number, one in enumerate(found):
        one.trials["entropy"] = one.trials["entropy"].astype(float) + np.array([0.0, 0.03, -0.02 * number])
    coded = row(compare_series(series, series[0], ["pesq"]), measure="difference", rate="entropy", target=20.0)
    assert coded["low"] < coded["difference"] < coded["high"]
    assert coded["difference"] == pytest.approx(0.3, abs=0.03)


def test_coded_rates_that_never_meet_are_not_compared():
    made = [
        q2d2(f"{name} {bits}", [7] * 6, bits, target=bits, coded=share * bits)
        for name, share in (("rhombic", 1.0), ("hexagonal", 0.6))
        for bits in (20.0, 15.0)
    ]
    coded = row(compared(made), measure="difference", rate="entropy", target=20.0)
    assert math.isnan(coded["difference"])
    assert coded["note"] == "no rate in common: 9.00 to 12.00 and 15.00 to 20.00 bits/frame"


def one_rate(extra: float) -> list[Made]:
    """A curve from 15 to 20 bits, and another family with 20.4 bits alone, on the same curve but for `extra`."""
    return [
        q2d2("rhombic low", [5] * 6, 15.0, octaves(15.0), target=15.0),
        q2d2("rhombic high", [8] * 6, 20.0, octaves(20.0), target=20.0),
        q2d2("hexagonal", [9] * 6, 20.4, octaves(20.4) + extra, target=20.0),
    ]


@pytest.mark.parametrize(("extra", "verdict"), [(0.0, ""), (0.02, "better"), (-0.06, "worse")])
def test_a_mismatch_of_rates_is_told_and_never_makes_a_family_better(extra, verdict):
    """0.4 bits more are worth 0.029 along the curve: without an extra that is all there is."""
    found = row(compared(one_rate(extra), noise=Noise(score=0.002)), measure="difference", rate="nominal")
    assert found["low"] < octaves(20.4) - octaves(20.0) + extra < found["high"]
    assert found["p_holm"] < 0.01
    assert "rates +0.40 bits/frame apart" in found["note"]
    assert (found["rate_series"], found["rate_baseline"]) == (20.4, 20.0)
    assert found["verdict"] == verdict


def test_one_rate_within_a_curve_is_compared_with_the_curve():
    made = one_rate(0.0)
    made[2] = q2d2("hexagonal", [9] * 6, 18.0, octaves(18.0) + 0.05, target=20.0)
    found = row(compared(made), measure="difference", rate="nominal")
    assert (found["rate_series"], found["rate_baseline"]) == (18.0, 18.0)
    assert found["difference"] == pytest.approx(0.05, abs=1e-9)


def test_single_rates_without_any_curve_are_only_called_against_the_one_with_more_bits():
    made = [q2d2("rhombic", [8] * 6, 20.0, target=20.0), q2d2("hexagonal", [9] * 6, 20.3, 0.3, target=20.0)]
    assert row(compared(made, noise=SURE), measure="difference", rate="nominal")["verdict"] == ""
    made[1] = q2d2("hexagonal", [9] * 6, 20.3, -0.3, target=20.0)
    assert row(compared(made, noise=SURE), measure="difference", rate="nominal")["verdict"] == "worse"


def test_a_series_is_compared_only_at_the_targets_that_it_was_made_for():
    found = compared([*two_curves(rhombic=0.0, hexagonal=0.0), q2d2("d4", [7, 6], 20.0, target=20.0)])
    nominal = found[(found["measure"] == "difference") & (found["rate"] == "nominal")]
    assert set(zip(nominal["series"], nominal["target"], strict=True)) == {
        ("hexagonal", 20.0), ("hexagonal", 15.0), ("d4", 20.0),
    }  # fmt: skip


def test_without_targets_the_rates_of_the_baseline_are_the_targets():
    made = [q2d2("rhombic a", [5] * 6, 14.0), q2d2("rhombic b", [8] * 6, 20.0), q2d2("hexagonal", [8] * 6, 19.7)]
    _, series = swept(made)
    assert target_rates(series, series[0]) == [20.0, 14.0]
    found = compare_series(series, series[0], ["pesq"])
    nominal = found[(found["measure"] == "difference") & (found["rate"] == "nominal")]
    assert list(nominal["target"]) == [20.0]


def test_the_better_one_is_called_so_in_both_directions_and_by_metrics_of_both_kinds():
    made = two_curves(rhombic=0.0, hexagonal=0.2, rectangular=-0.2)
    found = compared(made, ("pesq", "mel_distance"), noise=SURE)
    for metric, sign in (("pesq", 1), ("mel_distance", -1)):
        for measure in ("difference", "mean difference"):
            rows = found[(found["metric"] == metric) & (found["measure"] == measure) & (found["rate"] == "nominal")]
            better, worse = (rows[rows["series"] == name] for name in ("hexagonal", "rectangular"))
            assert set(better["verdict"]) == {"better"}
            assert set(worse["verdict"]) == {"worse"}
            assert (sign * better["difference"] > 0).all()
        rates = found[(found["metric"] == metric) & (found["measure"] == "rate difference")]
        assert list(rates[rates["series"] == "hexagonal"]["difference"] < 0) == [True, True]


def test_noise_alone_makes_nobody_better():
    made = two_curves(rhombic=0.0, hexagonal=0.0, rectangular=0.0)
    found = compared(made, ("pesq", "stoi"), noise=Noise(seed=0.05, score=0.1))
    assert found["p"].notna().sum() > 20
    assert set(found["verdict"]) == {""}


def test_one_seed_is_measured_but_not_called():
    found = compared(two_curves(rhombic=0.0, hexagonal=0.5), seeds=1, noise=SURE)
    one = row(found, measure="difference", rate="nominal", target=20.0)
    assert one["low"] > 0.4
    assert one["p_holm"] < 1e-6
    assert (one["seeds"], one["verdict"], one["note"]) == (1, "", "over utterances only: one seed")


def test_p_is_corrected_over_all_series_of_one_question():
    found = compared(two_curves(rhombic=0.0, hexagonal=0.05, rectangular=0.0), ("pesq", "stoi"), noise=SURE)
    groups = found.groupby(["metric", "measure", "rate", "target"], dropna=False)
    assert len(groups) == 2 * 2 * (2 + 2)  # metrics x rates x (two targets, two measures along the curve)
    for _, rows in groups:
        tested = rows[rows["p"].notna()]
        assert len(tested) == 2
        assert list(tested["p_holm"]) == holm(list(tested["p"]))


def test_what_was_not_scored_is_a_row_with_the_reason():
    made = two_curves(rhombic=0.0, hexagonal=0.0)
    made[2] = q2d2("hexagonal 20", [7] * 6, 20.05, target=20.0, states=["failed", "waiting", "running"])
    found = compared(made)
    one = row(found, measure="difference", rate="nominal", target=20.0)
    assert math.isnan(one["difference"])
    assert one["note"] == (
        "nothing scored of hexagonal 20 (0/3 done, 1 running, 1 waiting, 1 failed: the loss is not finite)"
    )
    assert not math.isnan(row(found, measure="difference", rate="nominal", target=15.0)["difference"])


def test_seeds_that_one_of_two_lacks_are_left_out():
    made = two_curves(rhombic=0.0, hexagonal=0.1)
    made[2] = q2d2("hexagonal 20", [7] * 6, 20.05, octaves(20.05) + 0.1, target=20.0, states=["done", "failed"])
    one = row(compared(made, noise=SURE), measure="difference", rate="nominal", target=20.0)
    assert (one["seeds"], one["verdict"]) == (2, "better")


def test_failed_scores_are_left_out_of_both_sides():
    def fail(utterances: pd.DataFrame) -> pd.DataFrame:
        lost = (utterances["trial"] == "trial-0-1") & (utterances["utterance"] == "u00")
        return utterances.assign(
            status=utterances["status"].mask(lost, "failed"), value=utterances["value"].mask(lost, math.nan)
        )

    one = row(
        compared(two_curves(rhombic=0.0, hexagonal=0.1), change=fail, noise=Noise()),
        measure="difference", rate="nominal", target=20.0,
    )  # fmt: skip
    assert (one["utterances"], one["clusters"]) == (35, 12)
    assert one["difference"] == pytest.approx(0.1, abs=1e-9)


def test_few_speakers_are_the_units_too():
    def two_speakers(utterances: pd.DataFrame) -> pd.DataFrame:
        return utterances.assign(speaker=np.where(utterances["speaker"] < "s2", "a", "b"))

    one = row(
        compared(two_curves(rhombic=0.0, hexagonal=0.1), change=two_speakers), measure="difference", rate="nominal",
        target=20.0,
    )  # fmt: skip
    assert one["clusters"] == 2


def test_one_speaker_is_measured_but_not_called():
    """Seeds alone would call it: another voice may come out otherwise."""
    found = compared(two_curves(rhombic=0.0, hexagonal=0.5), noise=SURE, change=lambda rows: rows.assign(speaker="a"))
    one = row(found, measure="difference", rate="nominal", target=20.0)
    assert one["low"] > 0.4
    assert one["p_holm"] < 0.01
    assert (one["clusters"], one["verdict"], one["note"]) == (1, "", "over seeds only: one cluster")


def test_the_baseline_is_chosen_by_series_or_family():
    _, series = swept(
        [q2d2("rhombic a", [8] * 6, 20.0), q2d2("rhombic b", [23] * 4, 20.0), q2d2("hexagonal", [8] * 6, 20.0)]
    )
    assert choose_baseline(series).name == "rhombic d=6"
    assert choose_baseline(series, "rhombic d=4").name == "rhombic d=4"
    assert choose_baseline(series, "hexagonal").name == "hexagonal"
    with pytest.raises(SweepError, match=r"baseline 'hexagonl' is in no trial.*Did you mean 'hexagonal'"):
        choose_baseline(series, "hexagonl")
    assert set(compare_series(series, series[2], ["pesq"])["series"]) == {"rhombic d=6", "rhombic d=4"}
