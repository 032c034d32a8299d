"""The utterances on which systems are worst and best, by each metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from evalkit.tables.summary import metric_format

Key = tuple[str, str]  # data set, utterance
# Called while systems make audio again: how many are done, of how many.
Progress = Callable[[int, int], None]


def ignored(done: int, total: int) -> None:
    """Progress that nobody looks at."""


class Extreme(NamedTuple):
    """The score that is worst or best of a system's, and whose it is."""

    system: str
    key: Key
    value: float


class Extremes(NamedTuple):
    """Of one metric and one system, or any: its worst and its best score."""

    metric: str
    worst: Extreme
    best: Extreme


def find_extremes(rows: pd.DataFrame) -> dict[str | None, list[Extremes]]:
    """System -> worst and best utterance by each metric, by the score itself; None stands for any system.

    Of equal scores the first counts. Known-answer systems, scores that failed, and metrics without a better direction
    are left out.

    Args:
        rows: system, kind, dataset, utterance, key, value, status.
    """
    usable = rows[(rows["status"] == "ok") & (rows["kind"] != "anchor") & np.isfinite(rows["value"])]
    found: dict[str | None, list[Extremes]] = {None: []}
    for metric, scores in usable.groupby("key", sort=False):
        higher = metric_format(str(metric)).higher_is_better
        if higher is None:
            continue
        scores = scores.assign(quality=scores["value"] if higher else -scores["value"]).reset_index(drop=True)
        whole: list[tuple[str | None, pd.DataFrame]] = [(None, scores)]
        for system, own in [*whole, *scores.groupby("system", sort=False)]:
            worst, best = own["quality"].idxmin(), own["quality"].idxmax()
            found.setdefault(system, []).append(Extremes(str(metric), _extreme(own, worst), _extreme(own, best)))
    return found


def _extreme(scores: pd.DataFrame, place: Any) -> Extreme:
    row = scores.loc[place]
    return Extreme(str(row["system"]), (str(row["dataset"]), str(row["utterance"])), float(row["value"]))


def in_turn(kept: Sequence[Key], extremes: Mapping[str | None, Sequence[Extremes]], choose: int) -> list[Key]:
    """Candidates for the page, best first: half of `choose` those that were kept; worst and best of any system by each
    metric in turn; the rest of those kept; worst and best of each system."""
    of_any = [end.key for each in extremes.get(None, ()) for end in (each.worst, each.best)]
    of_each = [end.key for of_system in extremes.values() for each in of_system for end in (each.worst, each.best)]
    return list(dict.fromkeys([*kept[: (choose + 1) // 2], *of_any, *kept, *of_each]))
