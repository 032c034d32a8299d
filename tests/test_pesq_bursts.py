"""Bursts of speech are counted before PESQ's package writes past its arrays."""

from __future__ import annotations

import time

import numpy as np
import pytest

from evalkit.datasets import load_corpus, read_audio
from evalkit.metrics import Unscorable, load_metric
from evalkit.metrics.pesq_bursts import HELD, MARGIN, count_bursts

RATE = 16_000


def bursts(count: int, seconds: float = 0.4, gap: float = 0.4) -> np.ndarray:
    """Noise that comes `count` times, with gaps in which hardly anything is heard."""
    rng = np.random.default_rng(count)
    sounds = [rng.uniform(-0.3, 0.3, round(seconds * RATE)) for _ in range(count)]
    gaps = [rng.uniform(-1e-5, 1e-5, round(gap * RATE)) for _ in range(count)]
    pieces = [piece for pair in zip(sounds, gaps, strict=True) for piece in pair]
    return np.concatenate(pieces).astype(np.float32)


@pytest.mark.parametrize("count", [1, 10, 45, 60, 70])
def test_bursts_are_counted(count: int) -> None:
    assert count_bursts(bursts(count)) == pytest.approx(count, abs=MARGIN - 3)


def test_short_ones_and_close_ones_are_no_bursts() -> None:
    assert count_bursts(bursts(20, seconds=0.01)) == 0
    assert count_bursts(bursts(20, gap=0.15)) == 1
    assert count_bursts(bursts(20, seconds=0.1, gap=0.3)) == 0


@pytest.mark.parametrize(("count", "seconds"), [(60, 0.4), (51, 0.4), (70, 0.3)])
def test_a_clip_that_would_overrun_the_arrays_is_refused_with_the_cause(count: int, seconds: float) -> None:
    """43 to 56 s: within the limit of duration, and the end of the process today."""
    clip = bursts(count, seconds)
    assert 40 < clip.size / RATE < 60
    start = time.perf_counter()
    reason = rf"holds at most {HELD} bursts of speech, .* the reference has about \d\d in \d\d\.\d s; cut it"
    with pytest.raises(Unscorable, match=reason):
        load_metric("pesq").score(clip, clip, RATE)
    assert time.perf_counter() - start < 5


def test_a_minute_of_speech_is_far_from_it() -> None:
    speech = np.concatenate([read_audio(each.path)[0] for each in load_corpus("sample", "test").utterances])
    assert 5 < count_bursts(np.resize(speech, 59 * RATE)) < (HELD - MARGIN) * 0.8
