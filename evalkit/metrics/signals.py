"""What every metric needs before it scores: checks of the signals, the declared resampler, the two ways to fail."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Half a step of 16-bit PCM: a signal below it is all zeros once written to a file.
SILENCE_PEAK = 2.0**-16


class Unscorable(ValueError):
    """This pair of signals has no score by this metric; the message is the reason shown in the row."""


class Unavailable(RuntimeError):
    """The metric cannot run on this machine (library or weights missing); the message says how to get them."""


@dataclass(frozen=True)
class Resampler:
    """Band-limited resampling by torchaudio.functional.resample.

    Attributes:
        lowpass_filter_width: zero crossings of the sinc kernel on each side.
        rolloff: cutoff as a fraction of the lower Nyquist frequency.
        method: torchaudio's name of the window.
    """

    lowpass_filter_width: int
    rolloff: float
    method: str

    def __call__(self, signal: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
        """`signal` (samples,) from `rate` to `target` Hz: (ceil(samples * target / rate),); untouched if equal.

        Raises:
            ValueError: a rate is not positive.
        """
        if rate == target:
            return signal
        import torch
        import torchaudio.functional

        resampled = torchaudio.functional.resample(
            torch.from_numpy(np.array(signal, dtype=np.float32)),
            rate,
            target,
            lowpass_filter_width=self.lowpass_filter_width,
            rolloff=self.rolloff,
            resampling_method=self.method,
        )
        return np.asarray(resampled.numpy(), dtype=np.float32)

    def __str__(self) -> str:
        return f"torchaudio {self.method} width {self.lowpass_filter_width} rolloff {self.rolloff}"


# torchaudio's defaults, written out so that a new release cannot change scores; they are what published scripts use.
RESAMPLER = Resampler(lowpass_filter_width=6, rolloff=0.99, method="sinc_interp_hann")


def library_version(distribution: str) -> str:
    """Installed version of `distribution`.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise Unavailable(f"the library {distribution!r} is missing: pip install {distribution}") from error


def check_signal(signal: NDArray[Any], role: str) -> None:
    """Raise `Unscorable` where `signal` cannot be scored by anything: not mono, empty, NaN or infinite, silent.

    `role` ("reference", "estimate") names it in the message. Silent is a peak below 2**-16, half a 16-bit step.
    """
    if signal.ndim != 1:
        raise Unscorable(f"{role} has shape {signal.shape}, expected mono (samples,)")
    if not np.issubdtype(signal.dtype, np.floating):
        raise Unscorable(f"{role} has type {signal.dtype}, expected floating point in [-1, 1]")
    if signal.size == 0:
        raise Unscorable(f"{role} is empty")
    num_bad = signal.size - int(np.count_nonzero(np.isfinite(signal)))
    if num_bad:
        raise Unscorable(f"{role} has {num_bad} NaN or infinite of {signal.size} samples")
    if float(np.max(np.abs(signal))) < SILENCE_PEAK:
        raise Unscorable(f"{role} is silent (peak below 2^-16)")


def check_pair(
    reference: NDArray[Any],
    estimate: NDArray[Any],
    sample_rate: int,
    *,
    min_seconds: float,
    max_seconds: float = float("inf"),
) -> None:
    """Raise `Unscorable` unless both signals pass `check_signal`, have one length, and last long enough.

    Args:
        reference, estimate: (samples,) at `sample_rate` Hz.
        min_seconds, max_seconds: limits of the metric, both inclusive.
    """
    check_signal(reference, "reference")
    check_signal(estimate, "estimate")
    if reference.size != estimate.size:
        raise Unscorable(f"lengths differ: reference {reference.size}, estimate {estimate.size} samples")
    seconds = reference.size / sample_rate
    if seconds < min_seconds:
        raise Unscorable(f"too short: {seconds:.3f} s, at least {min_seconds:g} s needed")
    if seconds > max_seconds:
        raise Unscorable(f"too long: {seconds:.1f} s, at most {max_seconds:g} s allowed")
