"""What the pages of runs and of sweeps show: texts, cells and links, ready for the templates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from evalkit.history.boards import (
    BoardCell,
    Row,
    number_cell,
    number_format,
    ordered_columns,
)
from evalkit.history.changes import out_of_reach
from evalkit.history.chart import is_equal
from evalkit.history.content import Link, Site, date, headings
from evalkit.history.links import report_page, run_page, system_page
from evalkit.history.publication import Publication
from evalkit.stats.differences import MARKS
from evalkit.tables.cells import probability, signed

MAX_SYSTEMS = 200  # of a run's table


def runs_view(site: Site) -> dict[str, Any]:
    """All runs, newest first."""
    listed = []
    for position in range(len(site.publications) - 1, -1, -1):
        publication = site.publications[position]
        listed.append(run_line(site, publication) | {"changes": _counts(site.changes_of.get(position))})
    return {"runs": listed}


def run_line(site: Site, publication: Publication) -> dict[str, Any]:
    """What lists say of a run."""
    values = publication.values
    report = report_page(publication)
    return {
        "run": Link(publication.name, run_page(publication)),
        "title": values["title"],
        "made": values["made"],
        "date": date(publication),
        "version": values["commit"] or values["version"],
        "boards": [f"{board['dataset']}, {board['protocol']}, n {board['n']:,}" for board in values["boards"]],
        "kind": {"sweep": "sweep", "folders": "decoded folders"}.get(values["kind"], "run"),
        "report": report if report in site.reports else "",
    }


def run_tables(site: Site, position: int) -> list[dict[str, Any]]:
    """The numbers of a run: for each data set and protocol one row a system."""
    boards: dict[tuple[str, str], list[Row]] = {}
    for row in site.rows_of.get(position, []):
        boards.setdefault((row["dataset"], row["protocol"]), []).append(row)
    publication = site.publications[position]
    return [
        _run_table(dataset, protocol, rows, None if publication.is_sweep else publication.name)
        for (dataset, protocol), rows in boards.items()
    ]


def _run_table(dataset: str, protocol: str, rows: Sequence[Row], name: str | None) -> dict[str, Any]:
    """`name`: of the run, whose systems have pages; None where they have none."""
    columns = ordered_columns(rows)
    cells: dict[str, dict[str, BoardCell]] = {}
    for row in rows:
        cells.setdefault(row["system"], {})[row["metric"]] = number_cell(row)
    kinds = {row["system"]: row["kind"] for row in rows}
    return {
        "dataset": dataset,
        "protocol": protocol,
        "n": max(row["n_total"] for row in rows),
        "is_sweep": name is None,
        "headings": headings(columns),
        "rows": [
            {
                "system": Link(system, "" if name is None else system_page(name, system)),
                "kind": kinds[system],
                "cells": [found.get(key, BoardCell("-")) for key in columns],
            }
            for system, found in list(cells.items())[:MAX_SYSTEMS]
        ],
        "left_out": max(0, len(cells) - MAX_SYSTEMS),
    }


def change_rows(site: Site, position: int) -> list[dict[str, Any]]:
    """The differences of a run to its predecessors, those with a mark first."""
    found = []
    for record in site.changes_of.get(position, []):
        style = number_format(record["metric"])
        decimals = style.decimals + 1
        numbers = {key: signed(record[key], decimals) for key in ("difference", "low", "high")}
        found.append(
            {
                "system": record["system"],
                "metric": style.heading,
                "mark": MARKS.get(record["verdict"], ""),
                "verdict": record["verdict"],
                "equal": "equal" if is_equal(record) else "",
                "difference": numbers["difference"],
                "value": record["difference"],
                "interval": f"[{numbers['low']}, {numbers['high']}]" if record["low"] == record["low"] else "",
                "p": "" if math.isnan(record["p_holm"]) else probability(record["p_holm"]),
                "p_value": record["p_holm"],
                "n": record["n"],
                "before": site.label(site.position_of[record["predecessor"]]),
                "before_page": run_page(site.publications[site.position_of[record["predecessor"]]]),
            }
        )
    return sorted(found, key=lambda row: not row["verdict"])


def _counts(changes: Sequence[Row] | None) -> str:
    """Such as "▲ 2 ▼ 1"; "" where nothing was compared."""
    if changes is None:
        return ""
    found = Counter(change["verdict"] for change in changes)
    marked = [f"{MARKS[verdict]} {found[verdict]}" for verdict in MARKS if found[verdict]]
    return " ".join(marked) or f"none of {len(changes)}"


def facts(publication: Publication) -> list[tuple[str, str]]:
    """What publication.json says of a run, as labels and texts."""
    values, made = publication.values, publication.made.astimezone(UTC)
    hardware = values["hardware"] or {}
    gpu = f", {hardware.get('gpus', 1)} x {hardware['gpu']}" if hardware.get("gpu") else ", no GPU"
    machine = f"{hardware['cores']} cores ({hardware['cpu']}){gpu}" if {"cores", "cpu"} <= hardware.keys() else ""
    told_by = {"--made": "as told when it was published", "time of utterances.parquet": "the time of its files"}
    source = f" ({told_by[values['made_from']]})" if values["made_from"] in told_by else ""
    told = {
        "Made": f"{made:%Y-%m-%d %H:%M} UTC{source}",
        "Code": values["version"],
        "Machine": machine,
        "Seed": "" if values["seed"] is None else str(values["seed"]),
        "Baseline": values["baseline"] or "",
        "Note": values["note"],
        "Digest": values["digest"],
    }
    return [(label, text) for label, text in told.items() if text]


def details(values: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What few want to see: versions of metrics and digests of weights."""
    versions = [(number_format(key).label, ", ".join(found) or "no score") for key, found in values["metrics"].items()]
    weights = [(str(name), str(digest)) for name, digest in values["weights_sha256"].items()]
    return [
        (title, told) for title, told in (("Versions of metrics", versions), ("SHA-256 of weights", weights)) if told
    ]


def run_view(site: Site, position: int) -> dict[str, Any]:
    """All of a run's page."""
    publication = site.publications[position]
    same = site.positions_of[publication.name]
    place = same.index(position)
    before = same[place - 1] if place else None
    after = same[place + 1] if place + 1 < len(same) else None
    return {
        "line": run_line(site, publication),
        "before": None if before is None else Link(site.label(before), run_page(site.publications[before])),
        "after": None if after is None else Link(site.label(after), run_page(site.publications[after])),
        "facts": facts(publication),
        "changes": change_rows(site, position),
        "out_of_reach": out_of_reach(site.changes_of.get(position, [])),
        "sweep": site.sweeps[position].tables if publication.is_sweep else (),
        "tables": run_tables(site, position),
        "details": details(publication.values),
    }


def sweeps_view(site: Site) -> dict[str, Any]:
    """All sweeps, newest first."""
    listed = []
    for position, content in sorted(site.sweeps.items(), reverse=True):
        found = content.configurations
        told = {"configurations": "" if found is None else str(len(found)), "verdicts": content.verdicts}
        listed.append(run_line(site, site.publications[position]) | told)
    return {"sweeps": listed}
