"""What every metric needs before it scores: checks of the signals, the two ways to fail."""

from __future__ import annotations

import importlib.metadata
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from q2d2.audio import HIGHEST_PEAK

# Half a step of 16-bit PCM: a signal below it is all zeros once written to a file.
SILENCE_PEAK = 2.0**-16
# The largest 16-bit sample, 32767 of 32768: where a converter or a file cuts off.
FULL_SCALE = 32767 / 32768
CLIPPED_RUN = 3
MAX_CLIPPED = 0.01


class Unscorable(ValueError):
    """This pair of signals has no score by this metric; the message is the reason shown in the row."""


class Unavailable(RuntimeError):
    """The metric cannot run on this machine (library or weights missing); the message says how to get them."""


def library_version(distribution: str, extra: str = "") -> str:
    """Installed version of `distribution`, which is of our extra `extra`, or of every installation.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        source = f"'codec-bottlenecks[{extra}]'" if extra else distribution
        raise Unavailable(f"the library {distribution!r} is missing: pip install {source}") from error


def count_clipped(signal: NDArray[Any]) -> int:
    """How many of the samples (samples,) are clipped: at full scale 3 or more times in a row, or beyond +-1.

    A single sample at full scale is a peak that just fits.
    """
    at_full_scale = np.abs(signal) >= FULL_SCALE
    if not at_full_scale.any():
        return 0
    # A run goes from each even edge to the odd one after it.
    edges = np.flatnonzero(np.diff(at_full_scale, prepend=False, append=False))
    lengths = edges[1::2] - edges[::2]
    beyond = np.concatenate(([0], np.cumsum(np.abs(signal) > 1)))[edges]
    return int(np.sum(np.where(lengths >= CLIPPED_RUN, lengths, beyond[1::2] - beyond[::2])))


def check_signal(signal: NDArray[Any], role: str) -> None:
    """Raise `Unscorable` where `signal` cannot be scored by anything.

    That is: not mono, not float, empty, NaN or infinite, silent (peak below 2**-16, half a 16-bit step), with a sample
    beyond `q2d2.audio.HIGHEST_PEAK`, however few there are, or clipped in more than 1 % of its samples (see
    `count_clipped`: a wrong gain, or a broken decoder). `role` ("reference", "estimate") names it in the message.
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
    peak = float(np.max(np.abs(signal)))
    if peak < SILENCE_PEAK:
        raise Unscorable(f"{role} is silent (peak below 2^-16)")
    if peak > HIGHEST_PEAK:
        raise Unscorable(
            f"{role} has a peak of {peak:.4g}, at most {HIGHEST_PEAK:g} allowed where full scale is 1: integers read "
            "as floating point (divide 16-bit samples by 32768), or a decoder that diverges"
        )
    share = count_clipped(signal) / signal.size if peak >= FULL_SCALE else 0.0
    if share > MAX_CLIPPED:
        raise Unscorable(
            f"{role} is clipped: {share * 100:.1f} % of its samples at or beyond full scale (peak {peak:.4g}): a wrong "
            "gain, or a decoder that diverges"
        )


class _AtOneRate(Protocol):
    name: str
    sample_rate: int | None


def check_rate(metric: _AtOneRate, sample_rate: int) -> None:
    """Raise `Unscorable` unless `sample_rate` (Hz) is the one that `metric` declares."""
    if sample_rate != metric.sample_rate:
        raise Unscorable(f"{metric.name} needs {metric.sample_rate} Hz, got {sample_rate} Hz")


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
