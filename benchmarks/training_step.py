"""The training step, generator and all discriminators, against the published procedure.

Baseline: the codec runs once for the discriminators and anew for itself; discriminators judge four times, periods as
columns; weight normalization of the older form anew in each forward; the weights of the DAC discriminator, which
nobody trains, get gradients in both steps, those of the others in their own alone (as Lightning switches them); AdamW
of the default kind.
Ours: the recipe `corrected` with the published losses, so that all discriminators learn.
"""

from __future__ import annotations

import argparse
import functools
import gc
import logging
import statistics
import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.plain_codec import plain_codec, plain_discriminators
from benchmarks.timing import hardware, print_figure
from q2d2.bfloat16 import WrongArithmetic, check_bfloat16
from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec, codec_config
from q2d2.training import loop
from q2d2.training.adversarial import discriminator_losses, generator_losses
from q2d2.training.config import RECIPES, train_config
from q2d2.training.discriminators import Discriminators, Judgement
from q2d2.training.losses import ReconstructionLosses

TARGETS = {"32-true": 1.3, "bf16-mixed": 2.0}
LOSSES = RECIPES["published"]["losses"]


@functools.cache
def precisions() -> tuple[str, ...]:
    """Those that are right on this machine; what is left out is said once."""
    try:
        check_bfloat16()
    except WrongArithmetic as error:
        print(f"bfloat16 is left out: {error}")
        return ("32-true",)
    return tuple(TARGETS)


def build_codec(size: str) -> Codec:
    torch.manual_seed(0)
    config = codec_config(size)
    return Codec(config, build_bottleneck("vq", config.dimension, codebook_size=4096))


class PublishedStep:
    """One batch as the published code trains on it, in float32."""

    def __init__(self, size: str) -> None:
        codec = build_codec(size)
        self.codec = plain_codec(codec).train()
        self.judges = plain_discriminators(Discriminators(("mpd", "mrd", "dac")))
        self.objective = ReconstructionLosses(codec.sample_rate, LOSSES)
        trained = [p for name in ("mpd", "mrd") for p in self.judges[name].parameters()]
        self.trained = trained
        self.judges_optimizer = torch.optim.AdamW(trained, 2e-4)
        self.optimizer = torch.optim.AdamW(self.codec.parameters(), 2e-4)

    def __call__(self, audio: Tensor) -> None:
        self._toggle(True)
        with torch.no_grad():
            made = self.codec(audio).audio
        taught = discriminator_losses(self._judge(audio, made))
        self.judges.zero_grad(set_to_none=True)
        torch.stack(list(taught.values())).sum().backward()
        self.judges_optimizer.step()

        self._toggle(False)
        output = self.codec(audio)
        losses = self.objective(output, audio) | generator_losses(self._judge(audio, output.audio), LOSSES)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()

    def _judge(self, real: Tensor, made: Tensor) -> dict[str, tuple[list[Judgement], list[Judgement]]]:
        return {name: (judge(real), judge(made)) for name, judge in self.judges.items()}

    def _toggle(self, judges: bool) -> None:
        for parameter in self.trained:
            parameter.requires_grad_(judges)


def our_step(size: str, precision: str) -> Callable[[Tensor], object]:
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    codec = build_codec(size)
    config = train_config(losses=LOSSES, spectral_steps=0, precision=precision)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]
    stepper, _ = loop._set_up(fabric, config, codec.config, codec, loop.build_judges(config))
    return lambda audio: stepper.step(0, [audio])


def measure(size: str, batch: int, seconds: float, rounds: int) -> dict[str, float]:
    """Median wall seconds of a step of each kind, all taking turns, after one round to warm up."""
    audio = 0.1 * torch.randn(batch, round(seconds * codec_config(size).sample_rate))
    steps: dict[str, Callable[[Tensor], object]] = {"published": PublishedStep(size)}
    steps |= {precision: our_step(size, precision) for precision in precisions()}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            gc.collect()
            start = time.perf_counter()
            step(audio)
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def report(size: str, batch: int, seconds: float, rounds: int) -> dict[str, float]:
    """Measure and print a table; its figures."""
    print(f"training step, size {size}, batch {batch} x {seconds:g} s, medians of {rounds} rounds in turns, wall time")
    medians = measure(size, batch, seconds, rounds)
    print(f"{'published procedure, float32':<34}{medians['published']:>8.2f} s")
    for precision in precisions():
        target = TARGETS[precision]
        ratio = medians["published"] / medians[precision]
        met = "met" if ratio >= target else "MISSED"
        print(f"{'ours, ' + precision:<34}{medians[precision]:>8.2f} s   {ratio:.2f}x   >= {target}: {met}")
    return {f"training_step.speedup.{name}": medians["published"] / medians[name] for name in precisions()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step", description=__doc__)
    parser.add_argument("--size", default="wavtokenizer", help="size of the backbone (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=2, help="segments (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a segment (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    print(hardware())
    for figure, value in report(options.size, options.batch, options.seconds, options.rounds).items():
        print_figure(f"codec.{figure}", value)


if __name__ == "__main__":
    main()
