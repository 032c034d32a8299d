"""One system over all versions of its runs: points in time, where their line breaks, and what changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.history.boards import Row, ordered_columns
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
    row: Row
    change: Row | None
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
    publications: Sequence[Publication], rows: Iterable[Row], changes: Iterable[Row]
) -> list[SystemHistory]:
    """The history of every system of every name but those of sweeps, which are trials.

    Args:
        publications: oldest first.
        rows: of their summaries, with `position`.
        changes: of all of them, with `position`.
    """
    found = {(change["position"], *(change[key] for key in KEYS)): change for change in changes}
    grouped: dict[tuple[str, str], dict[tuple[str, str], list[Row]]] = {}
    for row in rows:
        publication = publications[row["position"]]
        if not publication.is_sweep:
            system = grouped.setdefault((publication.name, row["system"]), {})
            system.setdefault((row["dataset"], row["protocol"]), []).append(row)
    return [
        SystemHistory(
            name,
            system,
            next(iter(boards.values()))[-1]["kind"],
            tuple(_board(dataset, protocol, records, found) for (dataset, protocol), records in boards.items()),
        )
        for (name, system), boards in grouped.items()
    ]


def _board(dataset: str, protocol: str, rows: Sequence[Row], changes: Mapping[Any, Row]) -> SystemBoard:
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(row["metric"], []).append(row)
    timelines = []
    for metric in ordered_columns(rows):
        points: list[TimePoint] = []
        before: Row | None = None  # the last one with a number
        for row in by_metric[metric]:
            has_number = row["mean"] == row["mean"]
            broken = _broken(before, row) if before is not None and has_number else ""
            before = row if has_number else before
            change = changes.get((row["position"], dataset, protocol, row["system"], metric))
            points.append(TimePoint(row["position"], row, change, broken))
        timelines.append(Timeline(metric, tuple(points)))
    return SystemBoard(dataset, protocol, tuple(sorted({row["position"] for row in rows})), tuple(timelines))


def _broken(before: Row, now: Row) -> str:
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
