"""The tests: every paired system by every metric, corrected together, each with what it says about the codec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from evalkit.gate.counterparts import Pair
from evalkit.gate.matching import datasets, shared_keys
from evalkit.gate.rows import Key, Rows
from evalkit.gate.settings import Gate
from evalkit.gate.verdict import Comparison, Outcome
from evalkit.stats.differences import compare_paired, holm_of
from evalkit.tables.summary import metric_format, metric_key, resampling_unit

# Differences below it are rounding: equal audio scored on two machines must not become significant.
ROUNDING = 1e-9
POWER = 0.8


def compare_scores(before: Rows, after: Rows, pairs: Sequence[Pair], gate: Gate) -> list[Comparison]:
    """One comparison a pair of systems and key that both have numbers by, in the order of the baseline."""
    several = len({key.protocol for pair in pairs for key in before.scores[pair.system]}) > 1
    speakers = {dataset: _speakers(before, after, pairs, dataset) for dataset in datasets(before, pairs)}
    found = []
    for pair in pairs:
        for key in shared_keys(before, after, pair):
            name = metric_key(key.metric, key.protocol if several else "")
            found.append(_compare(before, after, pair, key, name, speakers[key.dataset], gate))
    adjusted = holm_of({index: one.p for index, one in enumerate(found)})
    tested = sum(one.p is not None for one in found)
    return [one if one.p is None else _judge(one, adjusted[index], tested, gate) for index, one in enumerate(found)]


def _speakers(before: Rows, after: Rows, pairs: Sequence[Pair], dataset: str) -> dict[str, str] | None:
    """Utterance -> speaker where speakers are to be taken whole; None where utterances stand for themselves."""
    known = {**after.speakers.get(dataset, {}), **before.speakers.get(dataset, {})}
    ids = sorted(
        {u for p in pairs for u in before.utterances(p.system, dataset) & after.utterances(p.candidate, dataset)}
    )
    frame = pd.DataFrame({"speaker": [known.get(utterance) for utterance in ids]}, dtype=object)
    return known if resampling_unit(frame) == "speakers" else None


def _compare(
    before: Rows, after: Rows, pair: Pair, key: Key, name: str, speakers: Mapping[str, str] | None, gate: Gate
) -> Comparison:
    old, new = before.values(pair.system, key), after.values(pair.candidate, key)
    shared = old.keys() & new.keys()
    blank = Comparison(
        key.dataset, key.metric, key.protocol, name, pair.system, pair.candidate, "unavailable",
        gate.threshold(key.metric), n=len(shared), unit="utterances" if speakers is None else "speakers",
    )  # fmt: skip
    if not shared:
        return replace(blank, detail=_why_none(before, after, pair, key))
    blank = replace(blank, baseline_mean=_mean(old, shared), candidate_mean=_mean(new, shared))
    if len(shared) < gate.min_utterances:
        detail = f"{len(shared)} utterances scored in both runs, fewer than min_utterances ({gate.min_utterances})"
        return replace(blank, outcome="too few", detail=detail)
    for utterance in shared:
        if abs(new[utterance] - old[utterance]) <= ROUNDING * max(1.0, abs(old[utterance])):
            new[utterance] = old[utterance]
    compared = compare_paired(new, old, clusters=speakers, level=1 - gate.alpha)
    if compared.p is None:
        return replace(blank, outcome="too few", units=compared.units, detail="one speaker only: nothing to test")
    interval = compared.interval
    return replace(
        blank, outcome="equal" if all(new[u] == old[u] for u in shared) else "no difference", units=compared.units,
        difference=interval.mean, low=interval.low, high=interval.high, p=compared.p,
    )  # fmt: skip


def _mean(values: Mapping[str, float], names: Any) -> float:
    return math.fsum(values[name] for name in names) / len(names)


def _why_none(before: Rows, after: Rows, pair: Pair, key: Key) -> str:
    for side, rows, system in (("baseline", before, pair.system), ("candidate", after, pair.candidate)):
        scores = rows.scores[system][key].values()
        if not any(score.value is not None for score in scores):
            first = next(iter(scores))
            return f"{first.status} in the {side}: {first.detail}"
    return "no utterance was scored in both runs"


def _judge(one: Comparison, p_holm: float, num_tests: int, gate: Gate) -> Comparison:
    assert one.difference is not None
    assert one.low is not None
    assert one.high is not None
    # Significant as in the tables: the test, and an interval of the mean that excludes 0.
    significant = p_holm < gate.alpha and not one.low <= 0 <= one.high
    beyond = abs(one.difference) > one.threshold
    outcome: Outcome = one.outcome
    if significant and beyond:
        higher_is_better = metric_format(one.metric).higher_is_better
        if higher_is_better is None:
            outcome = "moved"
        else:
            outcome = "improvement" if (one.difference > 0) == higher_is_better else "regression"
    elif significant:
        outcome = "below threshold"
    elif beyond:
        outcome = "not significant"
    testable = num_tests * 2.0 ** (1 - one.units) < gate.alpha
    detectable = _detectable((one.high - one.low) / 2, one.units, num_tests, gate.alpha) if testable else None
    return replace(one, p_holm=p_holm, outcome=outcome, detectable=detectable, testable=testable)


def _detectable(half_width: float, units: int, num_tests: int, alpha: float) -> float | None:
    """The difference that a t test of this spread finds with probability `POWER` at the strictest level of Holm's.

    Wilcoxon's test finds it less often with few units: docs/gate.md has what was measured.
    """
    from scipy import special

    if half_width == 0:
        return None
    at = [float(special.stdtrit(units - 1, level)) for level in (1 - alpha / 2 / num_tests, POWER, 1 - alpha / 2)]
    return half_width * (at[0] + at[1]) / at[2]
