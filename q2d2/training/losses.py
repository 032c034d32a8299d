"""Reconstruction losses as a mapping {name: weight}; what is logged is what is summed.

Those of the discriminators are in q2d2.training.adversarial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor, nn

from q2d2.codec import CodecOutput
from q2d2.training.adversarial import ADVERSARIAL

FLOOR = 1e-5
# The published mel loss: one resolution, magnitudes cut off at this value before the logarithm.
PUBLISHED_N_FFT, PUBLISHED_MELS, PUBLISHED_FLOOR = 1024, 100, 1e-7
# Below this magnitude the compression is linear: its gradient would grow without bound.
COMPRESSION_FLOOR = 1e-3


class SpectralScale(nn.Module):
    """STFT of one resolution with its mel filter bank.

    Args:
        sample_rate: Hz.
        n_fft: window length in samples; the hop is a quarter of it.
        num_mels: mel bands from 0 Hz to half the sample rate.
    """

    window: Tensor
    mel_filters: Tensor

    def __init__(self, sample_rate: int, n_fft: int, num_mels: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        filters = AF.melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2, num_mels, sample_rate)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("mel_filters", filters, persistent=False)

    def spectrum(self, audio: Tensor) -> Tensor:
        """Audio (batch, samples) -> complex spectrum (batch, bins, frames), scaled to the window's unit energy."""
        return torch.stft(audio, self.n_fft, self.n_fft // 4, window=self.window, normalized=True, return_complex=True)

    def log_mel(self, magnitude: Tensor) -> Tensor:
        """Magnitudes (batch, bins, frames) -> natural-log mel magnitudes (batch, frames, mels)."""
        return (magnitude.transpose(1, 2) @ self.mel_filters).clamp(min=FLOOR).log()


class ReconstructionLosses(nn.Module):
    """Weighted losses of a codec's output against its target, each a mean over the batch.

    Known names:
        mel: L1 of log-mel magnitudes, mean over scales.
        stft: L1 of log magnitudes, mean over scales.
        mel_1024: L1 of log-mel magnitudes at the published resolution alone (window 1024, 100 bands).
        complex_stft: L1 of the compressed complex spectra |S|^0.3 e^{i phase}, mean over scales; sees the phase.
        waveform: L1 of samples.
        commitment: the bottleneck's own loss; 0 where it has none.

    Args:
        sample_rate: Hz.
        weights: {name: weight}; names with weight 0, and those of the discriminators, are not computed.
        n_ffts: window lengths of the scales in samples.

    Raises:
        ValueError: an unknown name, a negative weight, or no positive one; in `forward`, audio shorter than half the
            longest window.
    """

    NAMES = ("mel", "mel_1024", "stft", "complex_stft", "waveform", "commitment")

    def __init__(
        self, sample_rate: int, weights: Mapping[str, float], n_ffts: tuple[int, ...] = (2048, 1024, 512, 256)
    ) -> None:
        super().__init__()
        for name, weight in weights.items():
            if name not in (*self.NAMES, *ADVERSARIAL):
                raise ValueError(f"unknown loss {name!r}. Known: {', '.join((*self.NAMES, *ADVERSARIAL))}.")
            if weight < 0:
                raise ValueError(f"loss {name!r}: weight {weight} is negative")
        self.weights = {name: weight for name, weight in weights.items() if weight > 0 and name in self.NAMES}
        if not set(self.weights) - {"commitment"}:
            raise ValueError(f"no loss compares the audio: give one of {', '.join(self.NAMES[:-1])} a positive weight")
        self.shortest = max(n_ffts) // 2 + 1  # samples that the reflection at both ends needs
        # At most one band per five bins, as more would leave the lowest bands empty.
        self.scales = nn.ModuleList(SpectralScale(sample_rate, n_fft, min(100, n_fft // 10)) for n_fft in n_ffts)
        self.published_scale = SpectralScale(sample_rate, PUBLISHED_N_FFT, PUBLISHED_MELS)

    def forward(self, output: CodecOutput, target: Tensor) -> dict[str, Tensor]:
        """Codec output and target (batch, samples) -> {name: weighted loss}; training minimizes their sum."""
        losses = {"waveform": F.l1_loss(output.audio, target), "commitment": output.loss}
        if {"mel", "mel_1024", "stft", "complex_stft"} & set(self.weights) and target.shape[-1] < self.shortest:
            raise ValueError(f"spectral losses need {self.shortest} samples, segments have {target.shape[-1]}")
        if "mel_1024" in self.weights:
            losses["mel_1024"] = F.l1_loss(self._published_mel(output.audio), self._published_mel(target))
        if {"mel", "stft", "complex_stft"} & set(self.weights):
            per_scale = [self._spectral(scale, output.audio, target) for scale in self.scales]
            losses |= {name: torch.stack([scale[name] for scale in per_scale]).mean() for name in per_scale[0]}
        return {name: weight * losses[name] for name, weight in self.weights.items()}

    def _published_mel(self, audio: Tensor) -> Tensor:
        scale = self.published_scale
        spectrum = torch.stft(audio, scale.n_fft, scale.n_fft // 4, window=scale.window, return_complex=True)
        return (spectrum.abs().transpose(1, 2) @ scale.mel_filters).clamp(min=PUBLISHED_FLOOR).log()

    def _spectral(self, scale: nn.Module, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        assert isinstance(scale, SpectralScale)
        compared: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "mel": lambda spectrum, magnitude: scale.log_mel(magnitude),
            "stft": lambda spectrum, magnitude: magnitude.log(),
            "complex_stft": _compressed,
        }
        spectra = [scale.spectrum(audio) for audio in (estimate, target)]
        # The floor under the square root keeps the gradient finite in silence.
        magnitudes = [(s.real.square() + s.imag.square() + FLOOR**2).sqrt() for s in spectra]
        losses = {}
        for name in (name for name in compared if name in self.weights):
            ours, wanted = map(compared[name], spectra, magnitudes)
            losses[name] = F.l1_loss(ours, wanted)
        return losses


def _compressed(spectrum: Tensor, magnitude: Tensor) -> Tensor:
    """|S|^0.3 e^{i phase}, real and imaginary part in the last dimension."""
    return torch.view_as_real(spectrum) * (magnitude.clamp(min=COMPRESSION_FLOOR) ** -0.7)[..., None]
