"""Losses between the codec and its discriminators, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from q2d2.training.discriminators import DISCRIMINATORS, Discriminators, Judgement

Judgements = Mapping[str, tuple[list[Judgement], list[Judgement]]]
FEATURES = "_features"
ADVERSARIAL = tuple(name + suffix for name in DISCRIMINATORS for suffix in ("", FEATURES))


def needed_discriminators(weights: Mapping[str, float]) -> list[str]:
    """The discriminators that losses with a positive weight ask for, in the order of DISCRIMINATORS."""
    asked = {name.removesuffix(FEATURES) for name, weight in weights.items() if weight > 0}
    return [name for name in DISCRIMINATORS if name in asked]


def generator_losses(judgements: Judgements, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Weighted losses that the codec is to lower, {name: scalar}, for the adversarial names in `weights`.

    NAME: how far the made audio is from being taken for real: hinge max(0, 1 - score), mean over parts, or least
    squares (1 - score)^2, sum over parts. NAME_features: L1 between the feature maps of real and made audio, summed
    over maps, and over parts in the same way.
    """
    losses: dict[str, Tensor] = {}
    for name, (real, made) in judgements.items():
        if weights.get(name):
            losses[name] = weights[name] * _over_parts(name, [_real_loss(name)(part.score) for part in made])
        if weights.get(name + FEATURES):
            distances = [
                torch.stack([_distance(ours, wanted) for ours, wanted in zip(*maps, strict=True)]).sum()
                for maps in zip((part.features for part in made), (part.features for part in real), strict=True)
            ]
            losses[name + FEATURES] = weights[name + FEATURES] * _over_parts(name, distances)
    return losses


def discriminator_losses(judgements: Judgements, frozen: frozenset[str] = frozenset()) -> dict[str, Tensor]:
    """What each discriminator is to lower, {name: scalar}; none for those in `frozen`, which nobody trains."""
    losses = {}
    for name, (real, made) in judgements.items():
        if name not in frozen:
            pairs = zip(real, made, strict=True)
            losses[name] = _over_parts(
                name, [_real_loss(name)(ours.score) + _made_loss(name)(other.score) for ours, other in pairs]
            )
    return losses


class AdversarialLosses(nn.Module):
    """Discriminators and what they and the codec are to lower, in one module, so that only losses leave it.

    Args:
        weights: {name: weight}; discriminators are built for the adversarial names with a positive one.
        width: channels of the discriminators as a fraction of the published ones.
        frozen: discriminators that judge and never learn.

    Attributes:
        learning: names of the discriminators that learn.
    """

    def __init__(self, weights: Mapping[str, float], width: float = 1.0, frozen: Iterable[str] = ()) -> None:
        super().__init__()
        self.weights = {name: weight for name, weight in weights.items() if weight > 0 and name in ADVERSARIAL}
        self.discriminators = Discriminators(needed_discriminators(weights), width)
        self.frozen = frozenset(frozen) & set(self.discriminators)
        for name in self.frozen:
            self.discriminators[name].requires_grad_(False)
        self.learning = tuple(name for name in self.discriminators if name not in self.frozen)

    def forward(
        self, audio: Tensor, made: Tensor, judging: bool = True, teaching: bool = True
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Real and made audio (batch, samples) -> what the codec, and what the discriminators, are to lower.

        One pass of the discriminators serves both; `judging` and `teaching` leave the one or the other empty.
        """
        judgements = self.discriminators(audio, made)
        judged = generator_losses(judgements, self.weights) if judging else {}
        return judged, discriminator_losses(judgements, self.frozen) if teaching else {}


def _distance(ours: Tensor, wanted: Tensor) -> Tensor:
    """L1, summed up in float32 whatever the maps are in. A norm passes over the maps less often than abs and mean."""
    return torch.linalg.vector_norm(ours - wanted.detach(), ord=1, dtype=torch.float32) / ours.numel()


def _real_loss(name: str) -> Callable[[Tensor], Tensor]:
    if DISCRIMINATORS[name].loss == "hinge":
        return lambda score: (1 - score.float()).clamp(min=0).mean()
    return lambda score: (1 - score.float()).square().mean()


def _made_loss(name: str) -> Callable[[Tensor], Tensor]:
    if DISCRIMINATORS[name].loss == "hinge":
        return lambda score: (1 + score.float()).clamp(min=0).mean()
    return lambda score: score.float().square().mean()


def _over_parts(name: str, values: list[Tensor]) -> Tensor:
    stacked = torch.stack(values)
    return stacked.mean() if DISCRIMINATORS[name].loss == "hinge" else stacked.sum()
