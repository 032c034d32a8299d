"""Metrics and score_pair: known answers, published scores, and that whatever goes wrong is a reason, never a number."""

from __future__ import annotations

import csv
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional

from evalkit import metrics
from evalkit.metrics import METRICS, Metric, Score, Unavailable, Unscorable, load_metric, score_pair
from q2d2.registry import Registry, UnknownName

RATE = 16_000
BOTH = ["pesq", "stoi"]


def babble(seconds: float = 2.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise with a speech-like spectrum slope and four syllables a second, peak 0.5."""
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.standard_normal(int(seconds * rate)))
    noise = np.diff(noise, prepend=0) + 0.5 * (noise - np.convolve(noise, np.ones(64) / 64, "same"))
    noise *= 0.05 + np.sin(2 * np.pi * 2 * np.arange(noise.size) / rate) ** 2
    return (noise / np.abs(noise).max() / 2).astype(np.float32)


def with_noise(signal: np.ndarray, snr_db: float) -> np.ndarray:
    noise = np.random.default_rng(99).standard_normal(signal.size)
    noise *= np.sqrt(np.mean(signal**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return (signal + noise).astype(np.float32)


def by_name(scores: list[Score]) -> dict[str, Score]:
    return {score.metric: score for score in scores}


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type], str]]:
    """Registers a class as a metric for one test; returns its name."""
    module = types.ModuleType("metrics_made_by_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entries = {name: METRICS._entries[name] for name in BOTH}

    def add(cls: type) -> str:
        name = cls.__name__.lower()
        setattr(module, cls.__name__, cls)
        entries[name] = f"{module.__name__}:{cls.__name__}"
        monkeypatch.setattr(metrics, "METRICS", Registry("metric", "evalkit.metrics", entries))
        return name

    load_metric.cache_clear()
    yield add
    load_metric.cache_clear()


class Mean:
    """Base of the metrics made here: mean of the estimate."""

    label, unit, version = "M", "", "1"
    higher_is_better, needs_reference, decimals = True, True, 2
    sample_rate: int | None = None

    def score(self, reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
        return float(estimate.mean())


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_has_the_whole_interface(name: str) -> None:
    metric = load_metric(name)
    assert metric.name == name
    assert [attribute for attribute in Metric.__annotations__ if not hasattr(metric, attribute)] == []
    assert any(character.isdigit() for character in metric.version)


def test_identical_signals_reach_the_top_of_the_scale() -> None:
    scores = by_name(score_pair(BOTH, babble(), RATE, babble(), RATE))
    assert scores["pesq"].value == pytest.approx(4.6439, abs=1e-3)
    assert scores["stoi"].value == pytest.approx(1.0, abs=1e-6)
    assert {score.status for score in scores.values()} == {"ok"}
    assert all(score.seconds > 0 for score in scores.values())


def test_scores_fall_with_the_noise() -> None:
    clean = babble()
    rows = [by_name(score_pair(BOTH, clean, RATE, with_noise(clean, snr), RATE)) for snr in (30, 20, 10, 0)]
    for name in BOTH:
        values = [row[name].value for row in rows]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 4


def test_known_scores_of_known_signals() -> None:
    """Pinned: another mode (narrow band, extended), swapped arguments or another resampler give other numbers."""
    clean = babble(rate=24_000)
    scores = by_name(score_pair(BOTH, clean, 24_000, with_noise(clean, 0), 24_000))
    assert scores["pesq"].value == pytest.approx(2.57184, abs=2e-3)
    assert scores["stoi"].value == pytest.approx(0.89421, abs=1e-4)


def test_pesq_ignores_gain_and_does_not_clip() -> None:
    clean = babble()
    noisy = with_noise(clean, 15)
    plain = score_pair(["pesq"], clean, RATE, noisy, RATE)[0].value
    for gain in (0.01, 4.0):
        scaled = score_pair(["pesq"], clean, RATE, (gain * noisy).astype(np.float32), RATE)[0].value
        assert scaled == pytest.approx(plain, abs=5e-3)


@pytest.mark.parametrize("side", ["reference", "estimate"])
@pytest.mark.parametrize("fault", ["nan", "inf", "silent", "nearly silent", "empty", "stereo", "integer"])
def test_faulty_signals_fail_with_a_reason_naming_the_side(side: str, fault: str) -> None:
    signals = {"reference": babble(), "estimate": with_noise(babble(), 10)}
    signal = signals[side]
    with_nan, with_inf = signal.copy(), signal.copy()
    with_nan[100], with_inf[100] = np.nan, -np.inf
    broken = {
        "nan": with_nan,
        "inf": with_inf,
        "silent": np.zeros_like(signal),
        "nearly silent": signal * np.float32(1e-6),
        "empty": signal[:0],
        "stereo": np.stack([signal, signal]),
        "integer": (signal * 32767).astype(np.int16),
    }
    signals[side] = broken[fault]
    for score in score_pair(BOTH, signals["reference"], RATE, signals["estimate"], RATE):
        assert (score.value, score.status) == (None, "failed")
        assert score.detail.startswith(f"{side} ")


@pytest.mark.parametrize(("seconds", "failing"), [(0.01, BOTH), (0.249, BOTH), (0.3, ["stoi"]), (0.6, [])])
def test_too_short_clips_fail(seconds: float, failing: list[str]) -> None:
    clean = babble(seconds)
    scores = score_pair(BOTH, clean, RATE, with_noise(clean, 20), RATE)
    assert [score.metric for score in scores if score.status == "failed"] == failing
    assert all("too short" in score.detail for score in scores if score.metric in failing)


def test_stoi_of_too_little_speech_is_a_failure_not_1e_minus_5() -> None:
    """One short burst in silence: pystoi drops the silent frames, warns and returns 1e-5."""
    clean = np.zeros(2 * RATE, np.float32)
    clean[:2000] = babble(seconds=0.125)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = score_pair(["stoi"], clean, RATE, clean, RATE)[0]
    assert (score.value, score.status) == (None, "failed")
    assert "30 frames" in score.detail


def test_pesq_without_utterances_is_a_failure_not_minus_1() -> None:
    """Steady noise as the reference: its activity detector finds no speech."""
    clean = babble()
    score = score_pair(["pesq"], with_noise(clean, -5), RATE, clean, RATE)[0]
    assert (score.value, score.status, score.detail) == (None, "failed", "PESQ: No utterances detected")


def test_pesq_refuses_clips_that_can_overrun_its_buffers() -> None:
    """61 s of bursts ends the process when it reaches the reference code."""
    burst = np.concatenate([babble(0.5), np.zeros(RATE // 2, np.float32)])
    clip = np.tile(burst, 61)
    score = score_pair(["pesq"], clip, RATE, clip, RATE)[0]
    assert (score.status, score.detail) == ("failed", "too long: 61.0 s, at most 60 s allowed")


def test_metrics_called_directly_raise_unscorable() -> None:
    clean = babble()
    for name in BOTH:
        metric = load_metric(name)
        with pytest.raises(Unscorable, match="silent"):
            metric.score(clean, np.zeros_like(clean), RATE)
        with pytest.raises(Unscorable, match="lengths differ"):
            metric.score(clean, clean[:-1], RATE)
    with pytest.raises(Unscorable, match="16000 Hz"):
        load_metric("pesq").score(clean, clean, 24_000)


def test_each_metric_gets_its_rate_and_equal_lengths(register: Callable[[type], str]) -> None:
    seen: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}

    class Native(Mean):
        def score(self, reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
            seen[type(self).__name__] = (reference, estimate, sample_rate)
            return 0.0

    class At8k(Native):
        sample_rate = 8000

    class Alone(At8k):
        needs_reference = False

    names = [register(cls) for cls in (Native, At8k, Alone)]
    reference, estimate = babble(1.0, 16_000), babble(1.1, 24_000, seed=1)
    native, at8k, alone = score_pair(names, reference, 16_000, estimate, 24_000)

    resample = torchaudio.functional.resample  # its defaults are the declared setting
    assert seen["Native"][2] == 24_000
    np.testing.assert_array_equal(seen["Native"][0], resample(torch.from_numpy(reference), 16_000, 24_000).numpy())
    np.testing.assert_array_equal(seen["Native"][1], estimate[:24_000])
    assert native.detail == "cropped to 24000 samples: reference 24000, estimate 26400 at 24000 Hz"
    assert seen["At8k"][2] == 8000
    np.testing.assert_array_equal(seen["At8k"][1], resample(torch.from_numpy(estimate), 24_000, 8000).numpy()[:8000])
    assert at8k.detail == "cropped to 8000 samples: reference 8000, estimate 8800 at 8000 Hz"
    assert seen["Alone"][0].size == 0  # nothing to lean on
    assert seen["Alone"][1].size == 8800
    assert alone.detail == ""


def test_equal_rates_leave_the_samples_alone(register: Callable[[type], str], monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("resampled")

    monkeypatch.setattr(torchaudio.functional, "resample", forbidden)
    estimate = babble()
    (score,) = score_pair([register(type("Same", (Mean,), {}))], estimate, RATE, estimate, RATE)
    assert score.value == float(estimate.mean())


def test_one_failing_metric_leaves_the_others_unharmed(register: Callable[[type], str]) -> None:
    def failing(name: str, error: Exception, at: str = "score") -> str:
        def fail(*args: Any) -> float:
            raise error

        return register(type(name, (Mean,), {at: fail}))

    names = [
        failing("Refuses", Unscorable("no voiced frame")),
        failing("Breaks", RuntimeError("network exploded")),
        failing("Divides", ZeroDivisionError("division by zero")),
        failing("NoWeights", Unavailable("weights missing: fetch them"), at="__init__"),
        failing("NoLibrary", ModuleNotFoundError("No module named 'speechmos'"), at="__init__"),
        register(type("NotFinite", (Mean,), {"score": lambda *_: float("nan")})),
        "stoi",
    ]
    scores = score_pair(names, babble(), RATE, babble(), RATE)
    assert [(score.status, score.detail) for score in scores] == [
        ("failed", "no voiced frame"),
        ("failed", "RuntimeError: network exploded"),
        ("failed", "ZeroDivisionError: division by zero"),
        ("unavailable", "weights missing: fetch them"),
        ("unavailable", "No module named 'speechmos'"),
        ("failed", "notfinite gave nan"),
        ("ok", ""),
    ]
    assert [score.value is None for score in scores] == [True] * 6 + [False]


def test_a_missing_library_is_unavailable_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as installed

    def missing(name: str) -> str:
        raise installed.PackageNotFoundError(name)

    monkeypatch.setattr(installed, "version", missing)
    load_metric.cache_clear()
    for score, name in zip(score_pair(BOTH, babble(), RATE, babble(), RATE), ("pesq", "pystoi"), strict=True):
        assert (score.value, score.status) == (None, "unavailable")
        assert f"pip install {name}" in score.detail


def test_a_faulty_reference_does_not_stop_a_metric_that_needs_none(register: Callable[[type], str]) -> None:
    name = register(type("Blind", (Mean,), {"needs_reference": False}))
    (score,) = score_pair([name], np.full(RATE, np.nan, np.float32), RATE, babble(), RATE)
    assert score.status == "ok"


def test_a_misspelt_metric_is_an_error_not_a_row() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'pesq'"):
        score_pair(["stoi", "pseq"], babble(), RATE, babble(), RATE)


def test_published_scores_are_reproduced() -> None:
    """Decoded audio of published codecs; a folder DATASET/SYSTEM/UTTERANCE.flac with scores.csv."""
    root = os.environ.get("EVALKIT_PUBLISHED")
    if not root:
        pytest.skip("EVALKIT_PUBLISHED is not set: no published audio to score")
    rows = list(csv.DictReader((Path(root) / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert rows
    for row in rows:
        folder = Path(root) / row["dataset"]
        reference, reference_rate = soundfile.read(folder / "gt" / f"{row['utterance']}.flac", dtype="float32")
        estimate, rate = soundfile.read(folder / row["system"] / f"{row['utterance']}.flac", dtype="float32")
        scores = by_name(score_pair(BOTH, reference, reference_rate, estimate, rate))
        assert scores["pesq"].value == pytest.approx(float(row["pesq_wb"]), abs=2e-3), row
        assert scores["stoi"].value == pytest.approx(float(row["stoi"]), abs=1e-4), row
