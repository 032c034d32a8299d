"""Spans of a signal that arrives in blocks: nothing lost, context where there is some, memory bounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from q2d2.spans import spans


@given(
    blocks=st.lists(st.integers(0, 50), max_size=12),
    size=st.integers(1, 40),
    reach=st.integers(1, 30),
)
def test_spans_follow_one_another_with_their_context(blocks: list[int], size: int, reach: int) -> None:
    signal = torch.arange(sum(blocks)).expand(2, -1)
    position = 0
    found = list(spans(signal.split(blocks, dim=-1), size, reach))
    for index, span in enumerate(found):
        last = index == len(found) - 1
        assert span.size == (min(size, signal.shape[-1] - position) if last else size)
        assert span.before == min(position, reach)
        after = span.signal.shape[-1] - span.before - span.size
        assert after == min(reach, signal.shape[-1] - position - span.size)
        assert torch.equal(span.signal, signal[:, position - span.before : position + span.size + after])
        position += span.size
    assert position == signal.shape[-1]


def test_no_more_is_read_than_a_span_needs() -> None:
    read = 0

    def blocks() -> Iterator[Tensor]:
        nonlocal read
        while True:
            read += 7
            yield torch.zeros(7)

    endless = spans(blocks(), 20, 5)
    for number in range(1, 50):
        assert next(endless).signal.numel() <= 30
        assert read <= 20 * number + 5 + 7


@pytest.mark.parametrize(("size", "reach"), [(0, 1), (1, 0), (-1, 3)])
def test_sizes_below_one_are_refused(size: int, reach: int) -> None:
    with pytest.raises(ValueError, match="both must be at least 1"):
        next(spans([torch.zeros(3)], size, reach))
