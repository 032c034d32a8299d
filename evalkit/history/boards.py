"""Leaderboards: for each data set and protocol the newest numbers of every system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from evalkit.history.publication import Publication
from evalkit.history.summaries import SYSTEM_NUMBERS
from evalkit.metrics import headline_metrics
from evalkit.tables import MetricFormat, metric_format
from evalkit.tables.cells import format_number

RATES = ("bits_per_frame", "kbps")
Row = Mapping[str, Any]  # of a summary, with `position`
# What codec papers report comes first.


class BoardCell(NamedTuple):
    """A printed number.

    text: rounded, or why there is none; `value` what it is sorted by, None where there is none.
    spread: "± " and half of the interval's width, or "".
    hint: the interval and the counts, or the reason.
    other_version: whether the metric's version is not the one of the board's newest row.
    """

    text: str
    value: float | None = None
    spread: str = ""
    hint: str = ""
    other_version: bool = False


@dataclass(frozen=True)
class BoardRow:
    """A system on a board; `position` is that of its publication, `n` the utterances it was scored on."""

    system: str
    kind: str
    position: int
    n: int
    other_utterances: bool
    cells: tuple[BoardCell, ...]


@dataclass(frozen=True)
class Board:
    """All systems scored on one data set under one protocol: codecs and folders from the newest on, then known answers.

    Attributes:
        columns: keys of `RATES` and of metrics.
    """

    dataset: str
    protocol: str
    columns: tuple[str, ...]
    rows: tuple[BoardRow, ...]

    @property
    def newest(self) -> int:
        """Position of its newest publication."""
        return max(row.position for row in self.rows)


def leaderboards(publications: Sequence[Publication], rows: Iterable[Row]) -> list[Board]:
    """The boards of a history, those with the most systems first, of equally many the newest.

    A system is one of a name: `rhombic` of two experiments need not be the same codec, so it has two rows. Known-answer
    systems are the same everywhere and have one. A row shows the newest publication with at least one number of the
    system, or the newest at all. Trials of sweeps are not ranked.

    Args:
        publications: oldest first.
        rows: of their summaries, with `position`.
    """
    found: dict[tuple[str, str], dict[tuple[str, str], dict[int, list[Row]]]] = {}
    for row in rows:
        publication = publications[row["position"]]
        if not publication.is_sweep:
            name = "" if row["kind"] == "anchor" else publication.name
            systems = found.setdefault((row["dataset"], row["protocol"]), {})
            systems.setdefault((name, row["system"]), {}).setdefault(row["position"], []).append(row)
    boards = [_board(*key, [_newest(runs) for runs in systems.values()]) for key, systems in found.items()]
    return sorted(boards, key=lambda board: (-len(board.rows), -board.newest, board.dataset, board.protocol))


def ordered_columns(rows: Iterable[Row]) -> list[str]:
    """The keys of all numbers of some rows of summaries: rates, metrics in the order of papers, use of codes and speed.

    Metrics without any score come after those with one.
    """
    scored: dict[str, bool] = {}
    for row in rows:
        scored[row["metric"]] = scored.get(row["metric"], False) or row["n_ok"] > 0
    place = {name: position for position, name in enumerate(headline_metrics())}
    metrics = [name for name in scored if name not in SYSTEM_NUMBERS]
    metrics.sort(key=lambda name: (not scored[name], place.get(name, len(place))))
    rates = [name for name in RATES if name in scored]
    return [*rates, *metrics, *(name for name in SYSTEM_NUMBERS if name in scored and name not in RATES)]


@cache
def number_format(key: str) -> MetricFormat:
    """Heading, direction and decimals of a metric or of one of `SYSTEM_NUMBERS`."""
    if key in SYSTEM_NUMBERS:
        column = SYSTEM_NUMBERS[key]
        return MetricFormat(key, column.heading, "", {"↑": True, "↓": False}.get(column.better), column.decimals)
    return metric_format(key)


def number_cell(row: Row) -> BoardCell:
    """The cell of one row of a summary."""
    style = number_format(row["metric"])
    if row["metric"] in SYSTEM_NUMBERS:
        return BoardCell(format_number(row["mean"], style.decimals), row["mean"])
    num_ok, num_total = row["n_ok"], row["n_total"]
    if not num_ok:
        text = "unavailable" if row["n_unavailable"] == num_total else "failed"
        return BoardCell(text, hint=row["detail"])
    hint = f"n {num_ok:,}" if num_ok == num_total else f"n {num_ok:,} of {num_total:,}: {row['detail']}"
    spread = ""
    if row["low"] == row["low"]:
        spread = f"± {format_number((row['high'] - row['low']) / 2, style.decimals)}"
        ends = [format_number(row[end], style.decimals + 1) for end in ("low", "high")]
        hint = f"95 % interval {ends[0]} to {ends[1]}, {hint}"
    return BoardCell(format_number(row["mean"], style.decimals), row["mean"], spread, hint)


def _newest(runs: Mapping[int, list[Row]]) -> list[Row]:
    """Of a system's rows by position those of the newest with a number, or the newest if none has one."""
    scored = [position for position, rows in runs.items() if any(row["n_ok"] for row in rows)]
    return runs[max(scored or runs)]


def _board(dataset: str, protocol: str, systems: Sequence[list[Row]]) -> Board:
    """`systems`: the rows of each."""
    columns = ordered_columns(row for rows in systems for row in rows)
    columns = [key for key in columns if key in RATES or key not in SYSTEM_NUMBERS]
    versions: dict[str, str] = {}
    for rows in sorted(systems, key=lambda rows: int(rows[0]["position"])):  # of the newest: it comes last
        versions |= {row["metric"]: row["version"] for row in rows if row["n_ok"]}
    table = []
    for records in systems:
        cells = {record["metric"]: (number_cell(record), record["version"]) for record in records}
        shown = []
        for key in columns:
            cell, version = cells.get(key, (BoardCell("-"), ""))
            if cell.value is not None and version and version != versions.get(key):
                other = f"{cell.hint}; by another version of the metric: {version}"
                cell = cell._replace(other_version=True, hint=other)
            shown.append(cell)
        num = max(record["n_total"] for record in records)
        first = records[0]
        table.append((first, BoardRow(first["system"], first["kind"], first["position"], num, False, tuple(shown))))
    # Means over other utterances do not compare: the sets that are not the usual one are marked.
    usual = Counter(first["utterances"] for first, _ in table).most_common(1)[0][0]
    marked = [
        BoardRow(row.system, row.kind, row.position, row.n, first["utterances"] != usual, row.cells)
        for first, row in table
    ]
    return Board(
        dataset, protocol, tuple(columns), tuple(sorted(marked, key=lambda row: (row.kind == "anchor", -row.position)))
    )
