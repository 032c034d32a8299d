"""Metrics of one pair of signals: the interface and the table of known ones.

A metric is one module with one class and one line in `METRICS` (or an entry point of another package). Importing this
module stays cheap: torch and the metric libraries load when something is scored.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.signals import Unavailable, Unscorable
from q2d2.registry import Registry

__all__ = [
    "METRICS",
    "Analysis",
    "Features",
    "Metric",
    "Unavailable",
    "Unscorable",
    "headline_metrics",
    "load_metric",
    "packages",
    "thresholds",
    "version_on",
]

METRICS = Registry(
    "metric",
    group="evalkit.metrics",
    entries={
        "utmos": "evalkit.metrics.utmos:Utmos",
        "pesq": "evalkit.metrics.pesq:Pesq",
        "stoi": "evalkit.metrics.stoi:Stoi",
        "estoi": "evalkit.metrics.stoi:Estoi",
        "vuv_f1": "evalkit.metrics.pitch:VuvF1",
        "periodicity_rmse": "evalkit.metrics.pitch:PeriodicityRmse",
        "pitch_rmse": "evalkit.metrics.pitch:PitchRmse",
        "dnsmos_p808": "evalkit.metrics.dnsmos:DnsmosP808",
        "dnsmos_ovrl": "evalkit.metrics.dnsmos:DnsmosOvrl",
        "distillmos": "evalkit.metrics.distillmos:DistillMos",
        "mel_distance": "evalkit.metrics.mel_distance:MelDistance",
        "stft_distance": "evalkit.metrics.stft_distance:StftDistance",
        "si_sdr": "evalkit.metrics.si_sdr:SiSdr",
        "si_sdr_aligned": "evalkit.metrics.si_sdr:SiSdrAligned",
    },
)

Features = Mapping[str, NDArray[Any]]


class Metric(Protocol):
    """One number for one pair of signals. Built without arguments; all attributes but `version` are the class's.

    Building one is cheap: the constructor works out `version`, and raises `Unavailable` or ImportError where a library
    or weights are missing; networks load at the first score. A metric that runs a network may have a method
    `to(device: str)`, called before the first score.

    A metric that looks at each signal by itself (a pitch track) has an attribute `analysis` and a method
    `compare(reference: Features, estimate: Features) -> float` instead of `score`: analyses are shared by all metrics
    that have the same one, and kept between runs. Where `needs_reference` is False, `compare` gets an empty reference.

    Attributes:
        name: the id used in rows, files and on the command line ("pesq").
        label: heading in tables and plots ("PESQ").
        unit: unit of the value; empty for a pure number.
        higher_is_better: direction in which quality rises.
        needs_reference: False for predictors that look at the estimate alone.
        sample_rate: rate in Hz both signals are brought to before `score`; None: the estimate's own rate.
        version: changes whenever equal signals may score differently (library, its version, mode, weights).
        decimals: digits after the point in tables.

    Attributes that a class may have, too:
        caveat: a sentence that is printed under every table with the metric.
        bounds: (lowest, highest) that the definition allows; a value beyond them is a failed score.
        threshold: the smallest difference of means that `evalkit compare` counts, in the metric's unit; otherwise 0.
        headline: True for what papers on codecs report: first in figures and on the site, in the order of METRICS.
        packages: distributions whose versions its numbers depend on, noted in run.json.
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


class Analysis(Protocol):
    """What metrics take from a single signal: a function from its samples to arrays.

    Attributes:
        name: identifies it, together with `version` and the metric's sample rate.
        version: changes whenever equal signals may give other arrays.
    """

    name: str
    version: str

    def span(self, samples: int) -> int:
        """How many of `samples` samples, counted from the start, are looked at: the rest cannot change the result."""
        ...

    def __call__(self, signal: NDArray[np.float32], sample_rate: int) -> Features:
        """Analyse (samples,) float at `sample_rate` Hz.

        Raises:
            Unscorable: this signal cannot be analysed; the message says why.
        """
        ...


def thresholds() -> dict[str, float]:
    """Metric -> its `threshold`, of all registered ones that can be imported."""
    return {name: float(getattr(metric, "threshold", 0.0)) for name, metric in _classes()}


@functools.cache
def headline_metrics() -> tuple[str, ...]:
    """Those that papers on codecs report, in the order of METRICS."""
    return tuple(name for name, metric in _classes() if getattr(metric, "headline", False))


def packages() -> set[str]:
    """Distributions that numbers of registered metrics depend on."""
    return {package for _, metric in _classes() for package in getattr(metric, "packages", ())}


def _classes() -> Iterator[tuple[str, type[Metric]]]:
    for name in METRICS.names():
        with suppress(ImportError):  # of a package that is missing here
            yield name, METRICS.resolve(name)


@functools.cache
def load_metric(name: str, device: str = "cpu") -> Metric:
    """The metric registered as `name`, built once per process, its network (if any) to run on `device`.

    Raises:
        UnknownName: no such metric.
        Unavailable, ImportError: its library or weights are missing.
    """
    metric: Metric = METRICS.resolve(name)()
    if hasattr(metric, "to"):
        metric.to(device)
    return metric


def version_on(metric: Metric, device: str) -> str:
    """The metric's version on `device`: a network on a GPU adds in another order, so its scores are others."""
    return f"{metric.version}, {device}" if hasattr(metric, "to") and device != "cpu" else metric.version
