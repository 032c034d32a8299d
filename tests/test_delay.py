"""Delay: known shifts are found whatever was done to the signal, and nothing is found where there is none."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from evalkit.metrics.delay import Delay, align, estimate_delay

SHIFTS = [1, -1, 7, -7, 12, -12, 100, -100, 243, -243, 600, -600]


def voice(seconds: float = 2.0, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """Pulses at a gliding pitch through two resonances, in syllables, with a little noise: periodic like speech."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    phase = np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6))) / rate
    source = np.diff(np.floor(phase), prepend=0) + 0.02 * rng.standard_normal(time.size)
    for hertz, width in ((500, 80), (1500, 120)):
        radius = np.exp(-np.pi * width / rate)
        source = scipy.signal.lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * hertz / rate), radius**2], source)
    source *= np.sin(2 * np.pi * 1.5 * time) ** 2
    return (0.5 * source / np.abs(source).max()).astype(np.float32)


def moved(signal: np.ndarray, samples: int) -> np.ndarray:
    """`signal` later by `samples`, silence before it; earlier where negative, its beginning cut."""
    return np.concatenate([np.zeros(samples, np.float32), signal]) if samples >= 0 else signal[-samples:]


def with_noise(signal: np.ndarray, snr_db: float) -> np.ndarray:
    noise = np.random.default_rng(99).standard_normal(signal.size)
    return (signal + noise * signal.std() * 10 ** (-snr_db / 20)).astype(np.float32)


def random_phases(signal: np.ndarray, seed: int = 3) -> np.ndarray:
    """Equal magnitudes of the STFT, other phases: what a decoder that invents phases gives at worst."""
    spectrum = scipy.signal.stft(signal, nperseg=640)[2]
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, spectrum.shape)
    return scipy.signal.istft(np.abs(spectrum) * np.exp(1j * angles), nperseg=640)[1][: signal.size].astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_clean_copy_is_found_to_the_sample(shift: int, rate: int) -> None:
    signal = voice(rate=rate)
    delay = estimate_delay(signal, moved(signal, shift), rate)
    assert (delay.samples, delay.certain) == (shift, True)
    assert delay.correlation == pytest.approx(1, abs=1e-3)
    assert delay.correlation > delay.correlation_at_zero


@pytest.mark.parametrize("snr", [10, 0])
@pytest.mark.parametrize("shift", [12, -100, 243, -600])
def test_noise_moves_nothing(shift: int, snr: float) -> None:
    signal = voice()
    delay = estimate_delay(signal, moved(with_noise(signal, snr), shift), 16_000)
    assert (delay.samples, delay.certain) == (shift, True)
    # Signal energy over all energy: correlation 1 / sqrt(1 + 10^(-snr / 10)).
    assert delay.correlation == pytest.approx((1 + 10 ** (-snr / 10)) ** -0.5, abs=0.03)


def test_offset_and_gain_do_not_matter() -> None:
    signal = voice()
    plain = estimate_delay(signal, moved(signal, 30), 16_000)
    other = estimate_delay(signal + 0.3, 0.1 * moved(signal, 30) - 0.2, 16_000)
    assert (other.samples, other.certain) == (30, True)
    assert other.correlation == pytest.approx(plain.correlation, abs=1e-3)


def test_correlations_are_those_of_the_definition() -> None:
    reference, estimate = (part[:700] for part in (voice(seed=1)[9000:], with_noise(voice(seed=1), 5)[8990:]))
    delay = estimate_delay(reference, estimate[:650], 16_000, max_seconds=0.01)
    wanted, given = reference - reference.mean(), estimate[:650] - estimate[:650].mean()
    full = np.correlate(given, wanted, "full") / np.sqrt(np.sum(wanted**2) * np.sum(given**2))
    around = full[wanted.size - 1 - 160 : wanted.size + 160]
    assert delay.samples == np.argmax(around) - 160 == 10
    assert delay.correlation == pytest.approx(around.max(), abs=1e-5)
    assert delay.correlation_at_zero == pytest.approx(around[160], abs=1e-5)
    rivals = np.abs(np.delete(around, np.arange(170 - 7, 170 + 8)))  # 0.5 ms are 8 samples
    assert delay.rival == pytest.approx(rivals.max(), abs=1e-5)


class TestNothingIsFoundWhereNothingIs:
    def test_equal_signals(self) -> None:
        delay = estimate_delay(voice(), voice(), 16_000)
        assert (delay.samples, delay.certain) == (0, False)
        assert delay.correlation == delay.correlation_at_zero == pytest.approx(1)

    @pytest.mark.parametrize("seed", range(5))
    def test_random_phases(self, seed: int) -> None:
        signal = voice(seed=seed)
        assert not estimate_delay(signal, random_phases(signal, seed), 16_000).certain

    @pytest.mark.parametrize("seed", range(5))
    def test_another_utterance(self, seed: int) -> None:
        assert not estimate_delay(voice(seed=seed), voice(seed=seed + 5), 16_000).certain

    def test_reversed_polarity(self) -> None:
        """Its best positive match is half a period off."""
        delay = estimate_delay(voice(), -voice(), 16_000)
        assert delay.samples != 0
        assert not delay.certain

    def test_a_tone_matches_everywhere(self) -> None:
        tone = np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000).astype(np.float32)
        assert not estimate_delay(tone, moved(tone, 20), 16_000).certain

    def test_a_phase_response(self) -> None:
        """An all-pass that turns phases by a sample or so, over noise: the peak moves, but nothing is gained."""
        signal = voice()
        turned = with_noise(scipy.signal.lfilter([0.3, 1], [1, 0.3], signal).astype(np.float32), 3)
        delay = estimate_delay(signal, turned, 16_000)
        assert delay.samples == 1
        assert not delay.certain

    def test_the_delay_may_be_longer_than_the_search(self) -> None:
        signal = voice()
        assert not estimate_delay(signal, moved(signal, 810), 16_000).certain
        assert estimate_delay(signal, moved(signal, 810), 16_000, max_seconds=0.06).certain
        one_too_long = estimate_delay(signal, moved(signal, 801), 16_000)  # matches well one sample earlier
        assert (one_too_long.samples, one_too_long.at_limit, one_too_long.certain) == (800, True, False)
        assert one_too_long.correlation > 0.9

    def test_a_constant_has_no_peak(self) -> None:
        assert estimate_delay(np.ones(1000, np.float32), voice(), 16_000) == Delay(0, 0.0, 0.0)


@pytest.mark.parametrize("signal", [np.empty(0, np.float32), np.ones((2, 100), np.float32)])
def test_what_is_no_signal_is_an_error(signal: np.ndarray) -> None:
    for pair in ((signal, voice()), (voice(), signal)):
        with pytest.raises(ValueError, match="samples,"):
            estimate_delay(*pair, 16_000)


@pytest.mark.parametrize("shift", [0, *SHIFTS])
def test_align_undoes_a_shift(shift: int) -> None:
    signal = voice()
    reference, estimate = align(signal, 16_000, moved(signal, shift), 16_000, shift)
    length = min(reference.size, estimate.size)
    np.testing.assert_array_equal(reference[:length], estimate[:length])
    assert length == signal.size + min(shift, 0)


def test_align_counts_the_delay_at_the_estimates_rate() -> None:
    reference, estimate = np.arange(16_000, dtype=np.float32), np.arange(24_000, dtype=np.float32)
    cut, kept = align(reference, 16_000, estimate, 24_000, -31)
    assert (cut[0], kept[0]) == (21, 0)  # 31 samples at 24 kHz are 20.67 at 16 kHz
    kept, cut = align(reference, 16_000, estimate, 24_000, 31)
    assert (kept[0], cut[0]) == (0, 31)


def test_align_leaves_something() -> None:
    with pytest.raises(ValueError, match="delay of 100 samples is longer"):
        align(np.ones(50, np.float32), 16_000, np.ones(100, np.float32), 16_000, 100)


def test_published_decoded_files_have_no_delay_and_moved_copies_have_theirs() -> None:
    root = os.environ.get("EVALKIT_PUBLISHED")
    if not root:
        pytest.skip("EVALKIT_PUBLISHED is not set: no decoded audio of published codecs")
    rows = [
        row
        for row in csv.DictReader((Path(root) / "scores.csv").read_text(encoding="utf-8").splitlines())
        if row["system"] != "gt"
    ]
    assert rows
    for row in rows:
        folder = Path(root) / row["dataset"]
        reference, reference_rate = soundfile.read(folder / "gt" / f"{row['utterance']}.flac", dtype="float32")
        estimate, rate = soundfile.read(folder / row["system"] / f"{row['utterance']}.flac", dtype="float32")
        if rate != reference_rate:
            reference = scipy.signal.resample_poly(reference, rate, reference_rate)
        found = {shift: estimate_delay(reference, moved(estimate, shift), rate) for shift in (0, 7, -12, 243, -600)}
        for shift, delay in found.items():
            assert abs(delay.samples - shift) <= 2, row
            assert delay.certain == (shift != 0), row


def test_real_speech_with_random_phases_has_no_delay(speech_root: Path) -> None:
    for path in sorted(speech_root.glob("LibriSpeech/test-clean/**/*.flac"))[:8]:
        signal, rate = soundfile.read(path, dtype="float32")
        assert not estimate_delay(signal, random_phases(signal), rate).certain, path
        assert estimate_delay(signal, moved(with_noise(signal, 0), -100), rate).certain, path
