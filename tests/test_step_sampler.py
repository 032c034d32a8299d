"""Which segments a batch holds: the same ones in a step, however many processes and batches share it."""

from __future__ import annotations

import itertools

import pytest

from q2d2.training.segments import StepSampler


def test_a_resumed_run_goes_on_where_it_stopped() -> None:
    whole = list(StepSampler(4, 0, 10, accumulate=2))
    assert list(StepSampler(4, 7, 10, accumulate=2)) == whole[14:]
    assert len(StepSampler(4, 7, 10, accumulate=2)) == 6
    assert list(StepSampler(4, 10, 10)) == []
    assert list(itertools.chain(*whole)) == list(range(40))


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (1, 6), (2, 1), (3, 2), (4, 3), (12, 1)])
def test_a_step_takes_the_same_indices_however_it_is_shared(world_size: int, accumulate: int) -> None:
    ranks = [list(StepSampler(12, 3, 8, rank, world_size, accumulate)) for rank in range(world_size)]
    assert all(len(micro) == 5 * accumulate for micro in ranks)
    for step in range(5):
        mine = slice(step * accumulate, (step + 1) * accumulate)
        # In the order of one process with whole batches: micro-batch by micro-batch, in each rank by rank.
        shares = itertools.chain(*zip(*(rank[mine] for rank in ranks), strict=True))
        together = list(itertools.chain(*shares))
        assert together == list(range((step + 3) * 12, (step + 4) * 12))


def test_what_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ValueError, match=r"global batch of 16 .* 3 processes with 2 batches each: .* of 6"):
        StepSampler(16, 0, 1, 0, 3, 2)
    with pytest.raises(ValueError, match="global batch of 0"):
        StepSampler(0, 0, 1)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        StepSampler(4, 0, 1, 2, 2)
