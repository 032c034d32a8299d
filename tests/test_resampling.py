"""Resampling in blocks: torchaudio's result for the whole signal, whatever the rates, lengths and blocks."""

from __future__ import annotations

import pytest
import torch
import torchaudio.functional as AF
from hypothesis import given, settings
from hypothesis import strategies as st

from q2d2.resampling import RateError, check_rates, resample_blocks, resampled_length


@settings(max_examples=60)
@given(
    rates=st.sampled_from(
        [(16000, 24000), (24000, 16000), (44100, 16000), (48000, 24000), (22050, 24000), (8000, 16000), (11025, 16000)]
    ),
    samples=st.integers(1, 130_000),
    block=st.integers(100, 60_000),
)
def test_blocks_give_what_the_whole_gives(rates: tuple[int, int], samples: int, block: int) -> None:
    audio = torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
    blocks = torch.cat(list(resample_blocks(audio.split(block, dim=-1), *rates)), dim=-1)
    assert blocks.shape[-1] == resampled_length(samples, *rates)
    torch.testing.assert_close(blocks, AF.resample(audio, *rates), atol=1e-5, rtol=1e-5)


def test_equal_rates_pass_blocks_through() -> None:
    blocks = [torch.randn(3), torch.randn(5)]
    assert all(given is got for given, got in zip(blocks, resample_blocks(blocks, 16000, 16000), strict=True))


def test_lengths_are_exact_beyond_float32() -> None:
    """torchaudio counts in float32, which is off by some samples after 17 minutes."""
    assert resampled_length(3600 * 44100 * 10 + 1, 44100, 16000) == 3600 * 16000 * 10 + 1
    assert resampled_length(2, 2, 1) == 1


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000])
def test_usual_rates_can_be_converted(rate: int) -> None:
    for new_rate in (16000, 24000):
        check_rates(rate, new_rate)
        check_rates(new_rate, rate)


def test_rates_without_common_factor_are_refused_before_memory_is_full() -> None:
    with pytest.raises(RateError, match=r"44101 Hz to 16000 Hz: .* filters of 7\d\d,\d{3},\d{3} weights; convert"):
        next(resample_blocks([torch.zeros(10)], 44101, 16000))
