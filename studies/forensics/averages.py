"""How the published scoring script averages: failures as numbers, scores dropped, runs appended to one file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics import Unscorable, load_metric
from evalkit.metrics.pitch import VuvF1, voiced
from evalkit.stats.bootstrap import bootstrap_mean
from studies.forensics.trap import Figure, Trap

SEED = 0
RATE = 16_000
# Means of the published table, LibriSpeech test-clean: Q2D2 at 3.3 kbit/s, and how far BigCodec is below it.
PUBLISHED_PESQ = 3.36
PUBLISHED_GAP = 0.09
# What the documentation of the pesq package says an error returns.
DOCUMENTED_ERROR = -1.0


def published_pesq(reference: NDArray[np.float32], estimate: NDArray[np.float32]) -> float:
    """PESQ of signals (samples,) at 16 kHz as the published script calls it: an error is a value (on_error=1)."""
    from pesq import PesqError, pesq

    with np.errstate(all="ignore"):  # silent signals are divided by their peak
        return float(pesq(RATE, reference, estimate, "wb", on_error=PesqError.RETURN_VALUES))


def change_of_mean(mean: float, share: float, value: float) -> float:
    """Change of a `mean` when a `share` of the utterances, 0 to 1, gets `value` instead."""
    return share * (value - mean)


def pesq_errors() -> Trap:
    """What the script gets for pairs that have no PESQ, and what 1 % of such pairs does to a mean."""
    rng = np.random.default_rng(SEED)
    noise = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
    silence = np.zeros_like(noise)
    burst = np.where(np.arange(RATE) // 1600 == 4, noise, silence)  # 0.1 s: too short to count as speech
    cases = {
        "no_speech": (burst, noise, "no speech in the reference"),
        "too_short": (noise[:3200], noise[:3200], "a clip of 0.2 s"),
        "silent": (noise, silence, "a silent estimate"),
    }
    values = {key: published_pesq(reference, estimate) for key, (reference, estimate, _) in cases.items()}
    figures = {key: Figure(values[key], "", f"value for {cases[key][2]}") for key in cases}
    figures["refused"] = Figure(
        sum(_refused(reference, estimate) for reference, estimate, _ in cases.values()), "of 3", "refused here"
    )
    lost = values["no_speech"]
    for key, value in (("shift_measured", lost), ("shift_documented", DOCUMENTED_ERROR)):
        what = f"change of a mean of {PUBLISHED_PESQ} where 1 % of the pairs give {value:g}"
        figures[key] = Figure(change_of_mean(PUBLISHED_PESQ, 0.01, value), "MOS", what)
    hides = PUBLISHED_GAP / (PUBLISHED_PESQ - lost)
    figures["hides_gap"] = Figure(
        100 * hides, "%", f"of failures that hide a gap of {PUBLISHED_GAP} (Q2D2 3.3k, BigCodec)"
    )
    return Trap(
        "scores.pesq_errors",
        "PESQ is called so that an error is returned as a value, and the value enters the mean.",
        "a failed row with its reason; the mean is over the others and says how many of how many",
        figures,
        3,
        "synthetic pairs without a score",
    )


def published_f1(hits: int, found: int, expected: int) -> float:
    """F1 of voiced frames as in the script: NaN unless a frame is voiced in both, as 0 / 0 comes up on the way."""
    if hits == 0:
        return math.nan
    precision, recall = hits / found, hits / expected
    return 2 * precision * recall / (precision + recall)


def mean_of_numbers(values: Sequence[float]) -> float:
    """Mean of those that are not NaN."""
    return float(np.nanmean(values))


def dropped_f1() -> Trap:
    """Mean V/UV F1 where 1 % of the estimates have no voiced frame, such as whispers or noise."""
    utterances, lost, frames = 1000, 10, 200
    rng = np.random.default_rng(SEED)
    metric = VuvF1()
    published, ours = [], []
    for utterance in range(utterances):
        reference = rng.random(frames).astype(np.float32)
        flips = rng.random(frames) < 0.05
        estimate = np.where(flips, 0.42 - reference, reference).astype(np.float32)  # the other side of the threshold
        if utterance < lost:
            estimate = np.zeros_like(estimate)
        expected, found = (voiced({"periodicity": track}) for track in (reference, estimate))
        hits = int(np.count_nonzero(expected & found))
        published.append(published_f1(hits, int(found.sum()), int(expected.sum())))
        ours.append(metric.compare({"periodicity": reference}, {"periodicity": estimate}))
    mean, counted = mean_of_numbers(published), bootstrap_mean(ours, resamples=100).mean
    assert counted is not None
    return Trap(
        "scores.dropped_f1",
        "A V/UV F1 that is NaN is dropped, with a denominator of its own: all estimates without a voiced hit.",
        "such an estimate scores 0; only a reference without voiced frames has no score, and is counted as failed",
        {
            "dropped": Figure(sum(math.isnan(value) for value in published), "utterances", "dropped by the script"),
            "published": Figure(mean, "", "mean F1, published"),
            "counted": Figure(counted, "", "mean F1 over all"),
            "shift": Figure(mean - counted, "", "too high by"),
        },
        utterances,
        "simulated pitch tracks, 10 without a voiced frame",
    )


def appended_runs() -> Trap:
    """The file of results after two runs of 50 utterances, and what the order of files does to a mean."""
    rng = np.random.default_rng(SEED)
    runs = [rng.normal(mean, 0.4, 50) for mean in (2.3, 3.7)]
    rows = np.concatenate([np.append(run, run.mean()) for run in runs])
    shuffled = [float(np.add.accumulate(rng.permutation(runs[0]))[-1]) / 50 for _ in range(1000)]
    return Trap(
        "scores.appended_runs",
        "Files are taken in the order the directory lists them; a second run appends to the same table.",
        "utterances have an order, rows carry system and protocol, the same run again changes nothing",
        {
            "rows": Figure(len(rows), "rows", "after two runs of 50 utterances"),
            "averages": Figure(len(runs), "rows", "of them are averages"),
            "gap": Figure(
                float(runs[1].mean() - runs[0].mean()), "MOS", "mean of the second run less that of the first"
            ),
            "mixed": Figure(float(rows.mean() - runs[0].mean()), "MOS", "mean of the column less that of the first"),
            "order": Figure(float(np.ptp(shuffled)), "MOS", "range of the mean over 1000 orders of the files"),
        },
        2 * 50,
        "simulated scores around 2.3 and 3.7",
    )


def _refused(reference: NDArray[np.float32], estimate: NDArray[np.float32]) -> bool:
    try:
        load_metric("pesq").score(reference, estimate, RATE)
    except Unscorable:
        return True
    return False
