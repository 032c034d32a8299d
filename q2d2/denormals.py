"""Numbers below the smallest normal float, which slow a CPU down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers below the smallest normal float as zero while inside, as the CPU is many times slower with them.

    Gradients of near-silent speech are that small.
    """
    before = bool(torch.tensor(1e-40) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
