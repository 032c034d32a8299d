"""SI-SDR, mel and STFT distance: closed forms, torchaudio and torch as oracles, and what they must not depend on."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from evalkit.metrics import Metric, Unscorable, load_metric, mel_distance, stft_distance

RATE = 16_000


def speechlike(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """Noise with more low than high frequencies, in syllables; peak 0.5, mean 0."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(round(seconds * RATE))
    noise = np.convolve(noise, 0.8 ** np.arange(30), "same") + 0.05 * noise
    noise *= 0.05 + np.sin(2 * np.pi * 2 * np.arange(noise.size) / RATE) ** 2
    noise -= noise.mean()
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)


def with_silence(signal: np.ndarray) -> np.ndarray:
    """A stretch of digital silence shows where logarithms are floored."""
    return np.where(np.abs(np.arange(signal.size) - 12_000) < 3000, 0, signal).astype(np.float32)


def orthogonal_noise(signal: np.ndarray, snr_db: float, seed: int = 1) -> np.ndarray:
    """Noise of mean 0 that correlates with `signal` (of mean 0) not at all, at an exact ratio of energies."""
    noise = np.random.default_rng(seed).standard_normal(signal.size)
    noise -= noise.mean()
    noise -= signal * (np.dot(noise, signal) / np.dot(signal, signal))
    return noise * np.sqrt(np.sum(np.square(signal)) / np.sum(np.square(noise))) * 10 ** (-snr_db / 20)


@pytest.mark.parametrize("name", ["si_sdr", "si_sdr_aligned", "mel_distance", "stft_distance"])
class TestAll:
    def test_identical_signals_reach_the_end_of_the_scale(self, name: str) -> None:
        expected = {"si_sdr": 100, "si_sdr_aligned": 100, "mel_distance": 0, "stft_distance": 0}
        assert load_metric(name).score(speechlike(), speechlike(), RATE) == expected[name]

    def test_more_noise_is_worse(self, name: str) -> None:
        metric, clean = load_metric(name), speechlike()
        scores = [metric.score(clean, _float(clean + orthogonal_noise(clean, snr)), RATE) for snr in (40, 20, 10, 0)]
        assert scores == sorted(scores, reverse=metric.higher_is_better)
        assert len(set(scores)) == 4

    def test_equal_input_gives_equal_output(self, name: str) -> None:
        metric, clean = load_metric(name), speechlike()
        noisy = _float(clean + orthogonal_noise(clean, 10))
        assert metric.score(clean, noisy, RATE) == metric.score(clean.copy(), noisy.copy(), RATE)

    @pytest.mark.parametrize(("change", "reason"), [
        (np.zeros_like, "estimate is silent"),
        (lambda signal: signal[:-1], "lengths differ"),
        (lambda signal: np.where(signal > 0.4, np.inf, signal), "estimate has .* infinite"),
    ])  # fmt: skip
    def test_what_cannot_be_scored(self, name: str, change: Callable[[np.ndarray], np.ndarray], reason: str) -> None:
        with pytest.raises(Unscorable, match=reason):
            load_metric(name).score(speechlike(), _float(change(speechlike())), RATE)

    def test_too_short(self, name: str) -> None:
        with pytest.raises(Unscorable, match=r"too short: 0\.099 s"):
            load_metric(name).score(speechlike(0.099), speechlike(0.099), RATE)
        assert math.isfinite(load_metric(name).score(speechlike(0.1), speechlike(0.1, seed=1), RATE))

    def test_real_speech(self, name: str, speech_root: object) -> None:
        """The louder the noise the worse, for a recording as well."""
        path = next(iter(sorted(speech_root.glob("LibriSpeech/test-clean/**/*.flac"))))  # type: ignore[attr-defined]
        clean, rate = soundfile.read(path, dtype="float32", frames=4 * RATE)
        metric = load_metric(name)
        noisy = [_float(clean + orthogonal_noise(clean, snr)) for snr in (30, 10)]
        scores = [metric.score(clean, signal, rate) for signal in (clean, *noisy)]
        assert scores == sorted(scores, reverse=metric.higher_is_better)


def _float(signal: np.ndarray) -> np.ndarray:
    return signal.astype(np.float32)


@pytest.fixture
def si_sdr() -> Metric:
    return load_metric("si_sdr")


class TestSiSdr:
    @pytest.mark.parametrize("snr", [-20.0, 0.0, 12.5, 60.0])
    def test_noise_that_is_orthogonal_gives_its_ratio(self, si_sdr: Metric, snr: float) -> None:
        clean = speechlike()
        noisy = _float(clean + orthogonal_noise(clean, snr)) / (1 if snr > -20 else 20)
        assert si_sdr.score(clean, noisy, RATE) == pytest.approx(snr, abs=1e-3)

    @pytest.mark.parametrize(("gain", "offset"), [(0.01, 0.0), (-1.0, 0.0), (1.0, 0.25)])
    def test_gain_polarity_and_offset_do_not_matter(self, si_sdr: Metric, gain: float, offset: float) -> None:
        clean = speechlike()
        noisy = _float(clean + orthogonal_noise(clean, 10))
        changed = si_sdr.score(clean, _float(gain * noisy + offset), RATE)
        assert changed == pytest.approx(si_sdr.score(clean, noisy, RATE), abs=1e-3)

    def test_what_no_float_resolves_is_cut_at_both_ends(self, si_sdr: Metric) -> None:
        """A copy at half the gain leaves rounding alone; noise without a trace of the reference nothing of it."""
        clean = speechlike()
        assert si_sdr.score(clean, 0.5 * clean, RATE) == 100
        time = np.arange(RATE) / RATE
        tones = [_float(np.sin(2 * np.pi * hertz * time) / 2) for hertz in (100, 200)]
        assert si_sdr.score(tones[0], tones[1], RATE) == -100

    @pytest.mark.parametrize("role", ["reference", "estimate"])
    def test_a_constant_signal_is_no_signal(self, si_sdr: Metric, role: str) -> None:
        signals = {"reference": speechlike(), "estimate": speechlike()} | {role: np.full(24_000, 0.5, np.float32)}
        with pytest.raises(Unscorable, match=f"{role} is constant"):
            si_sdr.score(sample_rate=RATE, **signals)

    @pytest.mark.parametrize("shift", [37, -37])
    def test_a_delay_is_taken_out_when_asked_for(self, si_sdr: Metric, shift: int) -> None:
        whole = speechlike(2.0)
        clean, noisy = whole[1000:-1000], _float(whole + orthogonal_noise(whole, 15))[1000 - shift : -1000 - shift]
        shared = (clean[:-shift], noisy[shift:]) if shift > 0 else (clean[-shift:], noisy[:shift])
        assert si_sdr.score(clean, noisy, RATE) < -5
        aligned = load_metric("si_sdr_aligned").score(clean, noisy, RATE)
        assert aligned == si_sdr.score(*shared, RATE) == pytest.approx(15, abs=0.5)

    def test_without_a_certain_delay_alignment_changes_nothing(self, si_sdr: Metric) -> None:
        """The best of 1601 lags of another signal is no alignment."""
        clean = speechlike()
        for other in (speechlike(seed=5), -clean, _float(clean + orthogonal_noise(clean, 5))):
            assert load_metric("si_sdr_aligned").score(clean, other, RATE) == si_sdr.score(clean, other, RATE)


@pytest.mark.parametrize("name", ["mel_distance", "stft_distance"])
class TestDistances:
    def test_symmetry_and_phase(self, name: str) -> None:
        """Polarity is no difference. Exchange is none for the mel distance; the other is relative to the reference."""
        metric, clean, other = load_metric(name), speechlike(), speechlike(seed=1)
        assert metric.score(clean, -other, RATE) == metric.score(clean, other, RATE)
        if name == "mel_distance":
            assert metric.score(other, clean, RATE) == metric.score(clean, other, RATE)

    def test_blocks_of_frames_change_nothing(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        clean, other = speechlike(), speechlike(seed=1)
        whole = load_metric(name).score(clean, other, RATE)
        monkeypatch.setattr(stft_distance, "BLOCK", 13)
        assert load_metric(name).score(clean, other, RATE) == pytest.approx(whole, rel=1e-12)

    def test_another_rate_is_refused(self, name: str) -> None:
        with pytest.raises(Unscorable, match=f"{name} needs 16000 Hz, got 24000 Hz"):
            load_metric(name).score(speechlike(), speechlike(), 24_000)

    def test_gain_is_a_distance_in_level(self, name: str) -> None:
        """Half the amplitude: ln 2 everywhere above the floors, and a spectral convergence of 1 / 2."""
        loud = 0.1 * np.random.default_rng(0).standard_normal(RATE)  # no bin near the floor
        expected = math.log(2) + (0.5 if name == "stft_distance" else 0)
        # The STFT floors power at 1e-7: a few bins of white noise come close to it.
        assert load_metric(name).score(_float(loud), _float(loud / 2), RATE) == pytest.approx(expected, abs=1e-4)


def test_mel_distance_is_the_loss_of_vocos() -> None:
    clean, other = with_silence(speechlike()), speechlike(seed=1)
    transform = torchaudio.transforms.MelSpectrogram(RATE, n_fft=1024, hop_length=256, n_mels=100, power=1)
    mels = [transform(torch.from_numpy(signal)).clip(min=1e-7).log() for signal in (clean, other)]
    expected = torch.nn.functional.l1_loss(*mels).item()
    assert load_metric("mel_distance").score(clean, other, RATE) == pytest.approx(expected, rel=1e-5)


def test_mel_filters_leave_no_band_empty() -> None:
    assert (mel_distance._mel_filters(RATE).sum(axis=0) > 0).all()


def test_stft_distance_is_the_loss_of_parallel_wavegan() -> None:
    clean, other = with_silence(speechlike()), speechlike(seed=1)
    expected = 0.0
    for fft, hop, width in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        wanted, given = (
            torch.stft(torch.from_numpy(signal), fft, hop, width, torch.hann_window(width), return_complex=True)
            .abs()
            .square()
            .clamp(min=1e-7)
            .sqrt()
            for signal in (clean, other)
        )
        convergence = torch.linalg.norm(wanted - given) / torch.linalg.norm(wanted)
        expected += float(convergence + (wanted.log() - given.log()).abs().mean()) / 3
    assert load_metric("stft_distance").score(clean, other, RATE) == pytest.approx(expected, rel=1e-4)
