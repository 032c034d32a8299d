"""Resampling in blocks: torchaudio's result for the whole signal, whatever the rates, lengths and blocks."""

from __future__ import annotations

import pytest
import torch
import torchaudio.functional as AF
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.codecs import CODECS, CodecError, build_codec
from q2d2.codec import codec_config
from q2d2.rates import USUAL_RATES, RateError, check_rate, check_rates
from q2d2.resampling import resample_blocks, resampled_length
from tests.small_whole_codec import Halved


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


def test_usual_rates_can_be_converted_to_one_another() -> None:
    for rate in USUAL_RATES:
        check_rate(rate)
        for new_rate in USUAL_RATES:
            check_rates(rate, new_rate)


@pytest.mark.parametrize("rate", [5512, 7350, 8012, 18900, 37800, 44056, 47952, 50000, 64000, 384000])
def test_rarer_rates_of_recordings_are_plausible(rate: int) -> None:
    check_rate(rate)


@pytest.mark.parametrize("rate", [-8000, 0, 1, 2, 3999, 384_001, 999_983, 10_000_019, 2**31 - 1])
def test_no_recording_has_such_a_rate(rate: int) -> None:
    with pytest.raises(RateError, match=f"a sampling rate of {rate} Hz; expected 4000 to 384000 Hz"):
        check_rate(rate)


@pytest.mark.parametrize("rate", [11_127, 44_099, 44_101])
def test_rates_without_common_factor_are_refused_before_memory_is_full(rate: int) -> None:
    weights = r"take.? filters of \d\d\d,\d{3},\d{3} weights; at most 16,777,216 are used"
    with pytest.raises(RateError, match=rf"a sampling rate of {rate} Hz, which has so little .* 16000 Hz .* {weights}"):
        check_rate(rate)
    with pytest.raises(RateError, match=rf"{rate} Hz to 16000 Hz: .* {weights}"):
        next(resample_blocks([torch.zeros(10)], rate, 16000))


@pytest.mark.parametrize("rate", [2, 44_099])
def test_codecs_have_plausible_rates(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours, whatever codec.json says, and those of other packages: before anything is resampled to their rate."""
    with pytest.raises(RateError, match=f"a sampling rate of {rate} Hz"):
        codec_config("tiny", sample_rate=rate)
    monkeypatch.setitem(CODECS._entries, "halved", "tests.small_whole_codec:Halved")
    monkeypatch.setattr(Halved, "sample_rate", rate)
    with pytest.raises(CodecError, match=f"codec 'halved': a sampling rate of {rate} Hz"):
        build_codec("halved")
