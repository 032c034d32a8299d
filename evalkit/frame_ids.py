"""Whole frames of codes as mixed-radix numbers, in as many 64-bit words as they take, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def split_words(sizes: Sequence[int]) -> list[range]:
    """Runs of quantizers whose sizes multiply to at most 2**63, so that each run's codes fit one int64."""
    words: list[range] = []
    start, product = 0, 1
    for index, size in enumerate(sizes):
        if product * size > 2**63:
            words.append(range(start, index))
            start, product = index, 1
        product *= size
    return [*words, range(start, len(sizes))] if sizes else []


def frame_ids(codes: Ints, sizes: Sequence[int], words: Sequence[range]) -> Ints:
    """Whole frames of `codes` (quantizers, frames) as mixed-radix numbers (frames, words)."""
    ids = np.zeros((codes.shape[1], len(words)), np.int64)
    for word, quantizers in enumerate(words):
        for quantizer in quantizers:
            ids[:, word] = ids[:, word] * sizes[quantizer] + codes[quantizer]
    return ids


def frame_codes(ids: Ints, sizes: Sequence[int], words: Sequence[range]) -> list[Ints]:
    """The inverse of `frame_ids`: (frames, words) -> the codes (frames,) of each quantizer."""
    codes: list[Ints] = []
    for word, quantizers in enumerate(words):
        for quantizer in quantizers:
            rest = ids[:, word] // math.prod(sizes[quantizer + 1 : quantizers.stop])
            codes.append(rest if quantizer == quantizers.start else rest % sizes[quantizer])
    return codes


def tally(codes: Ints, counts: Ints) -> Ints:
    """Sum of `counts` over each different code, in the order of the codes; both (frames,)."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.add.reduceat(counts[order], starts)
