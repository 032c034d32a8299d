"""Every metric's interface; checks of signals; PESQ and STOI: known answers, published scores, and never a stand-in."""

from __future__ import annotations

import csv
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evalkit.metrics import METRICS, Metric, Unavailable, Unscorable, load_metric
from evalkit.metrics.signals import check_pair, check_signal, count_clipped
from evalkit.scoring.pair import Pair
from evalkit.scoring.protocol import PROTOCOLS
from tests.one_pair import score_pair

RATE = 16_000
INTRUSIVE = ["pesq", "stoi", "estoi"]


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


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_has_the_whole_interface(name: str) -> None:
    known = METRICS.resolve(name)
    assert known.name == name
    attributes = set(Metric.__annotations__) - {"version"}
    assert [attribute for attribute in attributes if not hasattr(known, attribute)] == []
    assert hasattr(known, "score") or hasattr(known, "compare")
    try:
        metric = load_metric(name)
    except Unavailable as error:
        pytest.skip(str(error))
    assert any(character.isdigit() for character in metric.version)
    if not hasattr(metric, "score"):
        assert {"name", "version", "span"} <= set(dir(metric.analysis))  # type: ignore[attr-defined]


class TestSignals:
    @pytest.mark.parametrize(("signal", "expected"), [
        ([0.5, 1.0, 0.5], 0),  # a peak that just fits
        ([1.0, 1.0, 0.5, -1.0, -1.0], 0),
        ([1.0, 1.0, 1.0, 0.5], 3),
        ([0.5, -1.0, 1.0, -1.0], 3),  # a run across signs, at the very end
        ([32767 / 32768] * 4, 4),  # the largest 16-bit sample
        ([32766 / 32768] * 4, 0),
        ([1.01, 0.5, -1.5, 1.0], 2),  # beyond full scale, alone or in a short run
        ([1.0, 1.2, 1.0, 0.1, 1.2], 4),
    ])  # fmt: skip
    def test_clipping_is_runs_at_full_scale_and_whatever_is_beyond(self, signal: list[float], expected: int) -> None:
        assert count_clipped(np.array(signal, np.float32)) == expected

    def test_clipping_of_random_signals_is_what_a_loop_counts(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(200):
            signal = rng.choice([0.3, 1.0, -1.0, 1.1], size=30, p=[0.4, 0.3, 0.2, 0.1])
            runs = "".join("x" if abs(sample) >= 1 else " " for sample in signal).split(" ")
            long = sum(len(run) for run in runs if len(run) >= 3)
            ends = np.cumsum([len(run) + 1 for run in runs])
            short = [signal[end - 1 - len(run) : end - 1] for run, end in zip(runs, ends, strict=True) if len(run) < 3]
            assert count_clipped(signal) == long + sum(int((np.abs(part) > 1).sum()) for part in short)

    @pytest.mark.parametrize(("change", "reason"), [
        (lambda signal: signal * 32768, r"has a peak of .* integers read as floating point \(divide"),
        (lambda signal: signal * 6, r"clipped: \d+\.\d % of its samples at or beyond full scale \(peak 3\): a wrong"),
        (lambda signal: (signal * 6).clip(-1, 1), r"clipped: .*\(peak 1\)"),
        (lambda signal: signal * np.nan, "32000 NaN or infinite of 32000"),
        (lambda signal: np.where(signal > 0.45, np.inf, signal), "NaN or infinite"),
        (np.zeros_like, "silent"),
        (lambda signal: signal * np.float32(1e-6), "silent"),
        (lambda signal: signal[:0], "empty"),
        (lambda signal: np.stack([signal, signal]), "mono"),
        (lambda signal: (signal * 32767).astype(np.int16), "int16"),
    ])  # fmt: skip
    @pytest.mark.parametrize("side", ["reference", "estimate"])
    def test_a_faulty_signal_is_refused_with_its_side(self, side: str, change: object, reason: str) -> None:
        signals = {"reference": babble(), "estimate": babble()}
        signals[side] = change(signals[side])  # type: ignore[operator]
        with pytest.raises(Unscorable, match=f"^{side} .*{reason}"):
            check_pair(**signals, sample_rate=RATE, min_seconds=0)

    def test_a_little_clipping_is_no_fault(self) -> None:
        signal = babble()
        signal[100:415] = 1.3  # 0.98 %
        check_signal(signal, "estimate")
        signal[100:425] = 1.3
        with pytest.raises(Unscorable, match=r"estimate is clipped: 1\.0 %"):
            check_signal(signal, "estimate")


class TestIntrusive:
    @pytest.mark.parametrize(("name", "top"), [("pesq", 4.6439), ("stoi", 1.0), ("estoi", 1.0)])
    def test_identical_signals_reach_the_top_of_the_scale(self, name: str, top: float) -> None:
        assert load_metric(name).score(babble(), babble(), RATE) == pytest.approx(top, abs=1e-4)

    @pytest.mark.parametrize("name", INTRUSIVE)
    def test_scores_fall_with_the_noise(self, name: str) -> None:
        values = [load_metric(name).score(babble(), with_noise(babble(), snr), RATE) for snr in (30, 20, 10, 0)]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 4

    @pytest.mark.parametrize(("name", "expected", "tolerance"), [
        ("pesq", 2.57184, 2e-3), ("stoi", 0.89421, 1e-4), ("estoi", 0.54498, 1e-4),
    ])  # fmt: skip
    def test_known_scores_of_known_signals(self, name: str, expected: float, tolerance: float) -> None:
        """Pinned: another mode (narrow band, extended), swapped arguments or another resampler give other numbers."""
        clean = babble(rate=24_000)
        (score,) = score_pair(Pair("u", clean, 24_000, with_noise(clean, 0), 24_000), [name], PROTOCOLS["strict"])
        assert score.value == pytest.approx(expected, abs=tolerance)

    @pytest.mark.parametrize("name", INTRUSIVE)
    def test_gain_does_not_matter(self, name: str) -> None:
        clean, noisy = babble(), with_noise(babble(), 15)
        plain = load_metric(name).score(clean, noisy, RATE)
        for gain in (0.01, 1.9):  # the latter puts some samples beyond full scale, which are not clipped
            scaled = load_metric(name).score(clean, (gain * noisy).astype(np.float32), RATE)
            assert scaled == pytest.approx(plain, abs=5e-3)

    @pytest.mark.parametrize("name", INTRUSIVE)
    def test_equal_input_gives_equal_output_whatever_the_random_state(self, name: str) -> None:
        """pystoi's extended measure adds random numbers of its own."""
        clean, noisy = babble(), with_noise(babble(), 5)
        scores = set()
        for seed in range(3):
            np.random.seed(seed)
            scores.add(load_metric(name).score(clean, noisy, RATE))
            after = np.random.random()
            np.random.seed(seed)
            assert after == np.random.random()  # and the state is left as it was
        assert len(scores) == 1

    @pytest.mark.parametrize(("seconds", "failing"), [
        (0.01, INTRUSIVE), (0.249, INTRUSIVE), (0.3, ["stoi", "estoi"]), (0.6, []),
    ])  # fmt: skip
    def test_too_short_clips_fail(self, seconds: float, failing: list[str]) -> None:
        clean = babble(seconds)
        for name in INTRUSIVE:
            if name in failing:
                with pytest.raises(Unscorable, match="too short"):
                    load_metric(name).score(clean, with_noise(clean, 20), RATE)
            else:
                load_metric(name).score(clean, with_noise(clean, 20), RATE)

    @pytest.mark.parametrize("name", ["stoi", "estoi"])
    def test_too_little_speech_is_a_failure_not_1e_minus_5(self, name: str) -> None:
        """One short burst in silence: pystoi drops the silent frames, warns and returns 1e-5."""
        clean = np.zeros(2 * RATE, np.float32)
        clean[:2000] = babble(seconds=0.125)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(Unscorable, match="fewer than 30 frames"):
                load_metric(name).score(clean, clean, RATE)

    def test_no_utterances_is_a_failure_not_minus_1(self) -> None:
        """Steady noise as the reference: PESQ's activity detector finds no speech."""
        with pytest.raises(Unscorable, match="PESQ: No utterances detected"):
            load_metric("pesq").score(with_noise(babble(), -5), babble(), RATE)

    def test_clips_that_can_overrun_pesqs_buffers_are_refused(self) -> None:
        """61 s of bursts ends the process when it reaches the reference code."""
        clip = np.tile(np.concatenate([babble(0.5), np.zeros(RATE // 2, np.float32)]), 61)
        with pytest.raises(Unscorable, match=r"too long: 61\.0 s, at most 60 s allowed"):
            load_metric("pesq").score(clip, clip, RATE)

    @pytest.mark.parametrize("name", INTRUSIVE)
    def test_called_directly_they_check_too(self, name: str) -> None:
        clean = babble()
        with pytest.raises(Unscorable, match="silent"):
            load_metric(name).score(clean, np.zeros_like(clean), RATE)
        with pytest.raises(Unscorable, match="lengths differ"):
            load_metric(name).score(clean, clean[:-1], RATE)

    def test_pesq_at_another_rate_is_refused(self) -> None:
        with pytest.raises(Unscorable, match="pesq needs 16000 Hz, got 24000 Hz"):
            load_metric("pesq").score(babble(), babble(), 24_000)

    def test_a_missing_library_is_unavailable_with_the_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib.metadata as installed

        def missing(name: str) -> str:
            raise installed.PackageNotFoundError(name)

        monkeypatch.setattr(installed, "version", missing)
        for name, library in zip(INTRUSIVE, ("pesq", "pystoi", "pystoi"), strict=True):
            with pytest.raises(Unavailable, match=f"pip install {library}"):
                METRICS.resolve(name)()


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
        pair = Pair(row["utterance"], reference, reference_rate, estimate, rate)
        for protocol in PROTOCOLS.values():
            pesq, stoi = score_pair(pair, ["pesq", "stoi"], protocol)
            assert pesq.value == pytest.approx(float(row["pesq_wb"]), abs=2e-3), row
            assert stoi.value == pytest.approx(float(row["stoi"]), abs=1e-4), row
