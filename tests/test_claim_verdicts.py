"""Verdicts on claims of a paper come out right where the truth is known, in both directions."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from evalkit.stats.differences import holm
from evalkit.sweeps.claim_files import Claims
from evalkit.sweeps.claim_tables import claims_markdown
from evalkit.sweeps.claims import judge, verdicts
from tests.synthetic_sweep import Made, Noise, octaves, q2d2, swept

SURE = Noise(seed=0.004, score=0.01)
METRICS = ["pesq", "stoi"]
BETTER = {
    "kind": "better", "better": {"family": "rhombic"}, "worse": {"family": "hexagonal"}, "bits_per_frame": [20],
}  # fmt: skip
AT_LEAST = {"kind": "at_least", "quantity": "utilization", "threshold": 0.99, "of": {"bottleneck": "q2d2"}}


def file_of(*comparisons: dict[str, Any], **values: Any) -> dict[str, Any]:
    claim = {"id": "one", "text": "It is so.", "source": "abstract", "comparisons": list(comparisons)}
    return {"title": "A paper", "source": "here", "metrics": METRICS, "claims": [claim], **values}


def claims_of(*comparisons: dict[str, Any], **values: Any) -> Claims:
    return Claims.model_validate(file_of(*comparisons, **values))


def judged(claims: Claims, made: list[Made], metrics: list[str] = METRICS, **options: Any) -> tuple[pd.DataFrame, str]:
    """The rows, and the verdict on the first claim."""
    _, series = swept(made, metrics=metrics, **options)
    rows = judge(claims, series, metrics)
    return rows, verdicts(claims, rows)[0].verdict


def pair(rhombic: float, hexagonal: float, **others: Any) -> list[Made]:
    """Two families with two rates each, on one curve but for an offset."""
    return [
        q2d2(f"{name} {bits:g}", [7] * 6, bits, octaves(bits) + offset, **others)
        for name, offset, shift in (("rhombic", rhombic, 0.05), ("hexagonal", hexagonal, -0.07))
        for bits in (20 + shift, 15 + shift)
    ]


@pytest.mark.parametrize(
    ("rhombic", "hexagonal", "verdict"), [(0.2, 0.0, "supported"), (0.0, 0.2, "contradicted"), (0.0, 0.0, "undecided")]
)
def test_verdicts_follow_the_truth(rhombic, hexagonal, verdict):
    noise = SURE if rhombic != hexagonal else Noise(seed=0.05, score=0.1)
    rows, claim = judged(claims_of(BETTER), pair(rhombic, hexagonal), noise=noise)
    assert claim == verdict
    assert list(rows["metric"]) == METRICS
    assert set(rows["verdict"]) == {verdict}
    assert rows["rate"].tolist() == rows["rate_other"].tolist() == [19.93, 19.93]  # the highest that both reach
    assert rows["difference"].tolist()[0] == pytest.approx(rhombic - hexagonal, abs=0.1)


def test_a_metric_of_which_less_is_better_turns_the_side():
    made, claims = pair(0.2, 0.0), claims_of(BETTER, metrics=["mel_distance"])
    rows, claim = judged(claims, made, ["mel_distance"], noise=SURE)
    assert claim == "supported"
    assert rows["high"].iloc[0] < 0


def test_what_is_open_says_how_small_an_effect_stays_unseen():
    rows, _ = judged(claims_of(BETTER), pair(0.0, 0.0), noise=Noise(seed=0.05, score=0.1))
    one = rows.iloc[0]
    assert f"the interval is ± {(one['high'] - one['low']) / 2:.3f}" in one["note"]
    assert (one["seeds"], one["utterances"], one["clusters"]) == (3, 36, 12)


def test_one_seed_decides_nothing():
    rows, claim = judged(claims_of(BETTER, AT_LEAST), pair(0.5, 0.0), seeds=1, noise=SURE)
    assert claim == "undecided"
    assert set(rows["verdict"]) == {"undecided"}
    assert rows["note"].iloc[0].startswith("over utterances only: one seed")


def test_p_is_corrected_over_all_claims_of_the_file():
    """An effect that one test alone would call is open beside many others."""
    made = [*pair(0.05, 0.0), *(q2d2(f"rectangular {bits}", [7] * 6, bits, octaves(bits)) for bits in (20.0, 15.0))]
    noise = Noise(seed=0.01, score=0.02)
    alone, verdict = judged(claims_of(BETTER, metrics=["pesq"]), made, noise=noise)
    assert verdict == "supported"
    assert alone["p"].iloc[0] > 0.05 / 20
    others = [BETTER | {"worse": {"family": "rectangular"}, "bits_per_frame": [17 + rate / 10]} for rate in range(19)]
    many, verdict = judged(claims_of(BETTER, *others, metrics=["pesq"]), made, noise=Noise(seed=0.01, score=0.02))
    assert list(many["p_holm"]) == holm(list(many["p"]))
    assert many["p"].iloc[0] == alone["p"].iloc[0]
    assert many["verdict"].iloc[0] == verdict == "undecided"


def test_missing_trials_are_named_and_nothing_is_decided_for_them():
    made = pair(0.2, 0.0)
    made[2] = q2d2("hexagonal 20", [7] * 6, 19.93, states=["failed", "waiting", "waiting"])
    rows, claim = judged(claims_of(BETTER), made, noise=SURE)
    assert claim == "untested"
    assert set(rows["note"]) == {"missing: hexagonal 20 (0/3 done, 2 waiting, 1 failed: the loss is not finite)"}
    rows, claim = judged(claims_of(BETTER | {"worse": {"family": "e8"}}), made, noise=SURE)
    assert claim == "untested"
    assert set(rows["note"]) == {"no trial of e8 within 0.5 of 20 bits/frame"}


def test_a_rate_that_no_side_comes_near_is_not_made_up():
    rows, claim = judged(claims_of(BETTER | {"bits_per_frame": [22]}), pair(0.2, 0.0), noise=SURE)
    assert claim == "untested"
    assert rows["note"].iloc[0] == (
        "no trial of rhombic within 0.5 of 22 bits/frame; no trial of hexagonal within 0.5 of 22 bits/frame"
    )


def test_a_sweep_without_any_of_the_metrics_leaves_the_claim_untested():
    rows, claim = judged(claims_of(BETTER, metrics=["utmos"]), pair(0.2, 0.0), noise=SURE)
    assert (claim, rows["note"].iloc[0]) == ("untested", "none of utmos was scored")


@pytest.mark.parametrize(("apart", "verdict"), [(0.3, "undecided"), (-0.3, "supported")])
def test_more_bits_do_not_support_a_claim(apart, verdict):
    """Two single rates that cannot be read off at one: the better side must not be the one with more bits."""
    made = [q2d2("rhombic", [7] * 6, 20.0 + apart, 0.2), q2d2("hexagonal", [7] * 6, 20.0)]
    rows, claim = judged(claims_of(BETTER), made, noise=SURE)
    assert claim == verdict
    assert f"rates {apart:+.2f} bits/frame apart" in rows["note"].iloc[0]
    rows, claim = judged(claims_of(BETTER | {"tolerance": 0.2, "bits_per_frame": [20 + apart / 2]}), made, noise=SURE)
    assert claim == "untested"
    assert rows["note"].iloc[0].startswith("no rate in common")


def test_a_side_of_several_series_is_compared_pair_by_pair():
    made = [
        q2d2("rhombic six", [8] * 6, 20.0, 0.3), q2d2("rhombic eight", [5] * 8, 20.0, -0.3),
        q2d2("hexagonal six", [8] * 6, 20.0, 0.0),
    ]  # fmt: skip
    one, other = {"family": "rhombic"}, {"family": "hexagonal"}
    rows, claim = judged(claims_of(BETTER | {"better": one, "worse": other}), made, noise=SURE)
    assert list(rows["comparison"].unique()) == [
        "rhombic d=6 better than hexagonal at 20 bits/frame", "rhombic d=8 better than hexagonal at 20 bits/frame",
    ]  # fmt: skip
    assert list(rows["verdict"]) == ["supported"] * 2 + ["contradicted"] * 2
    assert claim == "contradicted"


def test_levels_that_come_with_other_channels_are_not_tested():
    """At one rate six channels of 8 levels differ from four of 23 in both: which of them it is cannot be told."""
    made = [q2d2("rhombic six", [8] * 6, 20.0, 0.3), q2d2("rhombic four", [23] * 4, 20.0, 0.0)]
    inside = {"family": "rhombic", "levels": {"at_least": 5, "at_most": 11}}
    above = {"family": "rhombic", "levels": {"at_least": 12}}
    rows, claim = judged(claims_of(BETTER | {"better": inside, "worse": above}), made, noise=SURE)
    assert claim == "untested"
    assert set(rows["note"]) == {
        "not tested by this design: levels and channels differ together (6 against 4 channels)"
    }
    assert rows["p"].isna().all()
    by_channels = [{"family": "rhombic", "channels": channels} for channels in (6, 4)]
    _, claim = judged(claims_of(BETTER | dict(zip(("better", "worse"), by_channels, strict=True))), made, noise=SURE)
    assert claim == "supported"


def test_a_comparison_of_something_with_itself_is_untested():
    rows, claim = judged(claims_of(BETTER | {"worse": {"family": "rhombic"}}), pair(0.2, 0.0))
    assert (claim, rows["note"].iloc[0]) == ("untested", "both sides are the same configurations")


@pytest.mark.parametrize(
    ("used", "verdict"),
    [
        ((1.0, 1.0, 1.0), "supported"), ((0.995, 0.9951, 0.9949), "supported"), ((0.97, 0.971, 0.969), "contradicted"),
        ((0.9, 0.9, 0.9), "contradicted"), ((1.0, 0.98, 0.995), "undecided"), ((0.9899, 0.9901, 0.99), "undecided"),
    ],
)  # fmt: skip
def test_a_threshold_is_judged_over_seeds(used, verdict):
    made = [
        q2d2("rhombic", [7] * 6, 20.0, utilization=used),
        Made("rvq", "rvq", {"name": "rvq"}, 20.0, utilization=(0.1,)),
    ]
    rows, claim = judged(claims_of(AT_LEAST), made)
    assert claim == verdict
    (one,) = rows.to_dict("records")
    assert one["difference"] == pytest.approx(sum(used) / 3 - 0.99)
    assert one["note"].startswith(f"mean {sum(used) / 3:.4f}; normalized entropy 0.900")
    assert (one["seeds"], one["rate"]) == (3, 20.0)


def test_every_configuration_must_reach_the_threshold():
    made = [q2d2("rhombic", [7] * 6, 20.0), q2d2("hexagonal", [7] * 6, 20.0, utilization=(0.5, 0.51, 0.52))]
    rows, claim = judged(claims_of(AT_LEAST), made)
    assert list(rows["verdict"]) == ["supported", "contradicted"]
    assert claim == "contradicted"
    rows, claim = judged(claims_of(AT_LEAST), [made[0], q2d2("hexagonal", [7] * 6, 20.0, states=["waiting"] * 3)])
    assert list(rows["verdict"]) == ["supported", "untested"]
    assert claim == "undecided"
    assert rows["note"].iloc[1] == "missing: hexagonal (0/3 done, 3 waiting)"
    rows, claim = judged(claims_of(AT_LEAST | {"of": {"family": "d4"}}), made)
    assert (claim, rows["note"].iloc[0]) == ("untested", "no trial of d4 in the sweep")


def test_a_claim_is_supported_only_by_all_and_contradicted_by_one():
    plain = BETTER | {"metrics": ["pesq"]}
    turned = plain | {"better": BETTER["worse"], "worse": BETTER["better"]}
    for comparisons, expected in (((plain,), "supported"), ((plain, turned), "contradicted")):
        claims = claims_of(*comparisons)
        _, series = swept(pair(0.2, 0.0), noise=SURE)
        rows = judge(claims, series, METRICS)
        (found,) = verdicts(claims, rows)
        assert found.verdict == expected
    assert found.counts == "1 supported, 1 contradicted"


def test_the_table_names_what_the_verdicts_hold_for_and_what_was_not_measured():
    claims = claims_of(BETTER, AT_LEAST, metrics=["utmos", "stoi", "pesq"], remarks=["Ours is smaller."])
    _, series = swept(pair(0.2, 0.0), noise=SURE)
    rows = judge(claims, series, METRICS)
    text = claims_markdown(
        claims, rows, verdicts(claims, rows), ["Budget: 400 steps."], {"utmos": "unavailable: no file"}
    )
    lines = text.splitlines()
    assert lines.index("- Budget: 400 steps.") < lines.index(
        "| Claim | What the paper says | Where | Verdict | Comparisons |"
    )
    assert "The paper's metrics tested here: STOI, PESQ." in text
    assert "Not tested by UTMOS (unavailable: no file)" in text
    assert "| one | It is so. | abstract | supported | 6 supported |" in text
    assert "- Ours is smaller." in text
    (cells,) = (line for line in lines if "STOI" in line and line.startswith("| one | rhombic"))
    assert "rhombic better than hexagonal at 20 bits/frame" in cells
    assert "| 3 | 36 | supported |" in cells
    assert not math.isnan(rows["p_holm"].iloc[0])
