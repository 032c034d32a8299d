"""Whether two runs may be compared: same protocol and versions, same data, same utterances, unmoved known answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evalkit.gate.counterparts import Pair, listed
from evalkit.gate.rows import Key, Rows, Score, mapping
from evalkit.gate.settings import Gate


def far(before: float, after: float, tolerance: float) -> bool:
    """Whether two numbers differ by more than `tolerance`, relative to the larger one above 1, absolute below."""
    return abs(after - before) > tolerance * max(1.0, abs(before), abs(after))


def shared_keys(before: Rows, after: Rows, pair: Pair) -> list[Key]:
    """What both systems of a pair have rows by, in the order of the baseline."""
    return [key for key in before.scores[pair.system] if key in after.scores[pair.candidate]]


def datasets(before: Rows, pairs: Sequence[Pair]) -> list[str]:
    """The data sets that the pairs' systems were scored on, in the order of the baseline."""
    return list(dict.fromkeys(key.dataset for pair in pairs for key in before.scores[pair.system]))


def check_protocols(before: Rows, after: Rows, pairs: Sequence[Pair]) -> Iterator[str]:
    """Reasons: other protocols, other settings of the same one, other versions of a metric."""
    ours, theirs = (
        {key.protocol for name in names for key in rows.scores[name]}
        for rows, names in ((before, [p.system for p in pairs]), (after, [p.candidate for p in pairs]))
    )
    if ours != theirs:
        yield f"other protocol: the baseline was scored under {listed(sorted(ours))}, the candidate under " + listed(
            sorted(theirs)
        )
        return
    keys = list(dict.fromkeys(key for pair in pairs for key in shared_keys(before, after, pair)))
    for metric in dict.fromkeys(key.metric for key in keys):
        of_metric = [key for key in keys if key.metric == metric]
        old, new = ({v for key in of_metric for v in rows.versions.get(key, ())} for rows in (before, after))
        if old and new and old != new:
            yield (
                f"other version of {metric}: {listed(sorted(old))} in the baseline, {listed(sorted(new))} in the "
                "candidate; score one of them again"
            )
    yield from _protocol_settings(before, after, {key.metric for key in keys})


def _protocol_settings(before: Rows, after: Rows, metrics: set[str]) -> Iterator[str]:
    old, new = (mapping(rows.run.description.get("protocol")) for rows in (before, after))
    for name in sorted(old.keys() & new.keys() - {"label", "versions", "rates"}):
        if old[name] != new[name]:
            yield f"other protocol: {name} is {old[name]} in the baseline and {new[name]} in the candidate"
    rates, others = (mapping(values.get("rates")) for values in (old, new))
    for name in sorted(rates.keys() & others.keys() & metrics):
        if rates[name] != others[name]:
            yield f"other protocol: {name} at {rates[name]} Hz in the baseline and {others[name]} Hz in the candidate"


def check_utterances(before: Rows, after: Rows, pairs: Sequence[Pair], gate: Gate) -> tuple[list[str], list[str]]:
    """Reasons and notes: utterances that only one run has, and too few of both."""
    reasons: list[str] = []
    notes: list[str] = []
    for dataset in datasets(before, pairs):
        told: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Pair]] = {}
        of_dataset = [pair for pair in pairs if before.utterances(pair.system, dataset)]
        for pair in of_dataset:
            ours, theirs = before.utterances(pair.system, dataset), after.utterances(pair.candidate, dataset)
            told.setdefault((tuple(sorted(ours - theirs)), tuple(sorted(theirs - ours))), []).append(pair)
            shared = len(ours & theirs)
            if shared < gate.min_utterances:
                few = f"{dataset}: {pair.label} has {shared} utterances in both runs, fewer than min_utterances"
                reasons.append(f"{few} ({gate.min_utterances})")
        for (missing, extra), concerned in told.items():
            alone = "" if len(concerned) == len(of_dataset) else f" of {listed([p.label for p in concerned])}"
            names = _renamed(before.references.get(dataset, {}), after.references.get(dataset, {}), missing, extra)
            lines = [
                f"{dataset}: {len(ids):,} utterance{'s' if len(ids) > 1 else ''}{alone} {what}: {listed(ids)}{names}"
                for ids, what in ((missing, "missing from the candidate"), (extra, "extra in the candidate"))
                if ids
            ]
            allowed = gate.intersect or len(missing) + len(extra) <= gate.allow_missing
            (notes if allowed else reasons).extend(lines)
    return reasons, notes


def _renamed(before: Mapping[str, str], after: Mapping[str, str], missing: Sequence[str], extra: Sequence[str]) -> str:
    """Which missing utterance is an extra one under another name, as a clause."""
    by_content = {after[name]: name for name in extra if name in after}
    same = [f"{name} is {by_content[before[name]]}" for name in missing if before.get(name) in by_content]
    return f" (the same audio under another name: {listed(same)})" if same else ""


def check_anchors(before: Rows, after: Rows, gate: Gate) -> tuple[list[str], list[str]]:
    """Reasons: known-answer systems that moved, which tells that the harness did. Notes: those in one run only."""
    reasons: list[str] = []
    notes: list[str] = []
    ours, theirs = before.of_kind(anchors=True), after.of_kind(anchors=True)
    if alone := [name for name in [*ours, *theirs] if (name in ours) != (name in theirs)]:
        notes.append(f"not checked, only one run has it: known-answer system {listed(alone)}")
    for name in ours:
        if name not in theirs:
            continue
        for key in shared_keys(before, after, Pair(name, name)):
            old, new = before.scores[name][key], after.scores[name][key]
            if "unavailable" in {score.status for scores in (old, new) for score in scores.values()}:
                continue  # told as a metric that one run lacks
            moved = [u for u in sorted(old.keys() & new.keys()) if _moved(old[u], new[u], gate.anchor_tolerance)]
            if moved:
                worst = max(moved, key=lambda u: _distance(old[u], new[u]))
                reasons.append(
                    f"{key.dataset}: {name} moved by {key.metric} on {len(moved):,} of {len(old):,} utterances, most "
                    f"{worst}: {_shown(old[worst])} -> {_shown(new[worst])}; a known answer, so the scoring itself "
                    "changed (anchor_tolerance)"
                )
    return reasons, notes


def _moved(old: Score, new: Score, tolerance: float) -> bool:
    if old.value is None or new.value is None:
        return old.status != new.status
    return far(old.value, new.value, tolerance)


def _distance(old: Score, new: Score) -> float:
    return float("inf") if old.value is None or new.value is None else abs(new.value - old.value)


def _shown(score: Score) -> str:
    return score.status if score.value is None else f"{score.value:.9g}"
