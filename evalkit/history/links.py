"""Where each page of the site is, from its root."""

from __future__ import annotations

from evalkit.history.publication import Publication, slug

INDEX, RUNS, SWEEPS = "index.html", "runs.html", "sweeps.html"


def run_page(publication: Publication) -> str:
    return f"runs/{slug(publication.id)}.html"


def report_page(publication: Publication) -> str:
    return f"reports/{slug(publication.id)}.html"


def system_page(name: str, system: str) -> str:
    """Of a system of the runs of one name."""
    return f"systems/{slug(system, name)}.html"


def board_page(dataset: str, protocol: str, number: int = 1) -> str:
    """One of the pages over which a leaderboard is spread, counted from 1."""
    return f"boards/{slug(dataset, protocol)}{'' if number == 1 else f'-{number}'}.html"
