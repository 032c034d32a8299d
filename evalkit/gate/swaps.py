"""Utterances that changed places between two runs: told by the content of their files, or by their scores."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple


class Exchange(NamedTuple):
    """What became of utterances that both runs have.

    swapped: pairs of ids whose contents are exchanged.
    moved: id -> the other id whose content it has in the candidate, where that is no plain swap.
    changed: ids with a content that the baseline does not have at all.
    """

    swapped: tuple[tuple[str, str], ...]
    moved: dict[str, str]
    changed: tuple[str, ...]


def find_exchanges(before: Mapping[str, Hashable], after: Mapping[str, Hashable]) -> Exchange:
    """Compare the contents of utterances by id.

    Args:
        before: id -> content, such as a digest of its file, in the baseline.
        after: the same of the candidate; ids that only one side has are left out.
    """
    owners: dict[Hashable, list[str]] = {}
    for name in sorted(before):
        owners.setdefault(before[name], []).append(name)
    swapped: list[tuple[str, str]] = []
    moved: dict[str, str] = {}
    changed: list[str] = []
    for name in sorted(before.keys() & after.keys()):
        if after[name] == before[name]:
            continue
        others = owners.get(after[name], [])
        partner = next((other for other in others if after.get(other) == before[name]), None)
        if partner is not None:
            if name < partner:
                swapped.append((name, partner))
        elif others:
            moved[name] = others[0]
        else:
            changed.append(name)
    return Exchange(tuple(swapped), moved, tuple(changed))


def exchanged_scores(
    before: Mapping[str, tuple[float | None, ...]], after: Mapping[str, tuple[float | None, ...]]
) -> Exchange:
    """Utterances that have exactly the scores of another one, by all metrics; `changed` stays empty.

    Scores at the end of a scale are often equal, so the two must differ by at least two metrics (by the only one, where
    there is one).

    Args:
        before: id -> value by each metric, None where there is none, in the baseline.
        after: the same of the candidate.
    """

    def differ(first: str, second: str) -> bool:
        unequal = sum(a != b for a, b in zip(before[first], before[second], strict=True))
        return unequal >= min(2, len(before[first]))

    found = find_exchanges(before, after)
    swapped = tuple(pair for pair in found.swapped if differ(*pair))
    return Exchange(swapped, {name: other for name, other in found.moved.items() if differ(name, other)}, ())
