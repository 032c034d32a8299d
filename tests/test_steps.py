"""Optimizer steps: gradients as from the plain sum of losses, and each published fault in `published` alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec
from q2d2.training import loop
from q2d2.training.adversarial import discriminator_losses, generator_losses, needed_discriminators
from q2d2.training.config import FAULTS, TrainConfig, train_config
from q2d2.training.discriminators import Discriminators
from q2d2.training.losses import ReconstructionLosses
from q2d2.training.steps import Stepper
from tests.small_training import RATE, SMALL

WIDTH = 0.02


def stepper_of(
    config: TrainConfig, bottleneck: str = "vq", **options: Any
) -> tuple[Stepper, Codec, Discriminators, frozenset[str]]:
    """As `train` makes it, with dropout off, so that a forward pass can be repeated."""
    torch.manual_seed(0)
    options = options or ({"codebook_size": 16, "dead_code_fraction": 0.0} if bottleneck == "vq" else {})
    codec = Codec(SMALL, build_bottleneck(bottleneck, SMALL.dimension, **options))
    for module in codec.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    judges = loop.build_judges(config)
    stepper, _ = loop._set_up(Fabric(accelerator="cpu", devices=1), config, SMALL, codec, judges)
    return stepper, codec, judges.discriminators, judges.frozen


def batch(seed: int = 0, clips: int = 2) -> Tensor:
    return 0.1 * torch.randn(clips, 1600, generator=torch.Generator().manual_seed(seed))


def recipe(name: str, **changes: Any) -> TrainConfig:
    return train_config(name, **{"discriminator_width": WIDTH, "spectral_steps": 0, **changes})


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: torch.nn.Module) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(before[name], tensor)}


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def collect_gradients(monkeypatch: pytest.MonkeyPatch, codec: Codec, judges: Discriminators) -> dict[str, Tensor]:
    """The gradients at the moment of the optimizers' steps, of both."""
    found: dict[str, Tensor] = {}

    def remember(self: torch.optim.AdamW, *_: Any, **__: Any) -> None:
        for module in (codec, judges):
            found.update(gradients(module))

    monkeypatch.setattr(torch.optim.AdamW, "step", remember)
    return found


@pytest.mark.parametrize("bottleneck", ["vq", "null"])
def test_one_shared_forward_gives_the_gradients_of_the_plain_sums(
    monkeypatch: pytest.MonkeyPatch, bottleneck: str
) -> None:
    config = recipe("corrected", gradient_clip=None)
    stepper, codec, judges, frozen = stepper_of(config, bottleneck)
    assert not frozen
    codec(batch(9))  # codebooks start
    start = snapshot(codec)
    found = collect_gradients(monkeypatch, codec, judges)
    torch.manual_seed(1)
    losses = stepper.step(0, [batch()])

    codec.load_state_dict(start)
    for module in (codec, judges):
        module.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    output = codec(batch())
    expected = ReconstructionLosses(RATE, config.losses)(output, batch())
    expected |= generator_losses(judges(batch(), output.audio), config.losses)
    assert list(losses.codec) == list(expected)
    for name, loss in expected.items():
        torch.testing.assert_close(losses.codec[name], loss.detach(), atol=1e-6, rtol=1e-5)
    torch.stack(list(expected.values())).sum().backward()
    for name, gradient in gradients(codec).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3, msg=name)
    judges.zero_grad(set_to_none=True)
    taught = discriminator_losses(judges(batch(), output.audio.detach()))
    torch.stack(list(taught.values())).sum().backward()
    assert losses.discriminators.keys() == taught.keys()
    for name, gradient in gradients(judges).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("name", ["corrected", "published", "spectral"])
def test_accumulated_batches_are_one_large_batch(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = []
    for pieces in (1, 2):
        stepper, codec, judges, _ = stepper_of(recipe(name, accumulate=pieces, gradient_clip=None), "null")
        monkeypatch.setattr(codec, "_condition", lambda batch, device: torch.zeros(batch, 1, dtype=torch.int64))
        collected = collect_gradients(monkeypatch, codec, judges)
        losses = stepper.step(0, list(batch(clips=4).chunk(pieces)))
        found.append((collected, losses))
        monkeypatch.undo()
    (whole, all_losses), (parts, mean_losses) = found
    assert whole.keys() == parts.keys()
    for key, gradient in whole.items():
        # As a whole: what single numbers round to differs between processors.
        assert (parts[key] - gradient).norm() <= 5e-3 * gradient.norm() + 2e-5, key
    for mine, other in zip(all_losses, mean_losses, strict=True):
        for key, loss in mine.items():
            torch.testing.assert_close(other[key], loss, atol=1e-5, rtol=1e-4)


def test_first_steps_are_spectral_alone() -> None:
    config = recipe("corrected", spectral_steps=2)
    stepper, _, judges, _ = stepper_of(config)
    before = snapshot(judges)
    for step in range(2):
        losses = stepper.step(step, [batch(step)])
        assert losses.discriminators == {}
        assert not set(losses.codec) & set(needed_discriminators(config.losses))
        assert not changed(before, judges)
    losses = stepper.step(2, [batch(2)])
    assert set(losses.codec) == set(config.losses)
    assert set(losses.discriminators) == {"mpd", "mrd", "dac"}
    assert changed(before, judges)


def test_all_discriminators_learn_but_the_published_dac() -> None:
    for name, idle in (("corrected", set()), ("published", {"dac"})):
        stepper, _, judges, frozen = stepper_of(recipe(name, learning_rate=1e-2))
        assert frozen == idle
        before = snapshot(judges)
        losses = stepper.step(0, [batch()])
        learned = {key.split(".")[0] for key in changed(before, judges)}
        assert learned == {"mpd", "mrd", "dac"} - idle
        assert set(losses.discriminators) == learned
        assert "dac_features" in losses.codec  # it judges all the same


def test_codebooks_learn_once_a_batch_and_twice_as_published() -> None:
    for name, times in (("corrected", 1), ("published", 2)):
        stepper, codec, _, _ = stepper_of(recipe(name))
        codec(batch(9))
        codebook = codec.bottleneck.codebook
        updates: list[int] = []
        update = codebook.update_ema
        codebook.update_ema = lambda update=update, updates=updates: (updates.append(1), update())
        stepper.step(0, [batch()])
        assert len(updates) == times, name


def test_codec_runs_once_a_batch_and_twice_as_published() -> None:
    for name, times in (("corrected", 1), ("spectral", 1), ("published", 2)):
        stepper, codec, _, _ = stepper_of(recipe(name))
        calls = []
        codec.register_forward_hook(lambda *_, calls=calls: calls.append(torch.is_grad_enabled()))
        stepper.step(0, [batch()])
        assert len(calls) == times, name
        assert calls[-1]


def test_each_fault_can_be_left_out_of_published() -> None:
    assert set(train_config("published").faults) == set(FAULTS)
    assert train_config("corrected").faults == ()
    _, _, _, frozen = stepper_of(recipe("published", faults=("two_generator_forwards",)))
    assert not frozen
    stepper, codec, _, frozen = stepper_of(recipe("published", faults=("frozen_dac_discriminator",)))
    assert frozen == {"dac"}
    calls: list[int] = []
    codec.register_forward_hook(lambda *_: calls.append(1))
    stepper.step(0, [batch()])
    assert len(calls) == 1


def test_a_frozen_discriminator_alone_still_judges() -> None:
    losses = {"mel_1024": 45.0, "dac": 1.0, "dac_features": 1.0}
    for faults in (tuple(FAULTS), ("frozen_dac_discriminator",)):
        stepper, codec, judges, _ = stepper_of(recipe("published", losses=losses, faults=faults), "null")
        before, start = snapshot(judges), snapshot(codec)
        made = stepper.step(0, [batch()])
        assert made.discriminators == {}
        assert set(made.codec) == set(losses)
        assert not changed(before, judges)
        assert changed(start, codec)


@pytest.mark.parametrize("name", ["corrected", "published"])
def test_gradients_of_both_are_clipped_in_corrected_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    config = recipe(name) if name == "published" else recipe(name, gradient_clip=1e-3)
    stepper, codec, judges, _ = stepper_of(config)
    found = collect_gradients(monkeypatch, codec, judges)
    stepper.step(0, [batch()])
    for module in (codec, judges):
        names = [key for key, _ in module.named_parameters() if key in found]
        norm = torch.stack([found[key].norm() for key in names]).norm().item()
        assert norm == pytest.approx(1e-3, rel=1e-2) if name == "corrected" else norm > 1e-2


@pytest.mark.parametrize("name", ["corrected", "published"])
def test_bf16_keeps_bottleneck_losses_and_audio_in_float32(name: str) -> None:
    torch.manual_seed(0)
    config = recipe(name)
    codec = Codec(SMALL, build_bottleneck("q2d2", SMALL.dimension, levels=[7, 7]))
    judges, fabric = loop.build_judges(config), Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    stepper, _ = loop._set_up(fabric, config, SMALL, codec, judges)
    seen: dict[str, torch.dtype] = {}
    codec.decoder.embed.register_forward_hook(lambda _, __, output: seen.update(decoder=output.dtype))
    codec.bottleneck.project_in.register_forward_hook(lambda _, __, output: seen.update(bottleneck=output.dtype))
    codec.head.register_forward_hook(lambda _, __, output: seen.update(audio=output.dtype))
    judges.discriminators["mpd"].parts[0].convs[1].register_forward_hook(
        lambda _, __, output: seen.update(judge=output.dtype)
    )
    losses = stepper.step(0, [batch()])
    assert seen == {
        "decoder": torch.bfloat16, "bottleneck": torch.float32, "audio": torch.float32, "judge": torch.bfloat16,
    }  # fmt: skip
    for part in losses:
        assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in part.values())
