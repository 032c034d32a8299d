"""Whether two runs had the same audio under the same ids: by digests of the files, or else by the scores themselves."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from evalkit.gate.counterparts import MAX_NAMED, Pair, listed
from evalkit.gate.matching import datasets, shared_keys
from evalkit.gate.rows import Rows, Score, mapping
from evalkit.gate.swaps import Exchange, exchanged_scores, find_exchanges


def check_audio(before: Rows, after: Rows, pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """Reasons and notes: other reference audio, and utterances that changed places."""
    reasons, notes = [], []
    for dataset in datasets(before, pairs):
        ours, theirs = before.references.get(dataset, {}), after.references.get(dataset, {})
        found = find_exchanges(ours, theirs)
        reasons += _lines(dataset, found, "reference audio")
        if ids := found.changed:
            count = f"{len(ids):,} utterance{'s' if len(ids) > 1 else ''}"
            reasons.append(f"{dataset}: {count} with other reference audio under the same id: {listed(ids)}")
        if not ours or not theirs:
            problems, remarks = _without_digests(before, after, dataset, pairs)
            reasons += problems
            notes += remarks
        told = _named(found)
        for pair in pairs:
            for exchange, what in (
                (_by_files(before, after, pair, dataset), f"decoded audio of {pair.label}"),
                (_by_scores(before, after, pair, dataset), f"scores of {pair.label}"),
            ):
                new = _without(exchange, told)
                reasons += _lines(dataset, new, what)
                told = told | _named(new)
    return reasons, notes


def _named(found: Exchange) -> frozenset[str]:
    return frozenset(found.moved) | {name for pair in found.swapped for name in pair}


def _without(found: Exchange, told: Collection[str]) -> Exchange:
    """What is not told yet by a surer sign."""
    swapped = tuple(pair for pair in found.swapped if not (pair[0] in told and pair[1] in told))
    return Exchange(swapped, {name: other for name, other in found.moved.items() if name not in told}, ())


def _lines(dataset: str, found: Exchange, what: str) -> list[str]:
    lines = [f"{first} and {second} are swapped" for first, second in found.swapped]
    lines += [f"{name} is {other} of the baseline" for name, other in found.moved.items()]
    more = [f"and {len(lines) - MAX_NAMED:,} more"] if len(lines) > MAX_NAMED else []
    return [f"{dataset}: {line} ({what})" for line in lines[:MAX_NAMED] + more]


def _by_files(before: Rows, after: Rows, pair: Pair, dataset: str) -> Exchange:
    """Of decoded files, whose digests are their own; a codec's are those of its weights."""
    if not before.kind(pair.system) == after.kind(pair.candidate) == "folder":
        return Exchange((), {}, ())
    return find_exchanges(
        before.estimates.get((pair.system, dataset), {}), after.estimates.get((pair.candidate, dataset), {})
    )


def _by_scores(before: Rows, after: Rows, pair: Pair, dataset: str) -> Exchange:
    keys = [key for key in shared_keys(before, after, pair) if key.dataset == dataset]
    nothing = Score(None, "", "")

    def vectors(rows: Rows, system: str) -> dict[str, tuple[float | None, ...]]:
        scores = [rows.scores[system][key] for key in keys]
        return {
            name: tuple(of_key.get(name, nothing).value for of_key in scores)
            for name in rows.utterances(system, dataset)
        }

    return exchanged_scores(vectors(before, pair.system), vectors(after, pair.candidate))


def _without_digests(before: Rows, after: Rows, dataset: str, pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """Reasons and notes for runs of before digests were kept: run.json has one for all files together."""
    old, new = (mapping(rows.run.description.get("test")) for rows in (before, after))
    ours, theirs = old.get("files_sha256"), new.get("files_sha256")
    same_ids = all(before.utterances(p.system, dataset) == after.utterances(p.candidate, dataset) for p in pairs)
    if ours and theirs and same_ids and old.get("dataset") == new.get("dataset") == dataset:
        if ours == theirs:
            return [], []
        return [f"{dataset}: other reference audio (files_sha256 of run.json: {ours}, {theirs})"], []
    return [], [f"{dataset}: not verified that both had the same reference audio: digests of the files were not kept"]
