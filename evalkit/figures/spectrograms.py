"""A spectrogram as numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW_SECONDS = 0.032
HOP_SECONDS = 0.008
RANGE_DB = 80.0

Signal = tuple[NDArray[np.float32], int]


def spectrogram_db(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Power in dB, (frequencies, frames): Hann windows of 32 ms, 8 ms apart, the last one padded with zeros.

    0 dB is a sine of amplitude 1. `audio` (samples,) float in [-1, 1].
    """
    window = round(WINDOW_SECONDS * sample_rate)
    hop = round(HOP_SECONDS * sample_rate)
    frames = max(1, -(-(len(audio) - window) // hop) + 1)
    padded = np.zeros((frames - 1) * hop + window)
    padded[: len(audio)] = audio
    taper = np.hanning(window + 1)[:-1]
    pieces = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * taper
    amplitude = np.abs(np.fft.rfft(pieces, axis=1)).T * 2 / taper.sum()
    return 20 * np.log10(np.maximum(amplitude, 1e-10))
