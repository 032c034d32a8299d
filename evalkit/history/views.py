"""What the leaderboards and the pages of systems show: texts, cells and links, ready for the templates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from evalkit.history.boards import Board, BoardCell, number_cell, number_format
from evalkit.history.chart import change_text, mark_of, timeline_chart
from evalkit.history.content import Link, Site, date, headings
from evalkit.history.links import board_page, run_page, system_page
from evalkit.history.summaries import SYSTEM_NUMBERS
from evalkit.history.timeline import SystemBoard, SystemHistory, Timeline, TimePoint

# The index stays small whatever the store holds; a board's own pages have all of it.
INDEX_CELLS, LEAST_ROWS = 6000, 5
PAGE_ROWS = 400  # of a board's own pages
MAX_POINTS = 120  # of a timeline, the newest
MAX_NAMESAKES = 20


def board_pages(board: Board) -> int:
    """Over how many pages a leaderboard is spread."""
    return -(-len(board.rows) // PAGE_ROWS)


def board_page_view(site: Site, board: Board, number: int) -> dict[str, Any]:
    """One of the pages of a leaderboard, counted from 1, and links to all of them."""
    first = (number - 1) * PAGE_ROWS
    view = board_view(site, board, slice(first, first + PAGE_ROWS))
    all_pages = [
        Link(str(each), board_page(board.dataset, board.protocol, each)) for each in range(1, board_pages(board) + 1)
    ]
    return {"board": view, "first": first + 1, "number": number, "pages": all_pages}


def board_view(site: Site, board: Board, part: slice) -> dict[str, Any]:
    """A leaderboard, or part of its rows."""
    rows = []
    for row in board.rows[part]:
        publication = site.publications[row.position]
        rows.append(
            {
                "system": Link(row.system, system_page(publication.name, row.system)),
                "kind": row.kind,
                "run": Link(publication.name, run_page(publication)),
                "date": date(publication),
                "version": publication.values["commit"] or publication.values["version"],
                "n": row.n,
                "other_utterances": row.other_utterances,
                "cells": row.cells,
            }
        )
    shown = [cell for row in board.rows[part] for cell in row.cells]
    return {
        "dataset": board.dataset,
        "protocol": board.protocol,
        "page": board_page(board.dataset, board.protocol),
        "headings": headings(board.columns),
        "rows": rows,
        "total": len(board.rows),
        "other_utterances": any(row.other_utterances for row in board.rows[part]),
        "other_versions": any(cell.other_version for cell in shown),
    }


def index_view(site: Site) -> dict[str, Any]:
    """The leaderboards, each cut to its share of what a page may hold, and what there is to choose from."""
    shares = _shares([len(board.rows) * (6 + len(board.columns)) for board in site.boards], INDEX_CELLS)
    shown, others = [], []
    for board, share in zip(site.boards, shares, strict=True):
        limit = int(share // (6 + len(board.columns)))
        if limit >= min(LEAST_ROWS, len(board.rows)):
            shown.append(board_view(site, board, slice(limit)))
        else:
            others.append(Link(f"{board.dataset}, {board.protocol}", board_page(board.dataset, board.protocol)))
    metrics = dict.fromkeys(heading.key for view in shown for heading in view["headings"] if heading.is_metric)
    return {
        "boards": shown,
        "others": others,
        "datasets": list(dict.fromkeys(view["dataset"] for view in shown)),
        "protocols": list(dict.fromkeys(view["protocol"] for view in shown)),
        "metrics": [Link(number_format(key).label, key) for key in metrics],
        "num_runs": len(site.publications),
        "newest": date(site.publications[-1]) if site.publications else "",
    }


def system_view(site: Site, system: SystemHistory) -> dict[str, Any]:
    """A system of one name: its numbers over time."""
    namesakes = site.namesakes[system.system]
    others = [other for other in namesakes[: MAX_NAMESAKES + 1] if other.name != system.name][:MAX_NAMESAKES]
    return {
        "system": system.system,
        "name": system.name,
        "kind": system.kind,
        "same": [Link(other.name, system_page(other.name, other.system)) for other in others],
        "more": len(namesakes) - 1 - len(others),
        "boards": [_system_board(site, board) for board in system.boards],
    }


def _system_board(site: Site, board: SystemBoard) -> dict[str, Any]:
    positions = board.positions[-MAX_POINTS:]
    kept = set(positions)
    timelines = [
        Timeline(timeline.metric, tuple(point for point in timeline.points if point.position in kept))
        for timeline in board.timelines
    ]
    labels = [site.label(position) for position in positions]
    charts = []
    for timeline in timelines:
        style = number_format(timeline.metric)
        values = {point.row["mean"] for point in timeline.points if not math.isnan(point.row["mean"])}
        if len(positions) > 1 and values and (timeline.metric not in SYSTEM_NUMBERS or len(values) > 1):
            chart = timeline_chart(timeline, positions, labels)
            charts.append({"heading": f"{style.heading} {style.arrow}".strip(), "svg": chart})
    points = {(point.position, timeline.metric): point for timeline in timelines for point in timeline.points}
    columns = [timeline.metric for timeline in timelines if timeline.points]
    table = [
        {
            "run": Link(site.label(position), run_page(site.publications[position])),
            "made": site.publications[position].values["made"],
            "cells": [_time_cell(points.get((position, metric))) for metric in columns],
        }
        for position in reversed(positions)
    ]
    return {
        "dataset": board.dataset, "protocol": board.protocol, "charts": charts, "headings": headings(columns),
        "table": table, "left_out": len(board.positions) - len(positions),
    }  # fmt: skip


def _time_cell(point: TimePoint | None) -> dict[str, Any]:
    if point is None:
        return {"cell": BoardCell("-"), "mark": "", "verdict": "", "hint": ""}
    cell = number_cell(point.row)
    hint = "\n".join(filter(None, [cell.hint, change_text(point)]))
    verdict = "" if point.change is None else str(point.change["verdict"])
    return {"cell": cell, "mark": mark_of(point), "verdict": verdict, "hint": hint}


def _shares(wanted: Sequence[int], budget: int) -> list[float]:
    """`budget` shared out so that the small get all they want and the large equal parts of the rest."""
    shares: dict[int, float] = {}
    left = float(budget)
    for done, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[index] = min(float(wanted[index]), left / (len(wanted) - done))
        left -= shares[index]
    return [shares[index] for index in range(len(wanted))]
