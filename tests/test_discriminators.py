"""The discriminators: published shapes, gradients, what they can and cannot see."""

from __future__ import annotations

import pytest
import torch

from q2d2.training.discriminators import DISCRIMINATORS, PERIODS, Discriminators, MultiPeriod

# Parts, tensors and parameters of the published ones, without the embeddings of a condition that means nothing.
PUBLISHED = {"mpd": (5, 90, 41_105_770), "mrd": (3, 54, 600_198), "dac": (8, 324, 42_519_760)}


def noise(seed: int = 0, batch: int = 2, samples: int = 3000) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_sizes_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        discriminator = DISCRIMINATORS[name](1.0)
    tensors = list(discriminator.parameters())
    assert (len(discriminator.parts), len(tensors), sum(tensor.numel() for tensor in tensors)) == PUBLISHED[name]


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("samples", [2048, 3000, 3465])
def test_every_part_judges_every_clip_apart(name: str, samples: int) -> None:
    discriminator = DISCRIMINATORS[name](0.05)
    audio = noise(samples=samples).requires_grad_()
    judgements = discriminator(audio)
    assert len(judgements) == PUBLISHED[name][0]
    alone = discriminator(audio[1:])
    for both, one in zip(judgements, alone, strict=True):
        assert both.score.shape[:2] == (2, 1)
        assert both.score.isfinite().all()
        torch.testing.assert_close(both.score[1:], one.score)
        for ours, other in zip(both.features, one.features, strict=True):
            torch.testing.assert_close(ours[1:], other)
    sum(part.score.sum() for part in judgements).backward()
    assert audio.grad is not None
    assert audio.grad.isfinite().all()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in discriminator.parameters()
    )


def test_dac_hears_neither_level_nor_offset() -> None:
    discriminator = DISCRIMINATORS["dac"](0.05)
    scores = [[part.score for part in discriminator(audio)] for audio in (noise(), 3 * noise() + 0.2)]
    for one, other in zip(*scores, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_periods_see_single_samples() -> None:
    """A part with period p sees a click in one row of p alone."""
    discriminator = MultiPeriod(0.05)
    clicked = noise(samples=2310)
    clicked[0, 1155] += 1
    for period, before, after in zip(PERIODS, discriminator(noise(samples=2310)), discriminator(clicked), strict=True):
        changed = (before.score != after.score)[0, 0].any(dim=1)
        assert changed.tolist() == [row == 1155 % period for row in range(period)]


def test_both_signals_are_judged_by_the_same_weights() -> None:
    torch.manual_seed(0)
    judges = Discriminators(["mpd", "mrd"], 0.05)
    judgements = judges(noise(), noise())
    assert list(judgements) == ["mpd", "mrd"]
    for real, made in judgements.values():
        assert all(torch.equal(one.score, other.score) for one, other in zip(real, made, strict=True))
    apart = judges["mpd"](noise())
    assert torch.equal(apart[0].score, judgements["mpd"][0][0].score)


@pytest.mark.parametrize("width", [0.0, 1.5, -1])
def test_width_out_of_range(width: float) -> None:
    with pytest.raises(ValueError, match=r"expected a number in \(0, 1\]"):
        Discriminators(["mpd"], width)
