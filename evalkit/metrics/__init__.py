"""Metrics of one pair of signals: the interface, the table of known ones, and how a pair is scored.

A metric is one module with one class and one line in `METRICS` (or an entry point of another package). Whatever goes
wrong while scoring becomes a `Score` with a status and a reason, never a number. Importing this module stays cheap:
torch and the metric libraries load when something is scored.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.signals import RESAMPLER, Resampler, Unavailable, Unscorable, check_signal
from q2d2.registry import Registry

__all__ = [
    "METRICS",
    "RESAMPLER",
    "Metric",
    "Resampler",
    "Score",
    "Unavailable",
    "Unscorable",
    "load_metric",
    "score_pair",
]

METRICS = Registry(
    "metric",
    group="evalkit.metrics",
    entries={"pesq": "evalkit.metrics.pesq:Pesq", "stoi": "evalkit.metrics.stoi:Stoi"},
)

# What metric code is known to raise (pesq's errors are RuntimeErrors): a failed row. Anything else is a defect of the
# program and surfaces.
METRIC_ERRORS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Metric(Protocol):
    """One number for one pair of signals. Built without arguments; all attributes but `version` are the class's.

    The constructor raises `Unavailable` or ImportError where a library or weights are missing.

    Attributes:
        name: the id used in rows, files and on the command line ("pesq").
        label: heading in tables and plots ("PESQ").
        unit: unit of the value; empty for a pure number.
        higher_is_better: direction in which quality rises.
        needs_reference: False for predictors that look at the estimate alone.
        sample_rate: rate in Hz both signals are brought to before `score`; None: the estimate's own rate.
        version: changes whenever equal signals may score differently (library, its version, mode).
        decimals: digits after the point in tables.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    needs_reference: bool
    sample_rate: int | None
    version: str
    decimals: int

    def score(self, reference: NDArray[np.float32], estimate: NDArray[np.float32], sample_rate: int) -> float:
        """Score `estimate` (samples,) against `reference` (samples,), both float in [-1, 1] at `sample_rate` Hz.

        The two have one length; where `needs_reference` is False, `reference` is empty.

        Raises:
            Unscorable: this pair has no score; the message says why.
        """
        ...


@dataclass(frozen=True)
class Score:
    """What one metric said about one pair.

    Attributes:
        metric: name of the metric.
        value: the score; None unless `status` is "ok".
        status: "ok"; "failed" (this pair cannot be scored); "unavailable" (the metric cannot run on this machine).
        detail: the reason of a status other than "ok"; for "ok" a note on what was cropped, or empty.
        seconds: wall time of the metric itself, without resampling, which metrics of one rate share.
    """

    metric: str
    value: float | None
    status: Literal["ok", "failed", "unavailable"]
    detail: str
    seconds: float


@functools.cache
def load_metric(name: str) -> Metric:
    """The metric registered as `name`, built once per process.

    Raises:
        UnknownName: no such metric.
        Unavailable, ImportError: its library or weights are missing.
    """
    metric: Metric = METRICS.resolve(name)()
    return metric


def score_pair(
    metrics: Sequence[str],
    reference: NDArray[np.float32],
    reference_rate: int,
    estimate: NDArray[np.float32],
    estimate_rate: int,
    *,
    resampler: Resampler = RESAMPLER,
) -> list[Score]:
    """Score `estimate` against `reference` by each of `metrics`, in their order.

    Both signals are mono (samples,) float, nominally within [-1, 1]. Each metric gets them at its own rate (resampled
    only where rates differ) and cropped to the shorter, counted from the start; no delay is compensated. A metric
    without reference gets the whole estimate.

    Raises:
        UnknownName: one of `metrics` is not registered (a misspelt request is not a failed row).
    """
    known = METRICS.names()
    for name in metrics:
        if name not in known:
            METRICS.resolve(name)  # raises, with suggestions
    pair = _Pair(reference, reference_rate, estimate, estimate_rate, resampler)
    return [_score(name, pair) for name in metrics]


def _score(name: str, pair: _Pair) -> Score:
    start = time.perf_counter()
    try:
        metric = load_metric(name)
        reference, estimate, rate, note = pair.prepared(metric)
        start = time.perf_counter()
        value = float(metric.score(reference, estimate, rate))
        if not math.isfinite(value):
            raise Unscorable(f"{name} gave {value}")
    except (Unavailable, ImportError) as error:
        return Score(name, None, "unavailable", str(error), time.perf_counter() - start)
    except Unscorable as error:
        return Score(name, None, "failed", str(error), time.perf_counter() - start)
    except METRIC_ERRORS as error:
        return Score(name, None, "failed", f"{type(error).__name__}: {error}", time.perf_counter() - start)
    return Score(name, value, "ok", note, time.perf_counter() - start)


@dataclass
class _Pair:
    """Reference and estimate as delivered, and resampled once for each rate asked for."""

    reference: NDArray[np.float32]
    reference_rate: int
    estimate: NDArray[np.float32]
    estimate_rate: int
    resampler: Resampler
    _resampled: dict[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)

    def prepared(self, metric: Metric) -> tuple[NDArray[np.float32], NDArray[np.float32], int, str]:
        """Reference and estimate for `metric`, their rate, and a note on cropping (empty if none)."""
        rate = metric.sample_rate or self.estimate_rate
        # Checked as delivered: resampling would smear one NaN over its neighbours and hide which side it came from.
        if metric.needs_reference:
            check_signal(self.reference, "reference")
        check_signal(self.estimate, "estimate")
        estimate = self._at(rate, "estimate", self.estimate, self.estimate_rate)
        if not metric.needs_reference:
            return np.empty(0, np.float32), estimate, rate, ""
        reference = self._at(rate, "reference", self.reference, self.reference_rate)
        length = min(reference.size, estimate.size)
        note = ""
        if abs(reference.size - estimate.size) > 1:  # one sample is what rounding in resampling leaves
            note = f"cropped to {length} samples: reference {reference.size}, estimate {estimate.size} at {rate} Hz"
        return reference[:length], estimate[:length], rate, note

    def _at(self, rate: int, role: str, signal: NDArray[np.float32], signal_rate: int) -> NDArray[np.float32]:
        if (role, rate) not in self._resampled:
            self._resampled[role, rate] = self.resampler(signal, signal_rate, rate)
        return self._resampled[role, rate]
