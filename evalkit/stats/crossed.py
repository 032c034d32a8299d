"""Intervals over training seeds and utterances at once, for any function of systems' mean scores.

A sweep trains every configuration with the same S seeds and scores every trained codec on the same utterances: seeds
are crossed with utterances, and those are nested in G clusters (speakers). The variance of an estimate is

    delete-one-seed jackknife + delete-one-cluster jackknife.

They have few degrees of freedom of their own, seeds - 1 and speakers - 1, so interval and p are of the sum of two t
variables, Behrens and Fisher's way (`evalkit.stats.behrens_fisher`).

Of a balanced mean with variance components s (seed), c (cluster) and e (seed x cluster) the two expect s/S + e/(SG) and
c/G + e/(SG): their sum counts the interaction twice, and so errs to the safe side. No bootstrap of crossed data is
exact (McCullagh, Bernoulli 2000); to vary rows and columns each on their own, and to pay for it so, is the idea of
Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007. Here it is done without random draws.

Clusters of unequal size: an estimate is a mean over utterances, so a replicate without a large speaker moves further,
and deviations are taken from the whole estimate (CV3 of MacKinnon, Nielsen and Webb, Journal of Applied Econometrics
2023). Of a mean this expects the variance for equal sizes, and else more, whether speakers or utterances vary.

Measured coverage and false marks: docs/statistics.md and `python -m benchmarks.crossed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evalkit.stats.behrens_fisher import half_width, two_sided_p

# A standard error below this share of the estimate is rounding: nothing varied.
ROUNDING = 1e-12


class Undefined(ValueError):
    """A statistic has no value for these means; the message is the reason, shown in `CrossedEstimate.note`."""


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one configuration, trained with several seeds, by one metric.

    Attributes:
        values: (seeds, utterances) float64, NaN where a score failed. A read-only copy is kept.
        seeds: label of each row, unlike each other; equal labels of two configurations are a pair.
        utterances: id of each column, unlike each other.
        clusters: of each column the speaker, or None (or NaN) where it is unknown: that utterance stands alone.

    Raises:
        ValueError: the shape does not fit the labels, a label is there twice, or a value is infinite.
    """

    values: NDArray[np.float64]
    seeds: Sequence[Hashable]
    utterances: Sequence[str]
    clusters: Sequence[Hashable | None]

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        for name in ("seeds", "utterances", "clusters"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        expected = (len(self.seeds), len(self.utterances))
        if values.shape != expected or len(self.clusters) != expected[1]:
            raise ValueError(
                f"values of shape {values.shape} and {len(self.clusters)} clusters do not fit "
                f"{expected[0]} seeds and {expected[1]} utterances"
            )
        if np.isinf(values).any():
            raise ValueError("a score is infinite: give NaN where a score failed")
        for kind, labels in (("seed", self.seeds), ("utterance", self.utterances)):
            if len(set(labels)) < len(labels):
                twice = next(label for label in labels if labels.count(label) > 1)
                raise ValueError(f"{kind} {twice!r} is there more than once")


@dataclass(frozen=True)
class CrossedEstimate:
    """An estimate with its interval over seeds and clusters.

    Attributes:
        value: the statistic of the systems' means over all seeds and utterances in use; None where it is undefined.
        low, high: ends of the interval; None where there is neither a second seed nor a second cluster, or where the
            statistic is undefined without one of them.
        p: two-sided, of the test that the true value is 0; also None where nothing varied and value is not 0.
        df: the smaller of the degrees of freedom of seeds and clusters; None where nothing varied.
        seed_share: share of the variance that is due to seeds, in [0, 1]; None where only one of the two was varied.
        means: of each system over what is in use, in the order given; empty where nothing is in use.
        n_seeds, n_clusters, n_utterances: in use: shared by all systems and scored in all.
        left_out_seeds, left_out_utterances: had by some system and not in use.
        note: why something is None, or over what alone the interval is; else empty.
        error: standard error, over seeds and clusters; None where nothing varied.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    df: float | None
    seed_share: float | None
    means: tuple[float, ...]
    n_seeds: int
    n_clusters: int
    n_utterances: int
    left_out_seeds: int
    left_out_utterances: int
    note: str
    error: float | None = None

    def mapped(self, function: Callable[[float], float]) -> CrossedEstimate:
        """The estimate on another scale: value, low and high through an increasing `function` that maps 0 to 0."""
        value, low, high = (None if x is None else function(x) for x in (self.value, self.low, self.high))
        return replace(self, value=value, low=low, high=high)


def crossed_estimate(
    statistic: Callable[[Sequence[float]], float | None], systems: Sequence[Scores], level: float = 0.95
) -> CrossedEstimate:
    """Estimate `statistic` of the systems' mean scores, with an interval over seeds and clusters.

    In use are the seeds that all systems share and in which each has at least one score, and of the utterances that all
    share those that are scored in all of these seeds by every system. All utterances in use weigh alike.

    Args:
        statistic: from the systems' means, in the order of `systems`, to a finite number. Where it has none it returns
            None or raises `Undefined` with the reason. Smooth: the jackknife fails for medians and the like.
        systems: at least one; what belongs to a seed alone, such as a rate, can be a system too (equal columns).
        level: nominal coverage, in (0, 1).

    Returns:
        The same to the last bit, in whatever order seeds and utterances come. Holm's correction of several p is
        `evalkit.stats.differences.holm`.

    Raises:
        ValueError: no systems, a level out of range, or an utterance that has other speakers in other systems.
    """
    if not systems:
        raise ValueError("no systems to estimate from")
    if not 0 < level < 1:
        raise ValueError(f"need 0 < level < 1, got {level}")
    used = _used(systems)
    seeds, utterances = used.values.shape[1:]
    blank = CrossedEstimate(
        value=None,
        low=None,
        high=None,
        p=None,
        df=None,
        seed_share=None,
        means=(),
        n_seeds=seeds,
        n_clusters=len(used.sizes),
        n_utterances=utterances,
        left_out_seeds=len({label for scores in systems for label in scores.seeds}) - seeds,
        left_out_utterances=len({label for scores in systems for label in scores.utterances}) - utterances,
        note="",
    )
    if seeds == 0:
        return replace(blank, note="no seed that all systems share and were scored with")
    if utterances == 0:
        return replace(blank, note="no utterance that all systems share and that was scored in all")
    sums = np.add.reduceat(used.values, np.cumsum(used.sizes) - used.sizes, axis=2)
    means = tuple(float(mean) for mean in sums.sum(axis=(1, 2)) / (seeds * utterances))
    value, reason = _evaluate(statistic, means)
    whole = replace(blank, value=value, means=means)
    if value is None:
        return replace(whole, note=f"undefined: {reason}")
    return _with_interval(statistic, whole, used, sums, level)


@dataclass(frozen=True)
class _Used:
    """What all systems share: values (systems, seeds, utterances), columns of a cluster side by side."""

    values: NDArray[np.float64]
    sizes: NDArray[np.int64]
    seeds: list[Hashable]
    clusters: list[str]


def _used(systems: Sequence[Scores]) -> _Used:
    """Seeds, utterances and clusters in use; in an order that rows' order and speakers' names have no part in."""
    speakers: dict[str, Hashable | None] = {}
    for scores in systems:
        for utterance, label in zip(scores.utterances, scores.clusters, strict=True):
            speaker = None if label is None or label != label else label  # NaN is how pandas stores None
            if speakers.setdefault(utterance, speaker) != speaker:
                raise ValueError(f"utterance {utterance!r} is of {speaker!r} and of {speakers[utterance]!r}")
    seeds = sorted(set(systems[0].seeds).intersection(*(scores.seeds for scores in systems)), key=str)
    shared = sorted(set(systems[0].utterances).intersection(*(scores.utterances for scores in systems)))
    values = np.stack([_picked(scores, seeds, shared) for scores in systems])
    scored = np.isfinite(values)
    # Seeds first: a training that failed as a whole would otherwise take every utterance with it.
    rows = np.flatnonzero(scored.any(axis=2).all(axis=0)).tolist()
    in_all = scored[:, rows].all(axis=(0, 1))
    groups: dict[tuple[str, Hashable], list[int]] = {}
    for column in np.flatnonzero(in_all).tolist() if rows else []:
        speaker = speakers[shared[column]]
        groups.setdefault(("alone", shared[column]) if speaker is None else ("cluster", speaker), []).append(column)
    columns = np.array([column for group in groups.values() for column in group], np.int64)
    return _Used(
        values[:, rows][:, :, columns],
        np.array([len(group) for group in groups.values()], np.int64),
        [seeds[row] for row in rows],
        [f"{'utterance' if kind == 'alone' else 'speaker'} {name!r}" for kind, name in groups],
    )


def _picked(scores: Scores, seeds: Sequence[Hashable], utterances: Sequence[str]) -> NDArray[np.float64]:
    rows = {label: row for row, label in enumerate(scores.seeds)}
    columns = {label: column for column, label in enumerate(scores.utterances)}
    picked = np.ix_([rows[label] for label in seeds], [columns[label] for label in utterances])
    return np.asarray(scores.values[picked])


def _evaluate(
    statistic: Callable[[Sequence[float]], float | None], means: Sequence[float]
) -> tuple[float | None, str | None]:
    """The statistic's value, or None and the reason."""
    try:
        value = statistic(means)
    except Undefined as error:
        return None, str(error)
    if value is None:
        return None, "the statistic has no value for these means"
    return (float(value), None) if math.isfinite(value) else (None, f"the statistic is {value}")


def _with_interval(
    statistic: Callable[[Sequence[float]], float | None],
    whole: CrossedEstimate,
    used: _Used,
    sums: NDArray[np.float64],
    level: float,
) -> CrossedEstimate:
    """`whole` with interval, p and note; sums (systems, seeds, clusters) are over the utterances of each cluster."""
    assert whole.value is not None
    seeds, clusters = sums.shape[1:]
    left = whole.n_utterances - used.sizes
    # Columns of means (systems, left out); 1 - eye adds up all others, with nothing subtracted.
    replicates: list[tuple[str, NDArray[np.float64]]] = []
    if seeds > 1:
        without = sums.sum(axis=2) @ (1 - np.eye(seeds)) / ((seeds - 1) * whole.n_utterances)
        replicates += zip((f"seed {seed!r}" for seed in used.seeds), without.T, strict=True)
    if clusters > 1:
        without = sums.sum(axis=1) @ (1 - np.eye(clusters)) / (seeds * left)
        replicates += zip(used.clusters, without.T, strict=True)
    if not replicates:
        return replace(whole, note="no interval: one seed and one cluster")
    outcomes = [(name, *_evaluate(statistic, means.tolist())) for name, means in replicates]
    missing = [f"without {name}: {reason}" for name, value, reason in outcomes if value is None]
    if missing:
        more = f" (and without {len(missing) - 1} others)" if len(missing) > 1 else ""
        return replace(whole, note=f"no interval: undefined {missing[0]}{more}")
    deviations = np.array([value for _, value, _ in outcomes], np.float64) - whole.value
    split = seeds if seeds > 1 else 0
    # Kish's number of clusters of equal size; at least 2, so that one huge speaker leaves one degree of freedom.
    effective = max(whole.n_utterances**2 / float(np.square(used.sizes).sum()), 2.0)
    parts = [(deviations[:split], seeds - 1.0), (deviations[split:], effective - 1)]
    varied = [((part.size - 1) / part.size * float(part @ part), df) for part, df in parts if part.size]
    note = (
        "" if len(varied) == 2 else f"over {'utterances only: one seed' if seeds == 1 else 'seeds only: one cluster'}"
    )
    variance = sum(part for part, _ in varied)
    error = math.sqrt(variance)
    if error <= ROUNDING * abs(whole.value):
        p = 1.0 if whole.value == 0 else None
        why = "" if p is not None else "no p: nothing varied"
        return replace(whole, low=whole.value, high=whole.value, p=p, note="; ".join(filter(None, (note, why))))
    half = half_width(varied, level)
    return replace(
        whole,
        low=whole.value - half,
        high=whole.value + half,
        p=float(two_sided_p(whole.value, varied)),
        error=error,
        df=min(freedom for _, freedom in varied),
        seed_share=varied[0][0] / variance if len(varied) == 2 else None,
        note=note,
    )
