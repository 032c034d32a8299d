"""STOI: predicted intelligibility of `estimate` as correlation of short-time band envelopes with `reference`.

`stoi`, classic: Taal, Hendriks, Heusdens, Jensen, "An Algorithm for Intelligibility Prediction of Time-Frequency
Weighted Noisy Speech", IEEE TASLP 2011: 15 third-octave bands from 150 Hz, segments of 30 frames (384 ms), the level of
each band equalized and clipped within a segment, frames more than 40 dB below the loudest of the reference left out.
`estoi`, extended: Jensen, Taal, "An Algorithm for Predicting the Intelligibility of Speech Masked by Modulated Noise
Maskers", IEEE TASLP 2016: the same bands, segments and silences; each segment is normalized over time and then over
bands, so that it compares spectral shape as well as each band's envelope, and nothing is clipped.
Implementation: `pystoi` (extended=False, True).
Rate: the estimate's own; pystoi resamples to 10 kHz itself, so nothing above 5 kHz counts.
Range: nominally 0 to 1, slightly negative values occur; 1 for identical signals; higher is better. `estoi` is the
lower of the two where they differ; the two scales do not compare.
Scale: each segment's level is equalized; gain does not matter.
Limits: not aligned in time (tens of milliseconds of delay lower them); both saturate near 1 for good codecs, `estoi`
later; they need 30 frames of speech, for fewer of which pystoi returns 1e-5 with a warning: here that is a failure.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.signals import Unscorable, check_pair, library_version

# 30 frames of 256 samples, 128 apart, at 10 kHz: what one segment takes.
MIN_SECONDS = (29 * 128 + 256) / 10_000


class Stoi:
    """Classic STOI at the estimate's own rate (see the module's text for definition, range and limits)."""

    name: str = "stoi"
    label: str = "STOI"
    unit: str = ""
    higher_is_better: bool = True
    needs_reference: bool = True
    sample_rate: int | None = None
    decimals: int = 3
    threshold = 0.005
    headline = True
    packages = ("pystoi",)
    bounds: tuple[float, float] = (-1.0, 1.000001)

    EXTENDED = False

    def __init__(self) -> None:
        self.version = f"pystoi {library_version('pystoi')} {'extended' if self.EXTENDED else 'classic'}"

    def score(self, reference: NDArray[np.float32], estimate: NDArray[np.float32], sample_rate: int) -> float:
        """(E)STOI of `estimate` (samples,) against `reference` (samples,), float, at any `sample_rate` in Hz.

        Raises:
            Unscorable: a silent or non-finite signal, or fewer than 30 frames of speech.
        """
        from pystoi import stoi

        check_pair(reference, estimate, sample_rate, min_seconds=MIN_SECONDS)
        wide = reference.astype(np.float64), estimate.astype(np.float64)
        with warnings.catch_warnings(), _fixed_random_numbers():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(stoi(*wide, sample_rate, extended=self.EXTENDED))
            except RuntimeWarning as warning:
                raise Unscorable(_reason(warning)) from warning


class Estoi(Stoi):
    """Extended STOI at the estimate's own rate (see the module's text for definition, range and limits)."""

    name: str = "estoi"
    label: str = "ESTOI"
    threshold = 0.01
    headline = False

    EXTENDED = True


@contextmanager
def _fixed_random_numbers() -> Iterator[None]:
    """pystoi's extended measure adds NumPy's global random numbers of 1e-16, which moves the last bits of the score."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def _reason(warning: RuntimeWarning) -> str:
    text = str(warning)
    if "Not enough STFT frames" in text:
        return "too little speech: fewer than 30 frames (0.4 s) remain once silent ones are left out"
    return f"STOI: {text}"
