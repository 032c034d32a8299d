"""Resampling a signal that arrives in blocks: what torchaudio gives for the whole signal, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torchaudio.transforms as AT
from torch import Tensor

from q2d2.rates import FILTER_WIDTH, ROLLOFF, check_rates, filter_reach, reduced
from q2d2.spans import spans

STRETCH_SECONDS = 1.0


def resampled_length(samples: int, rate: int, new_rate: int) -> int:
    """Samples that `samples` at `rate` Hz become at `new_rate` Hz: rounded up, exact for any length."""
    return -(-samples * new_rate // rate)


def resample_blocks(blocks: Iterable[Tensor], rate: int, new_rate: int) -> Iterator[Tensor]:
    """Resample a signal from `rate` to `new_rate` Hz, block by block, as `torchaudio.functional.resample` does at once.

    Args:
        blocks: the signal along the last dimension, in pieces of any size.

    Yields:
        Pieces of about a second; together `resampled_length` samples.

    Raises:
        RateError: see `q2d2.rates.check_rates`.
    """
    if rate == new_rate:
        yield from blocks
        return
    check_rates(rate, new_rate)
    step, new_step = reduced(rate, new_rate)
    # A stretch begins at whole periods of the two rates, so that its first sample is a sample of the whole.
    size = math.ceil(STRETCH_SECONDS * (rate // step)) * step
    reach = math.ceil((filter_reach(step, new_step) + step) / step) * step
    # float32 as the function computes its filters; the class would round them from float64.
    resample = AT.Resample(rate, new_rate, lowpass_filter_width=FILTER_WIDTH, rolloff=ROLLOFF, dtype=torch.float32)
    for span in spans(blocks, size, reach):
        first = span.before // step * new_step
        resample = resample.to(span.signal.device)
        yield resample(span.signal)[..., first : first + resampled_length(span.size, step, new_step)]
