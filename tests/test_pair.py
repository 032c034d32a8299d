"""One pair: brought to each metric as the protocol says, what is noted of it, what is refused, never scored twice."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional

from evalkit import metrics
from evalkit.metrics import METRICS, Unavailable, Unscorable, load_metric
from evalkit.scoring.cache import Cache
from evalkit.scoring.pair import Pair
from evalkit.scoring.protocol import PROTOCOLS, get_protocol
from q2d2.rates import RateError
from q2d2.registry import Registry, UnknownName
from tests.one_pair import score_pair

RATE = 16_000
STRICT, PAPER = PROTOCOLS["strict"], PROTOCOLS["paper"]


def babble(seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise with the low-pass spectrum of speech, in bursts; peak 0.5."""
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.standard_normal(round(seconds * rate)))
    noise -= np.convolve(noise, np.ones(200) / 200, "same")
    noise *= 1 + np.sin(2 * np.pi * 4 * np.arange(noise.size) / rate)
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)


class Mean:
    """Base of the metrics made here: mean of the estimate."""

    label, unit, version = "M", "", "1"
    higher_is_better, needs_reference, decimals = True, True, 2
    sample_rate: int | None = None

    def score(self, reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
        return float(estimate.mean())


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type], str]]:
    """Registers a class as a metric for one test; returns its name."""
    module = types.ModuleType("metrics_made_by_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entries = {name: METRICS._entries[name] for name in ("pesq", "stoi")}

    def add(cls: type) -> str:
        cls.name = name = cls.__name__.lower()  # type: ignore[attr-defined]
        setattr(module, cls.__name__, cls)
        entries[name] = f"{module.__name__}:{cls.__name__}"
        monkeypatch.setattr(metrics, "METRICS", Registry("metric", "evalkit.metrics", entries))
        return name

    load_metric.cache_clear()
    yield add
    load_metric.cache_clear()


@pytest.fixture
def seen(register: Callable[[type], str]) -> tuple[dict[str, tuple[np.ndarray, np.ndarray, int]], list[str]]:
    """What metrics were given, and three of them: at the native rate, at 8 kHz, at 8 kHz without reference."""
    given: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}

    class Native(Mean):
        def score(self, reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
            given[type(self).__name__] = (reference, estimate, sample_rate)
            return 0.0

    class At8k(Native):
        sample_rate = 8000

    class Alone(At8k):
        needs_reference = False

    return given, [register(cls) for cls in (Native, At8k, Alone)]


def pair(reference: np.ndarray, estimate: np.ndarray, rate: int = RATE, estimate_rate: int = RATE, **more: str) -> Pair:
    return Pair("u", reference, rate, estimate, estimate_rate, **more)


class TestPreparation:
    def test_resampled_by_the_declared_setting_and_cropped_to_the_shorter(self, seen: Any) -> None:
        given, names = seen
        reference, estimate = babble(1.0, 16_000), babble(1.05, 24_000, seed=1)
        native, at8k, alone = score_pair(pair(reference, estimate, 16_000, 24_000), names, STRICT)
        resample = torchaudio.functional.resample  # its defaults are the declared setting
        assert given["Native"][2] == 24_000
        np.testing.assert_array_equal(given["Native"][0], resample(torch.from_numpy(reference), 16_000, 24_000))
        np.testing.assert_array_equal(given["Native"][1], estimate[:24_000])
        assert given["At8k"][2] == 8000
        np.testing.assert_array_equal(given["At8k"][1], resample(torch.from_numpy(estimate), 24_000, 8000)[:8000])
        assert given["Alone"][0].size == 0  # nothing to lean on
        assert given["Alone"][1].size == 8400
        assert native.detail == at8k.detail == "estimate 50.0 ms longer than the reference: cropped to the shorter"
        assert alone.detail == ""

    def test_equal_rates_leave_the_samples_alone(
        self, register: Callable[[type], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forbidden(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("resampled")

        monkeypatch.setattr(torchaudio.functional, "resample", forbidden)
        estimate = babble()
        (score,) = score_pair(pair(estimate, estimate), [register(type("Same", (Mean,), {}))], STRICT)
        assert score.value == float(estimate.mean())

    def test_strict_keeps_floats_and_paper_takes_what_a_16_bit_file_gives_back(self, seen: Any, tmp_path: Path) -> None:
        given, names = seen
        signal = babble() * 1.9  # a few samples beyond full scale
        signal[500] = 1.2
        soundfile.write(tmp_path / "a.wav", signal.clip(-1, 1), RATE, subtype="PCM_16")
        filed = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
        for protocol, expected in ((STRICT, signal), (PAPER, filed)):
            score_pair(pair(signal, signal), names[:1], protocol)
            assert np.abs(given["Native"][0] - expected).max() <= (0 if protocol is STRICT else 1 / 32768)
            assert np.array_equal(given["Native"][0], given["Native"][1])
        score_pair(pair(filed, filed), names[:1], PAPER)
        assert np.array_equal(given["Native"][1], filed)  # nothing is lost twice

    @pytest.mark.parametrize(("shift", "relation"), [(40, "lags"), (-40, "leads")])
    def test_a_delay_is_reported_and_on_request_compensated(self, seen: Any, shift: int, relation: str) -> None:
        words = f"estimate {relation} by 40 samples (2.50 ms) at 16000 Hz"
        given, names = seen
        whole = babble(2.0)
        reference, estimate = whole[1000:25_000], whole[1000 - shift : 25_000 - shift]
        (score, _, alone) = score_pair(pair(reference, estimate), names, STRICT)
        assert (score.status, score.detail) == ("ok", words)
        assert alone.detail == ""
        assert score_pair(pair(reference, estimate), names, PAPER)[0].detail == ""
        longer = score_pair(pair(reference, whole[1000 - shift : 25_700 - shift]), names, PAPER)[0]
        assert longer.detail == ""  # paper looks at neither
        for name in ("strict", "paper"):
            (score, _, alone) = score_pair(pair(reference, estimate), names, get_protocol(name, align=True))
            assert score.detail == f"{words}: compensated"
            assert given["Native"][0].size == 24_000 - 40
            assert np.abs(given["Native"][0] - given["Native"][1]).max() < 1e-4
            assert given["Alone"][1].size == 12_000  # without reference there is nothing to align

    def test_what_is_known_of_the_file_comes_first(self, seen: Any) -> None:
        signal = babble()
        signal[5000:5010] = 1
        scores = score_pair(pair(signal, signal, note="estimate: mean of 2 channels"), seen[1], STRICT)
        clipped = [f"{side}: 10 samples at or beyond full scale" for side in ("reference", "estimate")]
        both = "; ".join(["estimate: mean of 2 channels", *clipped])
        assert [score.detail for score in scores] == [both, both, f"estimate: mean of 2 channels; {clipped[1]}"]

    @pytest.mark.parametrize("protocol", [STRICT, PAPER])
    def test_another_duration_is_refused(self, seen: Any, protocol: Any) -> None:
        half = pair(babble(2.0), babble(2.0), 16_000, 32_000)  # a file that says it has twice the rate
        native, at8k, alone = score_pair(half, seen[1], protocol)
        assert native.status == at8k.status == "failed"
        assert native.detail.startswith("reference lasts 2.000 s, estimate 1.000 s: another utterance, or a wrong")
        assert alone.status == "ok"


class TestRates:
    @pytest.mark.parametrize("protocol", [STRICT, PAPER])
    @pytest.mark.parametrize("rates", [(48_000, 44_100), (24_000, 22_050), (11_025, 12_000)])
    @pytest.mark.parametrize("seconds", [0.5, 3.0])
    def test_a_copy_whose_header_names_another_usual_rate_fails(
        self, seen: Any, rates: tuple[int, int], seconds: float, protocol: Any
    ) -> None:
        signal = bursts(seconds, rates[0])
        for stated in (rates, rates[::-1]):
            native, *_ = score_pair(pair(signal, signal, *stated), seen[1], protocol)
            assert native.status == "failed"
            assert "a wrong sample rate in one of the two files: the durations have the ratio of " in native.detail
            assert " to ".join(map(str, rates)) in native.detail or " to ".join(map(str, rates[::-1])) in native.detail

    @pytest.mark.parametrize("share", [0.0884, 0.07, -0.0812])
    @pytest.mark.parametrize("seconds", [0.8, 3.0])
    def test_padding_and_cropping_in_the_same_ratio_are_none(self, seen: Any, seconds: float, share: float) -> None:
        signal = bursts(seconds)
        more = round(share * signal.size)
        estimate = np.concatenate([signal, np.zeros(max(0, more), np.float32)])[: signal.size + min(0, more)]
        assert [score.status for score in score_pair(pair(signal, estimate), seen[1], PAPER)] == ["ok"] * 3

    def test_what_an_earlier_version_scored_is_not_taken_from_the_cache(
        self, seen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signal = bursts(2.0)
        wrong = pair(signal, signal, 24_000, 22_050)
        cache = Cache(tmp_path)
        with monkeypatch.context() as before:
            before.setattr("evalkit.scoring.pair.refused_durations", lambda *args: "")
            assert {score.status for score in score_pair(wrong, seen[1], PAPER, cache)} == {"ok"}
        native, at8k, alone = score_pair(wrong, seen[1], PAPER, cache)
        assert (native.status, at8k.status, alone.status) == ("failed", "failed", "ok")

    @pytest.mark.parametrize("rate", [2, 44_099, 999_983])
    @pytest.mark.parametrize("side", ["reference", "estimate"])
    def test_a_rate_that_no_recording_has_fails_at_once(self, seen: Any, side: str, rate: int) -> None:
        rates = {"reference": (rate, 16_000), "estimate": (16_000, rate)}[side]
        native, *_ = score_pair(pair(bursts(1.0), bursts(1.0), *rates), seen[1], STRICT)
        assert native.status == "failed"
        assert native.detail.startswith(f"{side} has a sampling rate of {rate} Hz")
        assert native.seconds < 1

    def test_two_plausible_rates_may_have_too_little_in_common(self, seen: Any) -> None:
        scores = score_pair(pair(babble(1.0, 22_255), babble(1.0, 44_056), 22_255, 44_056), seen[1][:1], STRICT)
        assert scores[0].detail.startswith("whole reference: 22255 Hz to 44056 Hz: rates with so little in common")
        with pytest.raises(RateError, match="16000 Hz to 44099 Hz"):
            STRICT.resampler(babble(), 16_000, 44_099)


def bursts(seconds: float, rate: int = RATE) -> np.ndarray:
    """Noise that comes and goes irregularly, as syllables do."""
    rng = np.random.default_rng(5)
    level = np.interp(
        np.arange(round(seconds * rate)) / rate,
        np.arange(0, seconds + 1, 0.07),
        rng.uniform(0, 1, np.arange(0, seconds + 1, 0.07).size) ** 2,
    )
    return (0.3 * level * rng.uniform(-1, 1, level.size)).astype(np.float32)


def with_nan(signal: np.ndarray) -> np.ndarray:
    return np.where(np.arange(signal.size) == 77, np.nan, signal).astype(np.float32)


class TestFailures:
    @pytest.mark.parametrize(("damage", "reason"), [
        (with_nan, "1 NaN or infinite of 16000 samples"),
        (np.zeros_like, "is silent"),
        (lambda signal: signal[:0], "is empty"),
        (lambda signal: (signal * 20_000).round().astype(np.float32), "integers read as floating point"),
    ])  # fmt: skip
    @pytest.mark.parametrize("side", ["reference", "estimate"])
    def test_a_signal_that_is_none_fails_with_its_side(self, seen: Any, side: str, damage: Any, reason: str) -> None:
        clean = babble()
        signals = {"reference": clean, "estimate": clean} | {side: damage(clean)}
        for score in score_pair(pair(**signals), seen[1][:2], STRICT):
            assert (score.status, score.value) == ("failed", None)
            assert score.detail.startswith(side), score.detail
            assert reason in score.detail

    def test_one_failing_metric_leaves_the_others_unharmed(self, register: Callable[[type], str]) -> None:
        def failing(name: str, error: BaseException, at: str = "score") -> str:
            def fail(*args: Any) -> float:
                raise error

            return register(type(name, (Mean,), {at: fail}))

        class Odd(Exception):
            pass

        names = [
            failing("Refuses", Unscorable("no voiced frame")),
            failing("Breaks", RuntimeError("network\nexploded")),
            failing("Own", Odd("of another package")),
            failing("Leaves", SystemExit(0)),
            failing("Half", ImportError("numpy.core.multiarray failed to import")),
            failing("NoWeights", Unavailable("weights missing: fetch them"), at="__init__"),
            failing("NoLibrary", ModuleNotFoundError("No module named 'speechmos'"), at="__init__"),
            register(type("NotFinite", (Mean,), {"score": lambda *_: float("nan")})),
            "stoi",
        ]
        scores = score_pair(pair(babble(), babble()), names, STRICT)
        assert [(score.status, score.detail) for score in scores] == [
            ("failed", "no voiced frame"),
            ("failed", "RuntimeError: network exploded"),
            ("failed", "Odd: of another package"),
            ("failed", "SystemExit: 0"),
            ("failed", "ImportError: numpy.core.multiarray failed to import"),
            ("unavailable", "weights missing: fetch them"),
            ("unavailable", "No module named 'speechmos'"),
            ("failed", "notfinite gave nan, which is no M"),
            ("ok", ""),
        ]
        assert [score.value is None for score in scores] == [True] * 8 + [False]

    def test_a_faulty_reference_does_not_stop_a_metric_that_needs_none(self, register: Callable[[type], str]) -> None:
        name = register(type("Blind", (Mean,), {"needs_reference": False}))
        (score,) = score_pair(pair(np.full(RATE, np.nan, np.float32), babble()), [name], STRICT)
        assert score.status == "ok"

    def test_a_misspelt_metric_is_an_error_not_a_row(self) -> None:
        with pytest.raises(UnknownName, match="Did you mean 'pesq'"):
            score_pair(pair(babble(), babble()), ["stoi", "pseq"], STRICT)


class TestCache:
    @pytest.fixture
    def counted(self, register: Callable[[type], str]) -> tuple[list[str], list[str]]:
        """Metrics that count their calls: a plain one, one without reference, two that share an analysis."""
        calls: list[str] = []

        class Plain(Mean):
            def score(self, reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
                calls.append("plain")
                return float(np.mean(reference * estimate)) / 3

        class Blind(Plain):
            needs_reference = False

            def score(self, reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
                calls.append("blind")
                return float(estimate.std())

        class Track:
            name, version = "track", "1"

            def span(self, samples: int) -> int:
                return samples // 1000 * 1000

            def __call__(self, signal: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
                calls.append("track")
                return {"blocks": signal.reshape(-1, 1000).mean(1)}

        class High(Mean):
            analysis = Track()

            def compare(self, reference: Any, estimate: Any) -> float:
                return float(np.abs(reference["blocks"] - estimate["blocks"]).max())

        class Low(High):
            def compare(self, reference: Any, estimate: Any) -> float:
                return float(np.abs(reference["blocks"] - estimate["blocks"]).mean())

        return calls, [register(cls) for cls in (Plain, Blind, High, Low)]

    def test_nothing_is_computed_twice(self, counted: Any, tmp_path: Path) -> None:
        calls, names = counted
        cache = Cache(tmp_path)
        reference, estimate, other = babble(), babble(seed=1), babble(seed=2)
        first = score_pair(pair(reference, estimate), names, STRICT, cache)
        assert calls == ["plain", "blind", "track", "track"]
        assert score_pair(pair(reference, estimate), names, STRICT, Cache(tmp_path)) == first
        assert len(calls) == 4
        # Another system: the reference's analysis is there. Less than a block longer, and it still is.
        score_pair(pair(reference, other), names, STRICT, cache)
        assert calls[4:] == ["plain", "blind", "track"]
        score_pair(pair(reference, other[:-300]), ["high"], STRICT, cache)
        assert calls[7:] == ["track", "track"]  # both are cropped by a block
        # Without reference, which one it was does not matter.
        score_pair(pair(other, estimate), ["blind"], STRICT, cache)
        assert len(calls) == 9

    def test_what_a_score_depends_on_is_in_its_key(
        self, counted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls, _ = counted
        cache = Cache(tmp_path)
        reference, estimate = babble(), babble(seed=1)
        for different in (
            lambda: score_pair(pair(reference, estimate), ["plain"], STRICT, cache),
            lambda: score_pair(pair(reference, estimate), ["plain"], PAPER, cache),
            lambda: score_pair(pair(reference, estimate), ["plain"], get_protocol("strict", True), cache),
            lambda: score_pair(pair(reference, estimate, 8000, 8000), ["plain"], STRICT, cache),
            lambda: score_pair(pair(estimate, reference), ["plain"], STRICT, cache),
            lambda: score_pair(pair(reference, np.nextafter(estimate, 1)), ["plain"], STRICT, cache),
        ):
            before = len(calls)
            different()
            assert len(calls) == before + 1
            different()
            assert len(calls) == before + 1
        load_metric.cache_clear()
        monkeypatch.setattr(sys.modules["metrics_made_by_a_test"].Plain, "version", "2")
        score_pair(pair(reference, estimate), ["plain"], STRICT, cache)
        assert len(calls) == before + 2

    def test_failures_are_tried_again(self, register: Callable[[type], str], tmp_path: Path) -> None:
        moods = iter([Unscorable("a bad day"), None])

        class Moody(Mean):
            def score(self, reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
                if error := next(moods):
                    raise error
                return 1.0

        name = register(Moody)
        again = [score_pair(pair(babble(), babble()), [name], STRICT, Cache(tmp_path))[0] for _ in range(3)]
        assert [score.status for score in again] == ["failed", "ok", "ok"]

    def test_the_note_on_a_file_is_not_kept_with_the_score(self, counted: Any, tmp_path: Path) -> None:
        signals = babble(), babble()
        for note in ("estimate: mean of 2 channels", ""):
            (score,) = score_pair(pair(*signals, note=note), ["plain"], STRICT, Cache(tmp_path))
            assert score.detail == note
