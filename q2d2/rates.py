"""Which sampling rates are plausible, and which can be brought to one another: one bound for all that reads, codes,
trains or scores audio.

A resampler's filters grow with both rates divided by what they have in common: 44,100 to 16,000 Hz needs 160 filters,
44,099 Hz needs 16,000 of more than 44,099 weights each, gigabytes for nothing but a header that is wrong.
"""

from __future__ import annotations

import math

from q2d2.errors import UserError

# Telephony is recorded at 8 kHz; nothing that holds speech lies below half of it, and no converter above 384 kHz.
LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000
# What recordings and codecs have; a header that names one of them for another is the usual mistake.
USUAL_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
# Every recording must come here: the rate of most metrics and of many codecs.
SPEECH_RATE = 16_000
# torchaudio's defaults, written out: zero crossings of the filter on each side, and its cut-off relative to Nyquist.
FILTER_WIDTH, ROLLOFF = 6, 0.99
# Weights of all filters, one a phase: 250 MB while they are made. Usual pairs of rates need thousands.
MAX_WEIGHTS = 2**24
_WAY_OUT = (
    f"at most {MAX_WEIGHTS:,} are used. Convert the audio to a usual rate first, for example with `sox` or `ffmpeg`"
)


class RateError(UserError, ValueError):
    """A sampling rate that no recording has, or two with too little in common to convert one to the other."""


def check_rate(rate: int) -> None:
    """See that audio may have `rate` Hz, and can be brought to the rate of the metrics.

    Raises:
        RateError: it is out of range, or has too little in common with `SPEECH_RATE`.
    """
    if not isinstance(rate, int) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise RateError(f"a sampling rate of {rate} Hz; expected {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    if (weights := _weights(rate, SPEECH_RATE)) > MAX_WEIGHTS:
        raise RateError(
            f"a sampling rate of {rate} Hz, which has so little in common with {SPEECH_RATE} Hz that it takes filters "
            f"of {weights:,} weights; {_WAY_OUT}"
        )


def check_rates(rate: int, new_rate: int, width: int = FILTER_WIDTH, rolloff: float = ROLLOFF) -> None:
    """See that signals at `rate` Hz can be brought to `new_rate` Hz, by a filter of that width and cut-off.

    Raises:
        RateError: they cannot; the message says why.
    """
    for each in (rate, new_rate):
        if each < 1:
            raise RateError(f"a sampling rate of {each} Hz; expected {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    if rate == new_rate:
        return
    if (weights := _weights(rate, new_rate, width, rolloff)) > MAX_WEIGHTS:
        raise RateError(
            f"{rate} Hz to {new_rate} Hz: rates with so little in common take filters of {weights:,} weights; "
            f"{_WAY_OUT}"
        )


def _weights(rate: int, new_rate: int, width: int = FILTER_WIDTH, rolloff: float = ROLLOFF) -> int:
    step, new_step = reduced(rate, new_rate)
    return new_step * (2 * filter_reach(step, new_step, width, rolloff) + step)


def reduced(rate: int, new_rate: int) -> tuple[int, int]:
    """The ratio of two rates in lowest terms."""
    common = math.gcd(rate, new_rate)
    return rate // common, new_rate // common


def filter_reach(step: int, new_step: int, width: int = FILTER_WIDTH, rolloff: float = ROLLOFF) -> int:
    """Samples that the filter reaches on each side, for rates reduced to lowest terms."""
    return math.ceil(width * step / (min(step, new_step) * rolloff))
