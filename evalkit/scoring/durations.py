"""Whether two signals last equally long, and if not, whether one of their files names a wrong sampling rate.

A header that says 44.1 kHz of 48 makes a perfect copy last 8.8 % longer: no more than what a codec may pad a short clip
by, and enough for a PESQ of 1.1. Durations alone cannot tell the two apart; the course of loudness can.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from q2d2.rates import USUAL_RATES

Audio = NDArray[np.floating[Any]]
# Clips of less than a second may differ by this much: a codec pads to whole frames.
MIN_MISMATCH_SECONDS = 0.1
# What may be left of a difference once a wrong rate is put right: padding, and 1 % of the duration.
_LEFT_SECONDS, _LEFT = 0.1, 0.01
# With less than this left the durations have the ratio exactly, as a copy has that was not coded.
_EXACT_SECONDS = 0.002
# Loudness is followed in steps as fine as syllables need, and a codec may delay it.
_STEP_SECONDS, _MAX_LAG = 0.01, 5
# Where they do not: the courses must be alike, and by so much more than as the rates are stated.
_ALIKE, _MORE = 0.6, 0.05


class WrongRate(NamedTuple):
    """Durations that have the ratio of two usual rates, in Hz; seconds that are left once that is put right."""

    true: int
    stated: int
    left: float


def refused_durations(
    reference: Audio, reference_rate: int, estimate: Audio, estimate_rate: int, max_mismatch: float
) -> str:
    """Why two signals (samples,) do not last equally long, padding aside; empty where they do.

    Args:
        max_mismatch: the part of the longer one that may be missing from the shorter, where that is more than 0.1 s.
    """
    lengths = reference.size / reference_rate, estimate.size / estimate_rate
    beyond = abs(lengths[1] - lengths[0]) > max(max_mismatch * max(lengths), MIN_MISMATCH_SECONDS)
    wrong = _wrong_rate(*lengths, reference_rate, estimate_rate)
    told = f"(reference {reference_rate} Hz, estimate {estimate_rate} Hz)"
    begins = f"reference lasts {lengths[0]:.3f} s, estimate {lengths[1]:.3f} s: "
    ratio = f"the durations have the ratio of {wrong.true} to {wrong.stated} Hz" if wrong else ""
    if beyond:
        return f"{begins}another utterance, or a wrong sample rate{f': {ratio}' if wrong else ''} {told}"
    if wrong and _is_faster(reference, reference_rate, estimate, estimate_rate, wrong):
        return f"{begins}a wrong sample rate in one of the two files: {ratio}, and so has their sound {told}"
    return ""


def _wrong_rate(reference: float, estimate: float, reference_rate: int, estimate_rate: int) -> WrongRate | None:
    """The two rates, one stated for the other, that explain a difference of durations (seconds) best."""
    found = []
    for true in USUAL_RATES:
        for stated in USUAL_RATES:
            left = abs(estimate * stated / true - reference)
            if true != stated and left <= max(_LEFT_SECONDS, _LEFT * reference) and left < abs(estimate - reference):
                is_stated = stated == estimate_rate or true == reference_rate
                found.append((round(left, 4), not is_stated, true + stated, WrongRate(true, stated, left)))
    return min(found)[-1] if found else None


def _is_faster(reference: Audio, reference_rate: int, estimate: Audio, estimate_rate: int, wrong: WrongRate) -> bool:
    """Whether loudness goes up and down together once the rate is put right, rather than as it is stated."""
    with np.errstate(invalid="ignore"):  # what is not finite is refused elsewhere
        loudness = _loudness(reference, reference_rate)
        as_stated = _likeness(loudness, _loudness(estimate, estimate_rate))
        put_right = _likeness(loudness, _loudness(estimate, estimate_rate * wrong.true / wrong.stated))
    if wrong.left < _EXACT_SECONDS:
        return put_right >= as_stated
    return put_right > max(as_stated + _MORE, _ALIKE)


def _loudness(signal: Audio, rate: float) -> NDArray[np.float64]:
    """Root of the level in steps of 10 ms, whatever the rate says a second is."""
    edges = np.rint(np.arange(0, signal.size / rate, _STEP_SECONDS) * rate).astype(np.int64)
    edges = edges[edges < signal.size]
    power = np.add.reduceat(np.square(signal, dtype=np.float64), edges) / np.diff(edges, append=signal.size)
    return power**0.25


def _likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The highest correlation of two courses, one moved against the other by up to 50 ms; 0 without any change."""
    best = 0.0
    most = min(_MAX_LAG, min(one.size, other.size) // 20)
    for lag in range(-most, most + 1):
        early, late = one[max(0, lag) :], other[max(0, -lag) :]
        size = min(early.size, late.size)
        early, late = early[:size] - early[:size].mean(), late[:size] - late[:size].mean()
        scale = float(np.sqrt(np.dot(early, early) * np.dot(late, late)))
        if scale > 1e-9 * size:
            best = max(best, float(np.dot(early, late)) / scale)
    return best
