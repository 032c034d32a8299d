"""Scores that may not move at all: for systems and metrics that are deterministic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from evalkit.gate.counterparts import Pair
from evalkit.gate.matching import far, shared_keys
from evalkit.gate.rows import Key, Rows
from evalkit.gate.settings import ExactRule, Gate, GateError
from evalkit.gate.verdict import Finding
from q2d2.errors import did_you_mean


def check_exact_names(before: Rows, gate: Gate) -> None:
    """Refuse a rule on a system that the baseline does not have.

    Raises:
        GateError: with the closest name.
    """
    known = before.of_kind(anchors=False)
    for rule in gate.exact:
        for name in rule.systems or ():
            if name not in known:
                raise GateError(
                    f"gate: exact names the system {name!r}, which is not in the baseline.{did_you_mean(name, known)}"
                )


def check_exact(before: Rows, after: Rows, pairs: Sequence[Pair], gate: Gate) -> Iterator[str]:
    """Reasons: a rule that nothing was held against would pass unseen."""
    for rule in gate.exact:
        for pair in _concerned(rule, pairs):
            metrics = {key.metric for key in shared_keys(before, after, pair) if before.values(pair.system, key)}
            for metric in rule.metrics:
                if metric not in metrics:
                    yield f"exact names {metric}, which both runs do not have of {pair.label}"


def exact_findings(before: Rows, after: Rows, pairs: Sequence[Pair], gate: Gate) -> list[Finding]:
    """A regression a rule, system and metric with scores beyond the tolerances, in whatever direction."""
    return [
        finding
        for rule in gate.exact
        for pair in _concerned(rule, pairs)
        for key in shared_keys(before, after, pair)
        if key.metric in rule.metrics
        for finding in _findings(before, after, pair, key, rule)
    ]


def _concerned(rule: ExactRule, pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if rule.systems is None or pair.system in rule.systems]


def _findings(before: Rows, after: Rows, pair: Pair, key: Key, rule: ExactRule) -> list[Finding]:
    old, new = before.values(pair.system, key), after.values(pair.candidate, key)
    shared = sorted(old.keys() & new.keys())
    if not shared:
        return []
    texts = []
    if moved := [name for name in shared if far(old[name], new[name], rule.tolerance)]:
        worst = max(moved, key=lambda name: abs(new[name] - old[name]))
        texts.append(
            f"{len(moved):,} of {len(shared):,} utterances beyond the tolerance of {rule.tolerance:g}, most {worst}: "
            f"{old[worst]:.9g} -> {new[worst]:.9g}"
        )
    means = [math.fsum(side[name] for name in shared) / len(shared) for side in (old, new)]
    if rule.mean_tolerance is not None and far(means[0], means[1], rule.mean_tolerance):
        texts.append(f"mean beyond the tolerance of {rule.mean_tolerance:g}: {means[0]:.9g} -> {means[1]:.9g}")
    return [Finding("exact", "regression", pair.system, key.metric, key.dataset, text) for text in texts]
