"""Adversarial losses by name: known values, what has a gradient, weights that are what is summed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from q2d2.training.adversarial import ADVERSARIAL, discriminator_losses, generator_losses, needed_discriminators
from q2d2.training.discriminators import DISCRIMINATORS, Judgement

WEIGHTS = dict.fromkeys(ADVERSARIAL, 1.0)


def judgement(score: float, *features: float) -> Judgement:
    return Judgement([torch.full((2, 3), value) for value in features], torch.full((2, 1, 4), score))


def values(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: pytest.approx(loss.item()) for name, loss in losses.items()}


def test_names_follow_from_the_discriminators() -> None:
    assert ADVERSARIAL == ("mpd", "mpd_features", "mrd", "mrd_features", "dac", "dac_features")
    assert needed_discriminators({"mel": 1.0, "dac_features": 1.0, "mpd": 0.0, "mrd": 1.0}) == ["mrd", "dac"]
    assert needed_discriminators({"mel": 1.0}) == []


def test_hinge_is_a_mean_over_parts() -> None:
    real, made = [judgement(0.5, 1.0, 2.0), judgement(2.0, 0.0)], [judgement(-3.0, 1.5, 2.0), judgement(1.5, 3.0)]
    assert values(generator_losses({"mpd": (real, made)}, WEIGHTS)) == {
        "mpd": (4.0 + 0.0) / 2,  # max(0, 1 - score)
        "mpd_features": (0.5 + 0.0 + 3.0) / 2,
    }
    assert values(discriminator_losses({"mpd": (real, made)})) == {"mpd": ((0.5 + 0.0) + (0.0 + 2.5)) / 2}


def test_least_squares_are_a_sum_over_parts() -> None:
    real, made = [judgement(0.5, 1.0), judgement(1.0, 0.0)], [judgement(-1.0, 1.5), judgement(2.0, 3.0)]
    assert values(generator_losses({"dac": (real, made)}, WEIGHTS)) == {"dac": 4.0 + 1.0, "dac_features": 0.5 + 3.0}
    assert values(discriminator_losses({"dac": (real, made)})) == {"dac": (0.25 + 1.0) + (0.0 + 4.0)}


def test_weights_are_in_what_is_returned_and_zero_is_not_computed() -> None:
    pair = ([judgement(0.5, 1.0)], [judgement(0.0, 3.0)])
    losses = generator_losses({"mrd": pair}, {"mrd": 0.25, "mrd_features": 0.5, "mel": 3.0})
    assert values(losses) == {"mrd": 0.25, "mrd_features": 1.0}
    assert values(generator_losses({"mrd": pair}, {"mrd": 0.0, "mrd_features": 0.5})) == {"mrd_features": 1.0}
    assert discriminator_losses({"mrd": pair}, frozenset({"mrd"})) == {}


def test_real_features_get_no_gradient_from_matching() -> None:
    real = torch.randn(2, 3, requires_grad=True)
    made = torch.randn(2, 3, requires_grad=True)
    score = torch.zeros(2, 1)
    losses = generator_losses({"mpd": ([Judgement([real], score)], [Judgement([made], score)])}, {"mpd_features": 1.0})
    losses["mpd_features"].backward()
    assert real.grad is None
    assert made.grad is not None


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_a_perfect_match_costs_the_codec_only_its_score(name: str) -> None:
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(1, 2500)
    judged = DISCRIMINATORS[name](0.05)(audio)
    losses = generator_losses({name: (judged, judged)}, WEIGHTS)
    assert losses[f"{name}_features"].item() == 0
    assert losses[name].item() > 0
