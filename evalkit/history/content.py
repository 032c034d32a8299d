"""What the site is made from: a history, and all that is derived from it once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from evalkit.history.archive import History
from evalkit.history.boards import Board, Row, leaderboards, number_format
from evalkit.history.publication import Publication
from evalkit.history.summaries import SYSTEM_NUMBERS
from evalkit.history.timeline import SystemHistory, system_histories
from evalkit.sweeps.written import WrittenSweep


class Heading(NamedTuple):
    """Of a column: its key, its text with unit and arrow, and whether it is a metric."""

    key: str
    text: str
    is_metric: bool


class Link(NamedTuple):
    """A text and where it leads, from the root of the site."""

    text: str
    to: str


@dataclass(frozen=True)
class Site:
    """A history with all that is derived from it once.

    Attributes:
        history: what the store holds.
        rows: of all summaries, with `position`.
        changes: of all publications, with `position`.
        sweeps: position of a sweep -> its tables.
        reports: paths of the reports that there are.
    """

    history: History
    rows: Sequence[Row]
    changes: Sequence[Row]
    sweeps: dict[int, WrittenSweep]
    reports: frozenset[str]

    @property
    def publications(self) -> tuple[Publication, ...]:
        return self.history.publications

    @cached_property
    def boards(self) -> list[Board]:
        return leaderboards(self.publications, self.rows)

    @cached_property
    def systems(self) -> list[SystemHistory]:
        return system_histories(self.publications, self.rows, self.changes)

    @cached_property
    def positions_of(self) -> dict[str, list[int]]:
        """Name -> positions of its publications, oldest first."""
        found: dict[str, list[int]] = {}
        for position, publication in enumerate(self.publications):
            found.setdefault(publication.name, []).append(position)
        return found

    @cached_property
    def rows_of(self) -> dict[int, list[Row]]:
        """Position -> the rows of its summary."""
        return _by_position(self.rows)

    @cached_property
    def changes_of(self) -> dict[int, list[Row]]:
        """Position -> its changes."""
        return _by_position(self.changes)

    @cached_property
    def position_of(self) -> dict[str, int]:
        """Id of a publication -> its position."""
        return {publication.id: position for position, publication in enumerate(self.publications)}

    @cached_property
    def namesakes(self) -> dict[str, list[SystemHistory]]:
        """System's name -> its histories, one a name of runs."""
        found: dict[str, list[SystemHistory]] = {}
        for system in self.systems:
            found.setdefault(system.system, []).append(system)
        return found

    def label(self, position: int) -> str:
        """Date and version of a run, as axes and tables say it; with its time where a day has several of its name.

        Of decoded folders without a version: that would be evalkit's, and be taken for the codec's.
        """
        publication = self.publications[position]
        values = publication.values
        when = date(publication)
        if self._runs_of_day[values["name"], when] > 1:
            when = publication.made.strftime("%Y-%m-%d %H:%M:%S")
        return when if values["kind"] == "folders" else f"{when} {values['commit'] or values['version']}".strip()

    @cached_property
    def _runs_of_day(self) -> Counter[tuple[str, str]]:
        """(name, date) -> runs."""
        return Counter((publication.values["name"], date(publication)) for publication in self.publications)


def _by_position(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["position"], []).append(row)
    return found


def date(publication: Publication) -> str:
    return publication.made.strftime("%Y-%m-%d")


def headings(columns: Sequence[str]) -> list[Heading]:
    found = []
    for key in columns:
        style = number_format(key)
        found.append(Heading(key, f"{style.heading} {style.arrow}".strip(), key not in SYSTEM_NUMBERS))
    return found
