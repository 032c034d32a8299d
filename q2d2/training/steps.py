"""One optimizer step: the codec alone, or the codec and its discriminators.

The codec's gradient from the discriminators is taken at its audio: the losses are led back to the audio alone, and from
there, together with the other losses, into the codec. So no discriminator's weight gets a gradient that is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn

from q2d2.codec import CodecOutput
from q2d2.training.adversarial import AdversarialLosses
from q2d2.training.config import TrainConfig
from q2d2.training.losses import ReconstructionLosses

Value = TypeVar("Value")


class StepLosses(NamedTuple, Generic[Value]):
    """What was minimized in a step, {name: value}: by the codec, and by each discriminator."""

    codec: dict[str, Value]
    discriminators: dict[str, Value]


@dataclass(frozen=True)
class Stepper:
    """Makes optimizer steps.

    Attributes:
        fabric: precision, devices and processes.
        config: of the training.
        codec, codec_optimizer: as fabric.setup returns them.
        objective: reconstruction losses.
        judges: adversarial losses and the discriminators in them, as they are.
        taught, judges_optimizer: the same as fabric.setup returns them; None where no discriminator learns.
    """

    fabric: Fabric
    config: TrainConfig
    codec: _FabricModule
    codec_optimizer: torch.optim.Optimizer
    objective: ReconstructionLosses
    judges: AdversarialLosses
    taught: _FabricModule | None
    judges_optimizer: torch.optim.Optimizer | None

    def step(self, step: int, batches: Sequence[Tensor]) -> StepLosses[Tensor]:
        """Step `step` (from 0) on batches of audio (batch, samples) whose gradients are added up; mean losses."""
        if not self.judges.weights or step < self.config.spectral_steps:
            made = [self._spectral(audio, last) for audio, last in _with_last(batches)]
            self._update(self.codec, self.codec_optimizer)
        elif "two_generator_forwards" in self.config.faults:
            made = self._two_forwards(batches)
        else:
            made = [self._shared_forward(audio, last) for audio, last in _with_last(batches)]
            self._update_discriminators()
            self._update(self.codec, self.codec_optimizer)
        return StepLosses(_mean([losses.codec for losses in made]), _mean([losses.discriminators for losses in made]))

    def _spectral(self, audio: Tensor, last: bool) -> StepLosses[Tensor]:
        with self._gathered(self.codec, last):
            losses = self.objective(self.codec(audio), audio)
            self._backward(losses)
        return StepLosses(_detached(losses), {})

    def _shared_forward(self, audio: Tensor, last: bool) -> StepLosses[Tensor]:
        """One pass of the codec and one of the discriminators serve both."""
        with self._gathered(self.codec, last), self._gathered(self.taught, last):
            output: CodecOutput = self.codec(audio)
            made = output.audio.detach().requires_grad_()
            judged, taught = self.taught(audio, made) if self.taught else self._judge(audio, made)
            to_audio = self._led_back(judged, made, keep_graph=bool(taught))
            if taught:  # into the weights alone: the audio's gradient would be thrown away
                self.fabric.backward(_sum(taught) / self.config.accumulate, inputs=self._learning_weights)
            losses = self.objective(output, audio)
            self._backward(losses, output.audio, to_audio)
        return StepLosses(_detached(losses | judged), _detached(taught))

    def _two_forwards(self, batches: Sequence[Tensor]) -> list[StepLosses[Tensor]]:
        """As published: the discriminators learn first; the codec then runs again and is judged anew."""
        all_taught = []
        for audio, last in _with_last(batches):
            with torch.no_grad():
                made = self.codec(audio).audio
            taught: dict[str, Tensor] = {}
            if self.taught is not None:
                with self._gathered(self.taught, last):
                    _, taught = self.taught(audio, made, judging=False)
                    self._backward(taught)
            all_taught.append(_detached(taught))
        self._update_discriminators()

        all_losses = []
        for (audio, last), taught in zip(_with_last(batches), all_taught, strict=True):
            with self._gathered(self.codec, last):
                output: CodecOutput = self.codec(audio)
                made = output.audio.detach().requires_grad_()
                judged, _ = self._judge(audio, made)
                to_audio = self._led_back(judged, made, keep_graph=False)
                losses = self.objective(output, audio)
                self._backward(losses, output.audio, to_audio)
            all_losses.append(StepLosses(_detached(losses | judged), taught))
        self._update(self.codec, self.codec_optimizer)
        return all_losses

    @cached_property
    def _learning_weights(self) -> list[nn.Parameter]:
        return [weight for weight in self.judges.parameters() if weight.requires_grad]

    def _judge(self, audio: Tensor, made: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the codec is to lower, past DDP, which would wait for gradients of the discriminators."""
        with self.fabric.autocast():
            losses: tuple[dict[str, Tensor], dict[str, Tensor]] = self.judges(audio, made, teaching=False)
        return losses

    def _led_back(self, judged: dict[str, Tensor], made: Tensor, keep_graph: bool) -> Tensor | None:
        """The gradient of the sum of `judged` at the audio `made`; None where nothing is judged."""
        if not judged:
            return None
        self.fabric.backward(_sum(judged), inputs=[made], retain_graph=keep_graph)
        gradient, made.grad = made.grad, None
        return gradient

    def _backward(self, losses: dict[str, Tensor], audio: Tensor | None = None, to_audio: Tensor | None = None) -> None:
        """Add to the gradients that of the sum of `losses`, and what `to_audio`, a gradient at `audio`, leads to."""
        total = _sum(losses)
        if audio is not None and to_audio is not None:
            total = total + (audio * to_audio).sum()  # a value without meaning, with the gradient wanted
        self.fabric.backward(total / self.config.accumulate)

    def _gathered(self, module: _FabricModule | None, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients after the last of the accumulated batches alone."""
        return nullcontext() if module is None or last else self.fabric.no_backward_sync(module)

    def _update_discriminators(self) -> None:
        if self.taught is not None and self.judges_optimizer is not None:
            self._update(self.taught, self.judges_optimizer)

    def _update(self, module: _FabricModule, optimizer: torch.optim.Optimizer) -> None:
        if self.config.gradient_clip is not None:
            self.fabric.clip_gradients(module, optimizer, max_norm=self.config.gradient_clip, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _with_last(batches: Sequence[Tensor]) -> list[tuple[Tensor, bool]]:
    return [(audio, number == len(batches)) for number, audio in enumerate(batches, start=1)]


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _detached(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: loss.detach() for name, loss in losses.items()}


def _mean(losses: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(losses) == 1:
        return losses[0]
    return {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}
