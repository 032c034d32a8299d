"""Reconstruction losses: zero for equal signals, weights that are what is summed, finite gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio
from torch import Tensor

from q2d2.codec import CodecOutput
from q2d2.training.losses import FLOOR, ReconstructionLosses

RATE = 16000
WEIGHTS = {"mel": 1.0, "stft": 0.5, "complex_stft": 4.0, "waveform": 2.0, "commitment": 3.0}


def output_of(audio: Tensor, loss: float = 0.25) -> CodecOutput:
    return CodecOutput(audio, torch.empty(len(audio), 0, 1, dtype=torch.int64), torch.tensor(loss))


def speech_like(seed: int = 0, samples: int = 8000) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(samples) / RATE
    tones = sum(torch.sin(2 * math.pi * 150 * h * t) / h for h in range(1, 10))
    return 0.1 * (tones + 0.1 * torch.randn(2, samples, generator=generator))


def test_equal_signals_cost_nothing() -> None:
    audio = speech_like()
    losses = ReconstructionLosses(RATE, WEIGHTS)(output_of(audio), audio)
    assert list(losses) == list(WEIGHTS)
    assert {name: loss.item() for name, loss in losses.items()} == dict.fromkeys(WEIGHTS, 0.0) | {"commitment": 0.75}


def test_each_loss_grows_with_the_difference() -> None:
    audio, objective = speech_like(), ReconstructionLosses(RATE, WEIGHTS)
    noise = torch.randn(2, 8000, generator=torch.Generator().manual_seed(3))
    series = [objective(output_of(audio + level * noise), audio) for level in (0.001, 0.01, 0.1)]
    for name in ("mel", "stft", "complex_stft", "waveform"):
        values = [losses[name].item() for losses in series]
        assert 0 < values[0] < values[1] < values[2], name


def test_values_follow_from_a_gain() -> None:
    audio = 0.5 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(1))  # far above the floors
    objective = ReconstructionLosses(RATE, dict.fromkeys(WEIGHTS, 1.0))
    losses = objective(output_of(2 * audio), audio)
    assert losses["mel"].item() == pytest.approx(math.log(2), abs=1e-3)
    assert losses["stft"].item() == pytest.approx(math.log(2), abs=1e-3)
    assert losses["waveform"].item() == pytest.approx(audio.abs().mean().item(), rel=1e-5)
    # |2S|^0.3 - |S|^0.3 = (2^0.3 - 1) |S|^0.3, the same factor for any signal.
    louder = objective(output_of(4 * audio), 2 * audio)["complex_stft"]
    assert louder.item() / losses["complex_stft"].item() == pytest.approx(2**0.3, rel=1e-2)


def test_only_the_complex_loss_and_the_waveform_see_phase() -> None:
    audio = speech_like()
    losses = ReconstructionLosses(RATE, WEIGHTS)(output_of(-audio), audio)
    assert losses["mel"].item() == losses["stft"].item() == 0
    assert losses["complex_stft"].item() > 0.01
    assert losses["waveform"].item() > 0.01


def test_weights_are_respected() -> None:
    audio, other = speech_like(0), speech_like(1)
    plain = ReconstructionLosses(RATE, dict.fromkeys(WEIGHTS, 1.0))(output_of(other), audio)
    weighted = ReconstructionLosses(RATE, WEIGHTS)(output_of(other), audio)
    for name, weight in WEIGHTS.items():
        assert weighted[name].item() == pytest.approx(weight * plain[name].item()), name
    some = ReconstructionLosses(RATE, {"mel": 0.0, "waveform": 2.0})(output_of(other), audio)
    assert list(some) == ["waveform"]
    assert some["waveform"].item() == pytest.approx(weighted["waveform"].item())


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-9, 1e-3])
def test_gradient_is_finite_and_bounded_in_silence(level: float) -> None:
    noise = torch.randn(1, 4000, generator=torch.Generator().manual_seed(2))
    audio = (level * noise).requires_grad_()
    for target in (torch.zeros(1, 4000), 0.1 * noise):
        total = sum(ReconstructionLosses(RATE, WEIGHTS)(output_of(audio), target).values())
        assert isinstance(total, Tensor)
        (gradient,) = torch.autograd.grad(total, audio)
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1 / FLOOR


def test_mel_bands_are_all_fed() -> None:
    for scale in ReconstructionLosses(RATE, WEIGHTS).scales:
        assert (scale.mel_filters.sum(dim=0) > 0).all(), scale.n_fft


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"mell": 1.0},
            "unknown loss 'mell'. Known: mel, mel_1024, stft, complex_stft, waveform, commitment, mpd",
        ),
        ({"mel": -1.0}, "loss 'mel': weight -1.0 is negative"),
        ({"mel": 0.0}, "no loss compares the audio"),
        ({"mpd": 1.0, "commitment": 1.0}, "no loss compares the audio"),
        ({}, "no loss compares the audio"),
    ],
)
def test_bad_weights_are_named(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReconstructionLosses(RATE, weights)


def test_too_short_segments_are_named() -> None:
    objective = ReconstructionLosses(RATE, {"mel": 1.0})
    objective(output_of(torch.zeros(1, 1025)), torch.zeros(1, 1025))
    with pytest.raises(ValueError, match="spectral losses need 1025 samples, segments have 1024"):
        objective(output_of(torch.zeros(1, 1024)), torch.zeros(1, 1024))


def test_published_mel_loss_follows_its_definition() -> None:
    """Log-mel L1 at window 1024, hop 256, 100 bands, as torchaudio's transform has it by default."""
    audio, other = speech_like(0), speech_like(1)
    transform = torchaudio.transforms.MelSpectrogram(RATE, 1024, hop_length=256, n_mels=100, power=1)
    mels = [transform(signal).clamp(min=1e-7).log() for signal in (audio, other)]
    expected = 45 * (mels[0] - mels[1]).abs().mean()
    losses = ReconstructionLosses(RATE, {"mel_1024": 45.0, "mpd": 1.0})(output_of(other), audio)
    assert list(losses) == ["mel_1024"]
    torch.testing.assert_close(losses["mel_1024"], expected)
