"""SI-SDR: energy of what in `estimate` is a multiple of `reference`, over the energy of the rest, in dB.

Definition: Le Roux, Wisdom, Erdogan, Hershey, "SDR: half-baked or well done?", ICASSP 2019: with the least-squares
gain a = <e, r> / <r, r>, it is 10 log10(|a r|^2 / |e - a r|^2). The mean of each signal is removed first.
Rate: the estimate's own.
Range: -100 to 100 dB; identical signals reach 100. Beyond that one of the two parts is too small for what float32
samples resolve, and the formula ends in rounding noise or infinity. Rounding to 16 bits alone gives 66 to 78 dB
(measured on speech).
Scale: neither gain nor polarity matter.
Limits: it compares waveforms, sample by sample. Half a pitch period of delay makes a perfect copy worthless, and a
decoder that is free to choose phases (a vocoder, a generative codec) scores low, or below 0 dB, however good it sounds.
So it ranks versions of one codec, not different kinds of codecs.

`si_sdr_aligned` first takes out the delay that `evalkit.metrics.delay.estimate_delay` is certain of, up to 50 ms, and
crops both to what they share. An uncertain delay is left in: the best of thousands of lags would flatter decoders
without phase. So without a delay the two metrics are equal.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.delay import align, estimate_delay
from evalkit.metrics.signals import Unscorable, check_pair

CEILING_DB = 100.0
MIN_SECONDS = 0.1
MAX_DELAY_SECONDS = 0.05


class SiSdr:
    """Scale-invariant signal-to-distortion ratio (see the module's text for definition, range and limits)."""

    name: str = "si_sdr"
    label: str = "SI-SDR"
    unit: str = "dB"
    higher_is_better: bool = True
    needs_reference: bool = True
    sample_rate: int | None = None
    version: str = "1"
    decimals: int = 1
    threshold = 0.3
    packages = ("scipy",)
    bounds: tuple[float, float] = (-100.0, 100.0)

    def score(self, reference: NDArray[np.float32], estimate: NDArray[np.float32], sample_rate: int) -> float:
        """SI-SDR in dB of `estimate` (samples,) against `reference` (samples,), float, at any `sample_rate` in Hz.

        Raises:
            Unscorable: a silent, constant or non-finite signal, or shorter than 0.1 s.
        """
        check_pair(reference, estimate, sample_rate, min_seconds=MIN_SECONDS)
        return _si_sdr(reference, estimate)


class SiSdrAligned(SiSdr):
    """SI-SDR after a certain delay has been taken out (see the module's text)."""

    name: str = "si_sdr_aligned"
    label: str = "SI-SDR aligned"

    def score(self, reference: NDArray[np.float32], estimate: NDArray[np.float32], sample_rate: int) -> float:
        """As `SiSdr.score`, over what the two signals share once the delay is taken out."""
        check_pair(reference, estimate, sample_rate, min_seconds=MIN_SECONDS)
        delay = estimate_delay(reference, estimate, sample_rate, MAX_DELAY_SECONDS)
        if delay.certain:
            reference, estimate = align(reference, sample_rate, estimate, sample_rate, delay.samples)
            length = min(reference.size, estimate.size)
            reference, estimate = reference[:length], estimate[:length]
        return _si_sdr(reference, estimate)


def _si_sdr(reference: NDArray[np.float32], estimate: NDArray[np.float32]) -> float:
    wide_reference, wide_estimate = (signal - signal.mean(dtype=np.float64) for signal in (reference, estimate))
    for role, signal in (("reference", wide_reference), ("estimate", wide_estimate)):
        if not signal.any():
            raise Unscorable(f"{role} is constant: nothing is left of it once its mean is removed")
    target = wide_reference * (np.dot(wide_estimate, wide_reference) / np.dot(wide_reference, wide_reference))
    rest = wide_estimate - target
    energies = float(np.dot(target, target)), float(np.dot(rest, rest))
    if energies[1] == 0:
        return CEILING_DB
    if energies[0] == 0:
        return -CEILING_DB
    return min(max(10 * math.log10(energies[0] / energies[1]), -CEILING_DB), CEILING_DB)
