"""One reference and one estimate: brought to each metric as the protocol says, scored, and never scored twice.

Whatever goes wrong becomes a `Score` with a status and a reason, never a number.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics import Analysis, Features, Metric, Unavailable, Unscorable, load_metric, version_on
from evalkit.metrics.delay import Delay, align, estimate_delay
from evalkit.metrics.signals import check_signal, count_clipped
from evalkit.scoring.cache import Cache, cache_key, content_digest
from evalkit.scoring.durations import refused_durations
from evalkit.scoring.protocol import Protocol
from q2d2.audio import HIGHEST_PEAK
from q2d2.rates import RateError, check_rate

Audio = NDArray[np.float32]
FULL_SCALE = 32768


@dataclass(frozen=True)
class Score:
    """What one metric said about one pair.

    Attributes:
        metric: name of the metric.
        value: the score; None unless `status` is "ok".
        status: "ok"; "failed" (this pair cannot be scored); "unavailable" (the metric cannot run on this machine).
        detail: the reason of a status other than "ok"; for "ok" what is to be known of the pair, or empty.
        seconds: wall time of the metric when it was computed, without resampling and without what was cached.
        version: of the metric; empty where it could not be loaded.
    """

    metric: str
    value: float | None
    status: Literal["ok", "failed", "unavailable"]
    detail: str
    seconds: float
    version: str = ""


@dataclass(frozen=True)
class Pair:
    """An utterance and its reconstruction, (samples,) float each.

    `unreadable` says why there are no signals; `note` is what is to be known of the estimate's file.
    """

    utterance: str
    reference: Audio
    reference_rate: int
    estimate: Audio
    estimate_rate: int
    unreadable: str = ""
    note: str = ""

    @classmethod
    def without_audio(cls, utterance: str, reason: str) -> Pair:
        """An utterance that could not be read: all its scores fail for `reason`."""
        nothing = np.empty(0, np.float32)
        return cls(utterance, nothing, 1, nothing, 1, reason)


class PairScorer:
    """Scores one pair, sharing between metrics what they have in common.

    Args:
        pair: signals at their own rates.
        protocol: how they are brought to each metric.
        cache: where scores and analyses are kept; None for nowhere.
        device: where metrics run their networks.
    """

    def __init__(self, pair: Pair, protocol: Protocol, cache: Cache | None = None, device: str = "cpu") -> None:
        self.pair = pair
        self.protocol = protocol
        self.cache = cache
        self.device = device
        self._resampled: dict[tuple[str, int], Audio] = {}
        self._analysed: dict[str, Features] = {}

    def cached(self, metrics: Sequence[str]) -> dict[str, Score]:
        """The scores of `metrics` that are known already, by name."""
        if self.cache is None or self.pair.unreadable:
            return {}
        keys = {}
        for name in metrics:
            try:
                metric = load_metric(name, self.device)
                if not self._is_refused(metric):  # an earlier version may have scored it
                    keys[name] = self._key(metric)
            except (Unavailable, ImportError):
                continue  # scoring says so
        known = self.cache.get_many(list(keys.values()))
        return {
            name: self._from_cache(name, known[key])
            for name, key in keys.items()
            if key in known and _can_be(load_metric(name, self.device), float(known[key]["value"]))
        }

    def score(self, name: str) -> Score:
        """Score by the metric `name`; whatever it raises is a failed score.

        Raises:
            UnknownName: it is not registered.
        """
        start = time.perf_counter()
        try:
            metric = load_metric(name, self.device)
            version = version_on(metric, self.device)
        except (Unavailable, ImportError) as error:
            return Score(name, None, "unavailable", str(error), 0.0)
        try:
            if self.pair.unreadable:
                raise Unscorable(self.pair.unreadable)
            signals = self._signals(metric)
            start = time.perf_counter()
            value = float(self._value(metric, *signals))
            if not _can_be(metric, value):
                raise Unscorable(f"{name} gave {value:g}, which is no {metric.label}")
        except Unavailable as error:  # known only now, such as weights that are not the published ones
            return Score(name, None, "unavailable", str(error), 0.0, version)
        except Unscorable as error:
            return Score(name, None, "failed", str(error), time.perf_counter() - start, version)
        except (Exception, SystemExit) as error:  # a metric may be anybody's, and one pair must not end a run
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return Score(name, None, "failed", reason, time.perf_counter() - start, version)
        seconds = time.perf_counter() - start
        detail = self._both.note if metric.needs_reference else self._estimate_note
        if self.cache is not None:
            self.cache.put(self._key(metric), {"value": value, "detail": detail, "seconds": seconds})
        return Score(name, value, "ok", self._with_file_note(detail), seconds, version)

    def _from_cache(self, name: str, known: dict[str, Any]) -> Score:
        version = version_on(load_metric(name, self.device), self.device)
        detail = self._with_file_note(str(known["detail"]))
        return Score(name, float(known["value"]), "ok", detail, float(known["seconds"]), version)

    def _with_file_note(self, detail: str) -> str:
        return "; ".join(note for note in (self.pair.note, detail) if note)

    def _key(self, metric: Metric) -> str:
        reference = self._digests[0] if metric.needs_reference else ""
        version = version_on(metric, self.device)
        return cache_key("score", metric.name, version, self.protocol.digest, reference, self._digests[1])

    @functools.cached_property
    def _digests(self) -> tuple[str, str]:
        pair = self.pair
        reference = content_digest(pair.reference, pair.reference_rate)
        return reference, content_digest(pair.estimate, pair.estimate_rate)

    def _value(self, metric: Metric, reference: Audio, estimate: Audio, rate: int) -> float:
        analysis: Analysis | None = getattr(metric, "analysis", None)
        if analysis is None:
            return metric.score(reference, estimate, rate)
        parts = [self._analyse(analysis, signal, rate) if signal.size else {} for signal in (reference, estimate)]
        compare: Callable[[Features, Features], float] = metric.compare  # type: ignore[attr-defined]
        return compare(parts[0], parts[1])

    def _analyse(self, analysis: Analysis, signal: Audio, rate: int) -> Features:
        signal = signal[: analysis.span(signal.size)]
        place = () if self.device == "cpu" else (self.device,)
        key = cache_key("analysis", analysis.name, analysis.version, content_digest(signal, rate), *place)
        if key not in self._analysed:
            known = self.cache.get(key) if self.cache is not None else None
            self._analysed[key] = analysis(signal, rate) if known is None else known
            if known is None and self.cache is not None:
                self.cache.put(key, self._analysed[key])
        return self._analysed[key]

    def _signals(self, metric: Metric) -> tuple[Audio, Audio, int]:
        """Reference (empty where it is not needed) and estimate at the metric's rate, and that rate."""
        rate = metric.sample_rate or self.pair.estimate_rate
        if not metric.needs_reference:
            estimate = self._at(rate, "whole estimate", self._estimate, self.pair.estimate_rate)
            return np.empty(0, np.float32), estimate, rate
        both = self._both
        reference = self._at(rate, "reference", both.reference, self.pair.reference_rate)
        estimate = self._at(rate, "estimate", both.estimate, self.pair.estimate_rate)
        length = min(reference.size, estimate.size)
        return reference[:length], estimate[:length], rate

    def _at(self, rate: int, role: str, signal: Audio, signal_rate: int) -> Audio:
        if (role, rate) not in self._resampled:
            try:
                self._resampled[role, rate] = self.protocol.resampler(signal, signal_rate, rate)
            except RateError as error:
                raise Unscorable(f"{role}: {error}") from error
        return self._resampled[role, rate]

    @functools.cached_property
    def _reference(self) -> Audio:
        return self._checked(self.pair.reference, self.pair.reference_rate, "reference")

    @functools.cached_property
    def _estimate(self) -> Audio:
        return self._checked(self.pair.estimate, self.pair.estimate_rate, "estimate")

    def _checked(self, signal: Audio, rate: int, role: str) -> Audio:
        try:
            check_rate(rate)
        except RateError as error:
            raise Unscorable(f"{role} has {error}") from error
        # Checked as delivered: resampling would smear one NaN over its neighbours and hide which side it came from.
        check_signal(signal, role)
        return _as_16_bits(signal) if self.protocol.signals == "pcm16" else signal

    @functools.cached_property
    def _estimate_note(self) -> str:
        return _clipping_note("estimate", self.pair.estimate)

    @functools.cached_property
    def _both(self) -> _Matched:
        """Both signals with their beginnings matched, if the protocol says so, and a note on what they are like."""
        pair, protocol = self.pair, self.protocol
        reference, estimate = self._reference, self._estimate
        if self._refusal:
            raise Unscorable(self._refusal)
        notes = []
        if protocol.checked or protocol.aligned:
            delay = self._delay
            if delay.certain and delay.samples:
                notes.append(_delay_note(delay.samples, pair.estimate_rate, protocol.aligned))
                if protocol.aligned:
                    reference, estimate = align(
                        reference, pair.reference_rate, estimate, pair.estimate_rate, delay.samples
                    )
        if protocol.checked:
            difference = estimate.size / pair.estimate_rate - reference.size / pair.reference_rate
            notes.append(_length_note(difference) if abs(difference) > protocol.hop_seconds else "")
        notes += [_clipping_note("reference", pair.reference), self._estimate_note]
        return _Matched(reference, estimate, "; ".join(note for note in notes if note))

    @functools.cached_property
    def _delay(self) -> Delay:
        rate = self.pair.estimate_rate
        reference = self._at(rate, "whole reference", self._reference, self.pair.reference_rate)
        return estimate_delay(reference, self._estimate, rate, self.protocol.max_delay_seconds)

    def _is_refused(self, metric: Metric) -> bool:
        return self._is_absurd[1] or (metric.needs_reference and (self._is_absurd[0] or bool(self._refusal)))

    @functools.cached_property
    def _is_absurd(self) -> tuple[bool, bool]:
        """Whether reference and estimate have a sample that is not finite, or beyond the stated peak."""
        pair = self.pair
        reference, estimate = (
            signal.size > 0 and not np.abs(signal).max() <= HIGHEST_PEAK for signal in (pair.reference, pair.estimate)
        )
        return bool(reference), bool(estimate)

    @functools.cached_property
    def _refusal(self) -> str:
        """Why the two signals cannot be compared, whatever they hold; empty where they can."""
        pair = self.pair
        if not pair.reference.size or not pair.estimate.size:
            return ""  # said by the check of the signal
        return refused_durations(
            pair.reference, pair.reference_rate, pair.estimate, pair.estimate_rate, self.protocol.max_mismatch
        )


def _can_be(metric: Metric, value: float) -> bool:
    low, high = getattr(metric, "bounds", (-math.inf, math.inf))
    return math.isfinite(value) and bool(low <= value <= high)


class _Matched(NamedTuple):
    reference: Audio
    estimate: Audio
    note: str


def _delay_note(samples: int, rate: int, compensated: bool) -> str:
    relation = "lags" if samples > 0 else "leads"
    note = f"estimate {relation} by {abs(samples)} samples ({abs(samples) / rate * 1000:.2f} ms) at {rate} Hz"
    return f"{note}: compensated" if compensated else note


def _length_note(difference: float) -> str:
    relation = "longer" if difference > 0 else "shorter"
    return f"estimate {abs(difference) * 1000:.1f} ms {relation} than the reference: cropped to the shorter"


def _clipping_note(role: str, signal: Audio) -> str:
    clipped = count_clipped(signal)
    return f"{role}: {clipped} samples at or beyond full scale" if clipped else ""


def _as_16_bits(signal: Audio) -> Audio:
    """What a 16-bit file gives back of a signal."""
    return (np.rint(signal * FULL_SCALE).clip(-FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE).astype(np.float32)
