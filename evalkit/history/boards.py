"""Leaderboards: for each data set and protocol the newest numbers of every system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import pandas as pd

from evalkit.history.publication import Publication
from evalkit.history.summaries import SYSTEM_NUMBERS
from evalkit.tables import MetricFormat, metric_format
from evalkit.tables.cells import format_number

RATES = ("bits_per_frame", "kbps")
# What codec papers report comes first.
FIRST_METRICS = ("utmos", "pesq", "stoi", "vuv_f1")


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


def leaderboards(publications: Sequence[Publication], rows: pd.DataFrame) -> list[Board]:
    """The boards of a history, those with the newest numbers first.

    A system is one of a name: `rhombic` of two experiments need not be the same codec, so it has two rows. Known-answer
    systems are the same everywhere and have one. A row shows the newest publication with at least one number of the
    system, or the newest at all. Trials of sweeps are not ranked.

    Args:
        publications: oldest first.
        rows: of their summaries, with `position`.
    """
    kept = rows[~rows["position"].map([publication.is_sweep for publication in publications].__getitem__)]
    name = kept["position"].map([publication.name for publication in publications].__getitem__)
    kept = kept.assign(name=name.where(kept["kind"] != "anchor", ""))
    boards = []
    for (dataset, protocol), of_board in kept.groupby(["dataset", "protocol"], sort=False):
        newest = _newest(of_board)
        boards.append(_board(str(dataset), str(protocol), newest))
    return sorted(boards, key=lambda board: (-board.newest, board.dataset, board.protocol))


def ordered_metrics(metrics: Iterable[str]) -> list[str]:
    """Metrics in the order in which papers report them, then as they come."""
    place = {name: position for position, name in enumerate(FIRST_METRICS)}
    return sorted(dict.fromkeys(metrics), key=lambda name: place.get(name, len(place)))


@cache
def number_format(key: str) -> MetricFormat:
    """Heading, direction and decimals of a metric or of one of `SYSTEM_NUMBERS`."""
    if key in SYSTEM_NUMBERS:
        column = SYSTEM_NUMBERS[key]
        return MetricFormat(key, column.heading, "", {"↑": True, "↓": False}.get(column.better), column.decimals)
    return metric_format(key)


def number_cell(row: Mapping[Any, Any]) -> BoardCell:
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


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each system the rows of its newest publication with a number, if there is any with one."""
    keys = ["name", "system"]
    scored = rows[rows["n_ok"] > 0].groupby(keys, sort=False)["position"].max()
    newest = rows.groupby(keys, sort=False)["position"].max()
    chosen = scored.reindex(newest.index).fillna(newest).astype(int).rename("chosen")
    joined = rows.join(chosen, on=keys)
    return joined[joined["position"] == joined["chosen"]]


def _board(dataset: str, protocol: str, rows: pd.DataFrame) -> Board:
    scored = rows[~rows["metric"].isin(SYSTEM_NUMBERS)]
    present = set(rows["metric"])
    columns = [*(key for key in RATES if key in present), *ordered_metrics(scored["metric"])]
    latest = scored[scored["n_ok"] > 0].sort_values("position", kind="stable")
    versions = dict(zip(latest["metric"], latest["version"], strict=True))  # of the newest: it comes last
    by_system: dict[tuple[str, str], list[dict[Any, Any]]] = {}
    for record in rows.to_dict("records"):
        by_system.setdefault((record["name"], record["system"]), []).append(record)
    table = []
    for (_, system), records in by_system.items():
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
        table.append((first, BoardRow(system, first["kind"], first["position"], num, False, tuple(shown))))
    # Means over other utterances do not compare: the sets that are not the usual one are marked.
    usual = Counter(first["utterances"] for first, _ in table).most_common(1)[0][0]
    marked = [
        BoardRow(row.system, row.kind, row.position, row.n, first["utterances"] != usual, row.cells)
        for first, row in table
    ]
    return Board(
        dataset, protocol, tuple(columns), tuple(sorted(marked, key=lambda row: (row.kind == "anchor", -row.position)))
    )
