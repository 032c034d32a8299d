"""Scores that one run has and the other does not: metrics that could not run, systems that could not, new failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.gate.counterparts import Pair, listed
from evalkit.gate.rows import Rows, Score
from evalkit.gate.settings import Gate
from evalkit.gate.verdict import Finding

MAX_DETAIL = 160


def check_availability(before: Rows, after: Rows, pairs: Sequence[Pair], gate: Gate) -> tuple[list[str], list[str]]:
    """Reasons: a system could not run, or a required metric. Notes: any other metric without scores in one run."""
    reasons, notes = [], []
    for pair in pairs:
        ours, theirs = _all_scores(before, pair.system), _all_scores(after, pair.candidate)
        if _state(ours) != "ok":
            notes.append(f"nothing to compare {pair.label} with in the baseline: {_why(ours)}")
        elif _state(theirs) == "unavailable":
            why = f"{pair.label} could not run in the candidate: {_why(theirs)}"
            reasons.append(f"{why}; leave it out by naming the others: --system NAME")
    if reasons:
        return reasons, notes
    told: dict[tuple[str, str, str], list[Pair]] = {}
    metrics = [*gate.require, *(gate.metrics or [])]
    metrics += [key.metric for p in pairs for key in (*before.scores[p.system], *after.scores[p.candidate])]
    for metric in dict.fromkeys(metrics):
        for pair in pairs:
            ours, theirs = _by_metric(before, pair.system, metric), _by_metric(after, pair.candidate, metric)
            states = _state(ours), _state(theirs)
            if states == ("ok", "ok") or states == ("ok", "failed"):  # the latter are new failures
                continue
            told.setdefault((metric, _why(ours), _why(theirs)), []).append(pair)
    for (metric, old, new), concerned in told.items():
        of = "" if len(concerned) == len(pairs) else f" of {listed([pair.label for pair in concerned])}"
        sides = f"{old} in both runs" if old == new else f"{old} in the baseline, {new} in the candidate"
        line = f"{metric}{of} is not compared: {sides}"
        (reasons if metric in gate.require else notes).append(
            line + ("; it is required" if metric in gate.require else "")
        )
    return reasons, notes


def failure_findings(before: Rows, after: Rows, pairs: Sequence[Pair], gate: Gate) -> list[Finding]:
    """Scores that the baseline has and that failed in the candidate, one finding a system and metric.

    Regressions where there are more than `max_new_failures` of them in all, else warnings.
    """
    lost = []
    for pair in pairs:
        for key, old in before.scores[pair.system].items():
            new = after.scores[pair.candidate].get(key, {})
            if _state([new]) == "unavailable":
                continue
            gone = [u for u in sorted(old.keys() & new.keys()) if old[u].value is not None and new[u].value is None]
            if gone:
                lost.append((pair, key, old, gone, _short(new[gone[0]].detail)))
    total = sum(len(gone) for *_, gone, _ in lost)
    beyond = total > gate.max_new_failures
    return [
        Finding(
            "failures", "regression" if beyond else "warning", pair.system, key.metric, key.dataset,
            f"{len(gone):,} of the baseline's {len(old):,} scores failed: {listed(gone)} ({reason})",
        )
        for pair, key, old, gone, reason in lost
    ]  # fmt: skip


def _all_scores(rows: Rows, system: str) -> list[Mapping[str, Score]]:
    return list(rows.scores[system].values())


def _by_metric(rows: Rows, system: str, metric: str) -> list[Mapping[str, Score]]:
    return [scores for key, scores in rows.scores[system].items() if key.metric == metric]


def _state(scores: Sequence[Mapping[str, Score]]) -> str:
    """ "ok" where there is a number, else "failed", "unavailable" or "not scored"."""
    statuses = {score.status for own in scores for score in own.values()}
    return next((status for status in ("ok", "failed", "unavailable") if status in statuses), "not scored")


def _why(scores: Sequence[Mapping[str, Score]]) -> str:
    state = _state(scores)
    detail = next((score.detail for own in scores for score in own.values() if score.detail), "")
    return state if state in ("ok", "not scored") or not detail else f"{state} ({_short(detail)})"


def _short(text: str) -> str:
    return text if len(text) <= MAX_DETAIL else f"{text[:MAX_DETAIL].rstrip()}..."
