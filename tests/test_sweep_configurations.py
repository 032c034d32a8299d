"""Configurations of a sweep with their scores, series, and what is left out or refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from evalkit.sweeps import SweepError
from evalkit.sweeps.comparison import summarize_configurations
from evalkit.sweeps.configurations import configurations, scored_metrics
from tests.synthetic_sweep import Made, Noise, made_sweep, q2d2, swept

FSQ = {"name": "fsq", "levels": [5] * 8}


@pytest.mark.parametrize(
    ("bottleneck", "family", "channels", "levels"),
    [
        ({"name": "q2d2", "levels": [8, 8, 7, 7]}, "rhombic", 4, (8, 8, 7, 7)),
        ({"name": "fsq", "levels": [6, 5, 5]}, "fsq", 3, (6, 5, 5)),
        ({"name": "lattice", "lattice": "d4", "levels": [7, 6]}, "d4", 8, (7, 6)),
        ({"name": "lattice", "lattice": "e8", "levels": [6]}, "e8", 8, (6,)),
        ({"name": "rvq", "codebook_size": 1024, "num_quantizers": 2}, "rvq", None, None),
    ],
)
@pytest.mark.parametrize("state", ["done", "waiting"])
def test_channels_follow_from_the_bottleneck_also_before_a_trial_is_done(bottleneck, family, channels, levels, state):
    (one,), _ = swept([Made("one", family, bottleneck, 20.0, states=[state] * 3)])
    assert (one.channels, one.levels, one.bottleneck["name"]) == (channels, levels, bottleneck["name"])


def test_a_bottleneck_of_which_only_options_are_varied_is_known_by_its_family():
    values = {"bottleneck.tiling": "rhombic", "bottleneck.levels": [5, 5], "train.steps": 10}
    (one,), _ = swept([Made("one", "rhombic", {}, 9.0, states=["waiting"] * 3, values=values)])
    assert one.bottleneck == {"name": "q2d2", "tiling": "rhombic", "levels": [5, 5]}
    assert (one.channels, one.variant) == (2, {"train.steps": "10"})


def test_a_series_is_one_family_with_equal_channels_and_nothing_else_varied():
    rvq = {"name": "rvq", "num_quantizers": 2, "commitment_weight": 0.1}
    _, series = swept(
        [
            q2d2("rhombic high", [8] * 6, 20.0),
            q2d2("rhombic four", [23] * 4, 20.0),
            q2d2("rhombic low", [5] * 6, 15.0),
            q2d2("hexagonal", [8] * 6, 20.0),
            Made("rvq big", "rvq", rvq | {"codebook_size": 1024}, 20.0),
            Made("rvq small", "rvq", rvq | {"codebook_size": 181}, 15.0),
            Made("fsq slow", "fsq", FSQ, 20.0, values={"bottleneck": FSQ, "train.steps": 9}),
            Made("fsq fast", "fsq", FSQ, 20.0, values={"bottleneck": FSQ, "train.steps": 3}),
        ]
    )
    assert {each.name: [one.label for one in each.configurations] for each in series} == {
        "rhombic d=6": ["rhombic low", "rhombic high"],
        "rhombic d=4": ["rhombic four"],
        "hexagonal": ["hexagonal"],
        "rvq": ["rvq small", "rvq big"],
        "fsq steps=9": ["fsq slow"],
        "fsq steps=3": ["fsq fast"],
    }


def test_configurations_of_one_label_are_told_apart():
    found, _ = swept([q2d2("rhombic", [8] * 6, 20.0), q2d2("rhombic", [8] * 6, 20.0)])
    assert len({one.label for one in found}) == 2


def test_the_summary_has_a_row_for_every_configuration_and_says_what_became_of_it():
    made = [
        q2d2("rhombic", [8] * 6, 20.0, 0.1, utilization=(1.0, 0.9, 0.8), coded=18.0, target=20.0),
        q2d2("hexagonal", [8] * 6, 20.0, states=["done", "failed", "waiting"]),
        q2d2("rectangular", [8] * 6, 20.0, states=["failed"] * 3),
    ]
    found, _ = swept(made, noise=Noise(seed=0.02))
    table = summarize_configurations(found, ["pesq"]).set_index("configuration")
    first = table.loc["rhombic"]
    scores = found[0].scores["pesq"].values
    assert first["pesq"] == pytest.approx(scores.mean())
    assert first["pesq_low"] < first["pesq"] < first["pesq_high"]
    assert (first["utilization"], first["entropy_bits_per_frame"]) == pytest.approx((0.9, 18.0))
    assert (first["seeds_done"], first["seeds"], first["pesq_utterances"], first["pesq_note"]) == (3, 3, 36, "")
    assert first["status"] == "3/3 done"
    assert table.loc["hexagonal", "status"] == "1/3 done, 1 waiting, 1 failed: the loss is not finite"
    assert table.loc["hexagonal", "pesq_note"] == "over utterances only: one seed"
    assert table.loc["rectangular", "status"] == "0/3 done, 3 failed: the loss is not finite"
    assert math.isnan(table.loc["rectangular", "pesq"])
    assert table.loc["rectangular", "pesq_utterances"] == 0


def test_no_mean_is_over_two_versions_of_a_metric():
    def newer(utterances: pd.DataFrame) -> pd.DataFrame:
        return utterances.assign(version=np.where(utterances["trial"] == "trial-0-0", "2", "1"))

    with pytest.raises(SweepError, match="pesq was scored by versions 1, 2"):
        configurations(*made_sweep([q2d2("rhombic", [7] * 6, 20.0)], change=newer))


def test_metrics_without_any_score_are_named_with_the_reason():
    def lose(utterances: pd.DataFrame) -> pd.DataFrame:
        lost = utterances["metric"] == "utmos"
        return utterances.assign(
            status=utterances["status"].mask(lost, "unavailable"), detail=utterances["detail"].mask(lost, "no weights"),
            value=utterances["value"].mask(lost, math.nan),
        )  # fmt: skip

    _, rows = made_sweep([q2d2("rhombic", [7] * 6, 20.0)], metrics=("utmos", "pesq"), change=lose)
    assert scored_metrics(rows) == (["pesq"], {"utmos": "unavailable: no weights"})


def test_the_use_of_codes_is_given_only_where_each_could_be_seen_ten_times():
    seen, unseen = (q2d2(label, [5] * 6, 14.0, coded=12.0, frames=frames) for label, frames in (("a", 640), ("b", 639)))
    found, _ = swept([seen, unseen])
    summary = summarize_configurations(found, ["pesq"])
    for column in ("entropy_bits_per_frame", "utilization", "normalized_entropy"):
        assert list(summary[column].notna()) == [True, False]
