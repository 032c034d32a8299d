"""The pitch track against torchcrepe and librosa, and the three metrics on tracks whose scores are known."""

from __future__ import annotations

import csv
import functools
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional

from evalkit.datasets import load_corpus
from evalkit.metrics import Features, Unscorable, crepe, load_metric, pitch, pitch_track
from evalkit.metrics.pitch_track import END_BIN, FIRST_BIN, PitchTrack

RATE = crepe.SAMPLE_RATE
NAMES = ["vuv_f1", "periodicity_rmse", "pitch_rmse"]
track = PitchTrack()


def noise(samples: int, level: float, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def tone(hertz: float, samples: int = 4000) -> np.ndarray:
    """Eight harmonics, and noise 40 dB below: without it most spectral lines are empty, and that counts as silence."""
    phase = 2 * np.pi * hertz * np.arange(samples) / RATE
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 9))
    return (0.2 * harmonics).astype(np.float32) + noise(samples, 1e-3)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Speech, then nearly nothing, then digital silence: 0.6 s."""
    path = load_corpus("sample", "test").utterances[0].path
    signal = soundfile.read(path, dtype="float32")[0]
    start = signal.size // 2
    return np.concatenate([signal[start : start + 6000], noise(1800, 1e-5), np.zeros(1800, np.float32)])


def test_the_track_is_that_of_torchcrepe(clip: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    torchcrepe = pytest.importorskip("torchcrepe")
    monkeypatch.setattr(torchcrepe.convert, "dither", lambda cents: cents)
    audio = torch.from_numpy(clip)[None]
    hertz, periodicity = torchcrepe.predict(
        audio, RATE, crepe.HOP, 50.0, 550.0, decoder=torchcrepe.decode.viterbi, return_periodicity=True, pad=False
    )
    audible = torchcrepe.threshold.Silence(-60.0)(periodicity, audio, RATE, crepe.HOP, pad=False)[0].numpy()
    assert (audible > 0.5).any()
    assert ((audible == 0) & (periodicity[0].numpy() > 0)).any()
    found = track(clip, RATE)
    assert found["pitch"].dtype == found["periodicity"].dtype == np.float32
    np.testing.assert_allclose(found["periodicity"], audible, atol=1e-5, rtol=0)
    # Where all bins are as good as ruled out, the path hangs on the last bit of each.
    certain = periodicity[0].numpy() > 1e-3
    cents = 1200 * np.log2(hertz[0].double().numpy() / 10)
    np.testing.assert_allclose(found["pitch"][certain], cents[certain], atol=0.01)
    assert np.mean(np.abs(found["pitch"] - cents) < 0.01) > 0.9


def test_allowed_bins_are_those_of_torchcrepe() -> None:
    convert = pytest.importorskip("torchcrepe").convert
    assert convert.frequency_to_bins(torch.tensor(50.0)) == FIRST_BIN
    assert convert.frequency_to_bins(torch.tensor(550.0), torch.ceil) == END_BIN
    # Otherwise the transitions would have other weights there.
    assert FIRST_BIN >= pitch_track.REACH
    assert END_BIN <= crepe.NUM_BINS - pitch_track.REACH


def jumps(frames: int) -> np.ndarray:
    """Certainty of the lowest bin, then of the highest, and back: far from what transitions allow at once."""
    posteriors = np.zeros((frames, END_BIN - FIRST_BIN))
    low = np.arange(frames) // 15 % 2 == 0
    posteriors[low, 0] = posteriors[~low, -1] = 1
    return posteriors


POSTERIORS = {
    "uniform": lambda rng, shape: rng.random(shape),
    "few values, so ties everywhere": lambda rng, shape: rng.integers(0, 3, shape) / 2,
    "sparse": lambda rng, shape: rng.random(shape) * (rng.random(shape) > 0.98),
    "all but ruled out": lambda rng, shape: rng.random(shape) * 1e-7,
    "all equal": lambda rng, shape: np.zeros(shape),
    "jumps": lambda rng, shape: jumps(shape[0]),
}


@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("frames", [1, 2, 200])
def test_the_path_is_that_of_librosa(name: str, frames: int) -> None:
    viterbi = pytest.importorskip("librosa").sequence.viterbi
    distance = np.abs(np.subtract.outer(np.arange(crepe.NUM_BINS), np.arange(crepe.NUM_BINS)))
    transition = np.maximum(12 - distance, 0)
    shape = (frames, END_BIN - FIRST_BIN)
    posteriors = POSTERIORS[name](np.random.default_rng(frames), shape).astype(np.float32)
    masked = np.full((1, crepe.NUM_BINS, frames), -np.inf, np.float32)
    masked[0, FIRST_BIN:END_BIN] = posteriors.T
    probabilities = torch.softmax(torch.from_numpy(masked), dim=1)[0].numpy()
    expected = viterbi(probabilities, transition / transition.sum(axis=1, keepdims=True))
    assert np.array_equal(FIRST_BIN + pitch_track.likeliest_path(pitch_track.softmax(posteriors)), expected)


@pytest.mark.parametrize(("loudest", "block"), [(0.3, 3), (0.3, 1024), (1e-3, 1024)])
def test_loudness_is_that_of_torchcrepe(loudest: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that fall by 20 dB each, then silence: to 80 dB below the highest line or, where soft, to the floor."""
    a_weighted = pytest.importorskip("torchcrepe").loudness.a_weighted
    monkeypatch.setattr(pitch_track, "LOUDNESS_BLOCK", block)
    signal = np.concatenate([noise(3000, loudest * 10.0**-power) for power in range(6)] + [np.zeros(3000, np.float32)])
    expected = a_weighted(torch.from_numpy(signal)[None], RATE, crepe.HOP, pad=False)[0].numpy()
    assert np.ptp(expected) > 40
    np.testing.assert_allclose(pitch_track.loudness(signal), expected, atol=1e-4)


@pytest.mark.parametrize("hertz", [62.0, 110.0, 223.0, 441.0, 538.0])
def test_a_tone_is_tracked_within_a_bin(hertz: float) -> None:
    found = track(tone(hertz), RATE)
    assert (found["periodicity"] > 0.5).all()
    assert np.abs(found["pitch"] - 1200 * np.log2(hertz / 10)).max() <= crepe.CENTS_PER_BIN


def test_nothing_outside_of_50_to_550_hz_is_found() -> None:
    cents = 1200 * np.log2(np.array([50.0, 550.0]) / 10)
    for hertz in (40.0, 700.0):
        found = track(tone(hertz), RATE)
        assert (found["pitch"] >= cents[0] - crepe.CENTS_PER_BIN).all()
        assert (found["pitch"] <= cents[1] + crepe.CENTS_PER_BIN).all()


@pytest.mark.parametrize(
    ("samples", "span"), [(0, 0), (1023, 0), (1024, 1024), (1183, 1024), (1184, 1184), (2000, 1984)]
)
def test_what_lies_beyond_the_span_changes_nothing(samples: int, span: int) -> None:
    assert track.span(samples) == span
    if not span:
        return
    signal = noise(samples, 0.1)
    expected = track(signal, RATE)
    assert len(expected["pitch"]) == len(expected["periodicity"]) == crepe.num_frames(samples)
    changed = np.concatenate([signal[:span], noise(samples - span, 0.2, seed=1)])
    for other in (changed, signal[:span]):
        found = track(other, RATE)
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
    signal[span - 1] += 0.5
    assert not np.array_equal(track(signal, RATE)["periodicity"], expected["periodicity"])


def test_silent_frames_have_no_periodicity() -> None:
    quiet = np.concatenate([tone(200.0), 1e-4 * tone(200.0)])
    periodicity = track(quiet, RATE)["periodicity"]
    assert (periodicity[:15] > 0.5).all()
    assert (periodicity[-15:] == 0).all()


def test_gain_changes_nothing_above_silence() -> None:
    signal = tone(200.0) + noise(4000, 0.02)
    loud, soft = (track(np.float32(gain) * signal, RATE) for gain in (1, 0.25))
    assert (soft["periodicity"] > 0.3).all()
    assert all(np.array_equal(loud[name], soft[name]) for name in loud)


@pytest.mark.parametrize(
    ("signal", "rate", "reason"),
    [
        (noise(1023, 0.1), RATE, "too short: 1023 samples, one frame has 1024"),
        (np.empty(0, np.float32), RATE, "empty"),
        (noise(4000, 0.1), 24_000, "needs 16000 Hz, got 24000 Hz"),
        (np.full(4000, np.nan, np.float32), RATE, "NaN"),
        (noise(4000, 0.1).reshape(2, -1), RATE, "mono"),
    ],
)
def test_what_cannot_be_tracked_says_why(signal: np.ndarray, rate: int, reason: str) -> None:
    with pytest.raises(Unscorable, match=reason):
        track(signal, rate)


def compare(name: str, reference: Features, estimate: Features) -> float:
    return float(getattr(load_metric(name), "compare")(reference, estimate))  # noqa: B009


def made(periodicity: list[float], cents: list[float] | None = None) -> Features:
    values = np.array(periodicity, np.float32)
    return {"periodicity": values, "pitch": np.array(cents or [4000.0] * len(values), np.float32)}


def test_the_metrics_share_one_track_and_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = [pitch.VuvF1(), pitch.PeriodicityRmse(), pitch.PitchRmse()]
    assert [metric.name for metric in metrics] == NAMES
    assert len({id(metric.analysis) for metric in metrics}) == 1
    assert {(metric.sample_rate, metric.needs_reference) for metric in metrics} == {(RATE, True)}
    assert all(crepe.WEIGHTS_SHA256[:8] in metric.version for metric in metrics)
    asked = []
    monkeypatch.setattr(crepe, "posteriors", lambda signal, device: asked.append(device) or [np.ones((1, 360))])
    monkeypatch.setattr(metrics[0].analysis, "_device", "cpu")
    metrics[2].to("cuda:1")
    metrics[0].analysis(tone(100.0)[:1024], RATE)
    assert asked == ["cuda:1"]


def test_identical_signals_are_perfect(clip: np.ndarray) -> None:
    reference, estimate = track(clip[:6000], RATE), track(clip[:6000].copy(), RATE)
    assert [compare(name, reference, estimate) for name in NAMES] == [1.0, 0.0, 0.0]


def test_scores_of_known_tracks() -> None:
    """Voiced from 0.21 on: three hits, one false alarm, two misses; 30 and -40 cents and none off at the hits."""
    reference = made([0.9, 0.21, 0.5, 0.1, 0.3, 0.8, 0.0], [4000, 4100, 4200, 1, 2, 3, 4])
    estimate = made([0.9, 0.31, 0.5, 0.4, 0.2, 0.1, 0.0], [4030, 4060, 4200, 5000, 6000, 6000, 6000])
    assert compare("vuv_f1", reference, estimate) == pytest.approx(2 / (1 / (3 / 4) + 1 / (3 / 5)))
    squares = np.square([0, 0.1, 0, 0.3, 0.1, 0.7, 0])
    assert compare("periodicity_rmse", reference, estimate) == pytest.approx(np.sqrt(squares.mean()), rel=1e-6)
    assert compare("pitch_rmse", reference, estimate) == pytest.approx(np.sqrt((30**2 + 40**2) / 3), rel=1e-6)


def test_tracks_are_cropped_to_the_shorter() -> None:
    short, long = made([0.9, 0.1, 0.5]), made([0.9, 0.1, 0.5, 0.9], [4000, 4000, 4000, 9000])
    for reference, estimate in ((short, long), (long, short)):
        assert [compare(name, reference, estimate) for name in NAMES] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("found", [[0.0, 0.0, 0.1], [0.0, 0.0, 0.9]])
def test_an_estimate_without_any_hit_scores_zero(found: list[float]) -> None:
    assert compare("vuv_f1", made([0.9, 0.9, 0.1]), made(found)) == 0.0


@pytest.mark.parametrize(
    ("name", "reference", "estimate", "reason"),
    [
        ("vuv_f1", [0.1, 0.2], [0.9, 0.9], "reference has no voiced frame"),
        ("pitch_rmse", [0.1, 0.2], [0.9, 0.9], "reference has no voiced frame"),
        ("pitch_rmse", [0.9, 0.2], [0.1, 0.2], "estimate has no voiced frame"),
        ("pitch_rmse", [0.9, 0.2], [0.1, 0.9], "no frame is voiced in both"),
    ],
)
def test_what_has_no_score_says_why(name: str, reference: list[float], estimate: list[float], reason: str) -> None:
    with pytest.raises(Unscorable, match=reason):
        compare(name, made(reference), made(estimate))


def test_published_scores_are_reproduced() -> None:
    """Clips of less than 2 s from a folder DATASET/SYSTEM/UTTERANCE.flac with scores.csv."""
    root = os.environ.get("EVALKIT_PUBLISHED")
    if not root:
        pytest.skip("EVALKIT_PUBLISHED is not set: no published audio to score")
    rows = list(csv.DictReader((Path(root) / "scores.csv").read_text(encoding="utf-8").splitlines()))
    rows = [row for row in rows if float(row["seconds"]) < 2]
    assert rows

    def load(path: Path) -> np.ndarray:
        signal, rate = soundfile.read(path, dtype="float32")
        return torchaudio.functional.resample(torch.from_numpy(signal), rate, RATE).numpy()

    tracked = functools.cache(lambda path, samples: track(load(path)[:samples], RATE))
    for row in rows:
        paths = [Path(root) / row["dataset"] / system / f"{row['utterance']}.flac" for system in ("gt", row["system"])]
        shorter = min(load(path).size for path in paths)
        tracks = [tracked(path, track.span(shorter)) for path in paths]
        assert compare("vuv_f1", *tracks) == pytest.approx(float(row["vuv_f1"]), abs=2e-3), row
        assert compare("periodicity_rmse", *tracks) == pytest.approx(float(row["periodicity_rmse"]), abs=1e-3), row
        assert compare("pitch_rmse", *tracks) == pytest.approx(float(row["pitch_rmse_cents"]), abs=0.1), row
