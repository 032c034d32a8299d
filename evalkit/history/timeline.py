"""One system over all versions of its runs: points in time, where their line breaks, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalkit.history.boards import ordered_metrics
from evalkit.history.changes import KEYS, same_audio
from evalkit.history.publication import Publication
from evalkit.history.summaries import SYSTEM_NUMBERS


@dataclass(frozen=True)
class TimePoint:
    """A mean at one time.

    Attributes:
        position: of its publication.
        row: of the summary.
        change: what was found against its predecessor (a row with the columns of `CHANGES`), or None.
        broken: why it cannot be compared with the point before it; "" where it can, or where it is the first.
    """

    position: int
    row: Mapping[str, Any]
    change: Mapping[str, Any] | None
    broken: str


@dataclass(frozen=True)
class Timeline:
    """Points of one metric of one system on one data set under one protocol, oldest first."""

    metric: str
    points: tuple[TimePoint, ...]

    def segments(self) -> Iterator[list[TimePoint]]:
        """Runs of points with numbers that can be compared with one another."""
        part: list[TimePoint] = []
        for point in self.points:
            if point.row["mean"] != point.row["mean"]:
                continue
            if point.broken and part:
                yield part
                part = []
            part.append(point)
        if part:
            yield part


@dataclass(frozen=True)
class SystemBoard:
    """The timelines of a system on one data set under one protocol; `positions` are those of all its publications."""

    dataset: str
    protocol: str
    positions: tuple[int, ...]
    timelines: tuple[Timeline, ...]


@dataclass(frozen=True)
class SystemHistory:
    """All that is known of one system of one name."""

    name: str
    system: str
    kind: str
    boards: tuple[SystemBoard, ...]

    @property
    def newest(self) -> int:
        return max(board.positions[-1] for board in self.boards)


def system_histories(
    publications: Sequence[Publication], rows: pd.DataFrame, changes: pd.DataFrame
) -> list[SystemHistory]:
    """The history of every system of every name but those of sweeps, which are trials.

    Args:
        publications: oldest first.
        rows: of their summaries, with `position`.
        changes: of all of them, with `position`.
    """
    names = [publication.name for publication in publications]
    sweeps = [publication.is_sweep for publication in publications]
    kept = rows[~rows["position"].map(sweeps.__getitem__)]
    found = {
        (record["position"], *(record[key] for key in KEYS)): record
        for record in changes.to_dict("records")
    }  # fmt: skip
    grouped: dict[tuple[str, str], dict[tuple[str, str], list[dict[Any, Any]]]] = {}
    for record in kept.to_dict("records"):
        system = grouped.setdefault((names[record["position"]], record["system"]), {})
        system.setdefault((record["dataset"], record["protocol"]), []).append(record)
    return [
        SystemHistory(
            name,
            system,
            next(iter(boards.values()))[-1]["kind"],
            tuple(_board(dataset, protocol, records, found) for (dataset, protocol), records in boards.items()),
        )
        for (name, system), boards in grouped.items()
    ]


def _board(
    dataset: str, protocol: str, records: Sequence[dict[Any, Any]], changes: Mapping[Any, dict[Any, Any]]
) -> SystemBoard:
    by_metric: dict[str, list[dict[Any, Any]]] = {}
    for record in records:
        by_metric.setdefault(record["metric"], []).append(record)
    scores = ordered_metrics(metric for metric in by_metric if metric not in SYSTEM_NUMBERS)
    others = [metric for metric in SYSTEM_NUMBERS if metric in by_metric]
    timelines = []
    for metric in [*scores, *others]:
        points: list[TimePoint] = []
        before: dict[Any, Any] | None = None  # the last one with a number
        for row in by_metric[metric]:
            has_number = row["mean"] == row["mean"]
            broken = _broken(before, row) if before is not None and has_number else ""
            before = row if has_number else before
            change = changes.get((row["position"], dataset, protocol, row["system"], metric))
            points.append(TimePoint(row["position"], row, change, broken))
        timelines.append(Timeline(metric, tuple(points)))
    return SystemBoard(dataset, protocol, tuple(sorted({record["position"] for record in records})), tuple(timelines))


def _broken(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Why two points of a timeline do not compare."""
    if now["metric"] in SYSTEM_NUMBERS:
        return ""
    if before["version"] != now["version"]:
        return f"metric version {before['version']} → {now['version']}"
    if before["utterances"] != now["utterances"]:
        counts = f": {before['n_total']:,} → {now['n_total']:,}" if before["n_total"] != now["n_total"] else ""
        return f"other utterances{counts}"
    if not same_audio(before["references"], now["references"]):
        return "other audio behind the same utterances"
    return ""
