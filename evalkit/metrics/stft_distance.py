"""Multi-resolution STFT distance between `estimate` and `reference`; 0 is best.

Definition: Yamamoto, Song, Kim, "Parallel WaveGAN", ICASSP 2020: for magnitudes R of the reference
and E of the estimate, the spectral convergence |R - E| / |R| (Frobenius norms) plus the mean of |log R - log E|
(natural logarithm), averaged over three resolutions: FFT 512, 1024 and 2048, hops 50, 120 and 240, Hann windows of 240,
600 and 1200 samples. As in the authors' own code, magnitudes are sqrt(max(power, 1e-7)).
Implementation: here, in NumPy and SciPy, float64.
Rate: 16 kHz, as for `mel_distance`, whose docstring says why; windows and hops are the paper's (24 kHz) in samples.
Range: 0 for identical signals, no upper bound; lower is better.
Scale: gain counts, as a distance in level. The floor of the magnitudes is about half a step of 16-bit PCM.
Limits: phase does not count, loudness and masking neither: an inaudible band weighs as much as any other. It compares
frame with frame: delays of some milliseconds raise it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.signals import check_pair, check_rate

POWER_FLOOR = 1e-7
# Frames transformed at once: bounds memory on long clips.
BLOCK = 1024


class Resolution(NamedTuple):
    """Of an STFT, in samples: length of the FFT, step, length of the window."""

    fft: int
    hop: int
    window: int


RESOLUTIONS = (Resolution(512, 50, 240), Resolution(1024, 120, 600), Resolution(2048, 240, 1200))
MIN_SECONDS = 0.1


class StftDistance:
    """Multi-resolution STFT distance at 16 kHz (see the module's text for definition, range and limits)."""

    name: str = "stft_distance"
    label: str = "STFT distance"
    unit: str = ""
    higher_is_better: bool = False
    needs_reference: bool = True
    sample_rate: int | None = 16_000
    version: str = "1"
    decimals: int = 3
    threshold = 0.02
    packages = ("scipy",)

    def score(self, reference: NDArray[np.float32], estimate: NDArray[np.float32], sample_rate: int) -> float:
        """Distance of `estimate` (samples,) from `reference` (samples,), float, `sample_rate` 16000 Hz.

        Raises:
            Unscorable: another rate, a silent or non-finite signal, or shorter than 0.1 s.
        """
        check_rate(self, sample_rate)
        check_pair(reference, estimate, sample_rate, min_seconds=MIN_SECONDS)
        return sum(_distance(reference, estimate, resolution) for resolution in RESOLUTIONS) / len(RESOLUTIONS)


def spectra(signal: NDArray[np.float32], resolution: Resolution) -> Iterator[NDArray[np.float64]]:
    """Magnitudes (frames, bins) of `signal` (samples,), in blocks of frames.

    Frames are centred on every `hop`-th sample, the first included; the ends are mirrored, as torch.stft does.
    """
    import scipy.fft
    import scipy.signal

    window = np.zeros(resolution.fft)
    start = (resolution.fft - resolution.window) // 2
    window[start : start + resolution.window] = scipy.signal.get_window("hann", resolution.window)
    padded = np.pad(signal.astype(np.float64), resolution.fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, resolution.fft)[:: resolution.hop]
    for first in range(0, len(frames), BLOCK):
        yield np.abs(scipy.fft.rfft(frames[first : first + BLOCK] * window))


def _distance(reference: NDArray[np.float32], estimate: NDArray[np.float32], resolution: Resolution) -> float:
    energy = energy_apart = log_apart = 0.0
    count = 0
    for pair in zip(spectra(reference, resolution), spectra(estimate, resolution), strict=True):
        wanted, given = (np.maximum(magnitudes, POWER_FLOOR**0.5) for magnitudes in pair)
        energy += float(np.sum(np.square(wanted)))
        energy_apart += float(np.sum(np.square(wanted - given)))
        log_apart += float(np.sum(np.abs(np.log(wanted) - np.log(given))))
        count += wanted.size
    return (energy_apart / energy) ** 0.5 + log_apart / count
