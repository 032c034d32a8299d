"""A signal that arrives in blocks, cut into spans that each see their neighbourhood: what makes convolutions exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Span(NamedTuple):
    """A stretch of a signal with what surrounds it.

    signal: (..., before + size + after), the stretch and its surroundings.
    before: samples of `signal` before the stretch; fewer than asked for only at the signal's start.
    size: samples of the stretch.
    """

    signal: Tensor
    before: int
    size: int


def spans(blocks: Iterable[Tensor], size: int, reach: int) -> Iterator[Span]:
    """Cut a signal into stretches of `size` samples, each with up to `reach` samples on both sides of it.

    The stretches follow one another without gap; only the last may be shorter. About `size + 2 * reach` samples and one
    block are held at a time.

    Args:
        blocks: the signal along the last dimension, in pieces of any size, other dimensions equal.
        size: at least 1.
        reach: at least 1, so that a span knows whether anything follows it.

    Raises:
        ValueError: `size` or `reach` is below 1.
    """
    if size < 1 or reach < 1:
        raise ValueError(f"size={size}, reach={reach}: both must be at least 1")
    pending: list[Tensor] = []  # what is held, in order
    held = before = 0
    for block in blocks:
        pending.append(block)
        held += block.shape[-1]
        while held >= before + size + reach:
            signal = pending[0] if len(pending) == 1 else torch.cat(pending, dim=-1)
            yield Span(signal[..., : before + size + reach], before, size)
            dropped = max(0, before + size - reach)
            # A copy, so that the rest does not keep all of the signal in memory.
            pending = [signal[..., dropped:].clone()]
            held -= dropped
            before += size - dropped
    if held > before:
        signal = torch.cat(pending, dim=-1)
        while held > before:
            taken = min(size, held - before)
            end = min(held, before + taken + reach)
            first = max(0, before - reach)
            yield Span(signal[..., first:end], before - first, taken)
            before += taken
