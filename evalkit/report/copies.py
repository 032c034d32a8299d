"""What the copy buttons put on the clipboard: the tables of the run in the three forms that it writes as files."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.report.against_paper import PublishedTable
from evalkit.report.facts import run_notes
from evalkit.report.joined import Joined
from evalkit.tables.against_paper import published_latex, published_markdown
from evalkit.tables.csv_text import csv_text
from evalkit.tables.differences import differences_latex, differences_markdown, method_notes
from evalkit.tables.markup import to_latex, to_markdown
from evalkit.tables.notes import pair_notes, protocol_note, standing_notes, units


@dataclass(frozen=True)
class Copies:
    """One table as text: what it is called, and format -> text."""

    identity: str
    name: str
    texts: dict[str, str]


def table_notes(joined: Joined) -> list[str]:
    """The sentences under the comparison, as in the run's own Markdown."""
    rows = joined.utterances.drop(columns="key")
    own = _own_notes(joined)
    return [*own, *pair_notes(rows), *standing_notes(rows, joined.systems, joined.summary, joined.differences)]


def _own_notes(joined: Joined) -> list[str]:
    return list(dict.fromkeys(note for run in joined.runs for note in run_notes(run)))


def comparison_copies(joined: Joined, notes: list[str]) -> Copies:
    texts = {
        "Markdown": to_markdown(joined.summary, joined.title, notes),
        "LaTeX": to_latex(joined.summary, joined.title, notes),
        "CSV": csv_text(joined.summary),
    }
    return Copies("comparison", "comparison", texts)


def differences_copies(joined: Joined) -> Copies | None:
    """None without differences."""
    differences = joined.differences
    if differences is None:
        return None
    heading = f"{joined.title}: differences to {joined.baseline}"
    rows = joined.utterances.drop(columns="key")
    below = [
        *_own_notes(joined),
        *pair_notes(rows),
        *method_notes(differences, units(rows), joined.systems),
        *protocol_note(rows),
    ]
    texts = {
        "Markdown": differences_markdown(differences, heading, below),
        "LaTeX": differences_latex(differences, heading, below),
        "CSV": csv_text(differences),
    }
    return Copies("differences", "differences", texts)


def published_copies(table: PublishedTable, title: str, identity: str) -> Copies:
    heading = f"{title}: beside the numbers of {table.paper.title}"
    texts = {
        "Markdown": published_markdown(table.compared, heading, table.notes),
        "LaTeX": published_latex(table.compared, heading, table.notes),
        "CSV": csv_text(table.compared),
    }
    return Copies(identity, "published numbers", texts)
