"""Resampling a signal that arrives in blocks: what torchaudio gives for the whole signal, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torchaudio.transforms as AT
from torch import Tensor

from q2d2.errors import UserError
from q2d2.spans import spans

# torchaudio's defaults, written out: zero crossings of the filter on each side, and its cut-off relative to Nyquist.
FILTER_WIDTH, ROLLOFF = 6, 0.99
# Weights of all filters, one a phase. Usual pairs of rates need thousands; rates with no common factor, billions.
MAX_WEIGHTS = 2**24
STRETCH_SECONDS = 1.0


class RateError(UserError, ValueError):
    """Two sample rates that have too little in common to convert one to the other."""


def resampled_length(samples: int, rate: int, new_rate: int) -> int:
    """Samples that `samples` at `rate` Hz become at `new_rate` Hz: rounded up, exact for any length."""
    return -(-samples * new_rate // rate)


def check_rates(rate: int, new_rate: int) -> None:
    """See that signals at `rate` Hz can be brought to `new_rate` Hz.

    Raises:
        RateError: they cannot; the message says why.
    """
    common = math.gcd(rate, new_rate)
    weights = new_rate // common * (2 * _width(rate // common, new_rate // common) + rate // common)
    if weights > MAX_WEIGHTS:
        raise RateError(
            f"{rate} Hz to {new_rate} Hz: rates with so little in common need filters of {weights:,} weights; convert "
            f"the audio to a usual rate first, for example with `sox` or `ffmpeg`"
        )


def resample_blocks(blocks: Iterable[Tensor], rate: int, new_rate: int) -> Iterator[Tensor]:
    """Resample a signal from `rate` to `new_rate` Hz, block by block, as `torchaudio.functional.resample` does at once.

    Args:
        blocks: the signal along the last dimension, in pieces of any size.

    Yields:
        Pieces of about a second; together `resampled_length` samples.

    Raises:
        RateError: see `check_rates`.
    """
    if rate == new_rate:
        yield from blocks
        return
    check_rates(rate, new_rate)
    common = math.gcd(rate, new_rate)
    step, new_step = rate // common, new_rate // common
    # A stretch begins at whole periods of the two rates, so that its first sample is a sample of the whole.
    size = math.ceil(STRETCH_SECONDS * common) * step
    reach = math.ceil((_width(step, new_step) + step) / step) * step
    # float32 as the function computes its filters; the class would round them from float64.
    resample = AT.Resample(rate, new_rate, lowpass_filter_width=FILTER_WIDTH, rolloff=ROLLOFF, dtype=torch.float32)
    for span in spans(blocks, size, reach):
        first = span.before // step * new_step
        resample = resample.to(span.signal.device)
        yield resample(span.signal)[..., first : first + resampled_length(span.size, step, new_step)]


def _width(step: int, new_step: int) -> int:
    """Samples that the filter reaches on each side, for rates reduced to lowest terms."""
    return math.ceil(FILTER_WIDTH * step / (min(step, new_step) * ROLLOFF))
