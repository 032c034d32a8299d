"""Where each page of the site is, from its root."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalkit.history.publication import Publication


MAX_LETTERS = 40
SAFE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@functools.lru_cache(maxsize=100_000)
def slug(*names: str) -> str:
    """A file name for one or several names: their plain ASCII letters and digits, and a digest that tells them apart.

    Never a path separator, a dot or an upper-case letter, never empty, at most 49 characters.
    """
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]
    letters = unicodedata.normalize("NFKD", " ".join(names)).encode("ascii", "ignore").decode().lower()
    words = re.sub("[^a-z0-9]+", "-", letters)[:MAX_LETTERS].strip("-")
    return f"{words}-{digest}" if words else digest


def folder_name(name: str) -> str:
    """As `slug`, but a name that is safe as it is stays: `results/published/tiny` is for people to read, too."""
    return name if len(name) <= MAX_LETTERS and SAFE.fullmatch(name) else slug(name)


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
