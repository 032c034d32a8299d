"""Reports of published runs: the page of `evalkit report`, without audio."""

from __future__ import annotations

from pathlib import Path

from evalkit.history.publication import Publication
from evalkit.saved_run import load_run
from q2d2.files import write_atomically


def write_report(publication: Publication, path: Path) -> None:
    """Write the report of one publication.

    Raises:
        UserError: its rows cannot be read, or cannot stand on one page; the message names what.
        OSError: the file cannot be written.
    """
    from evalkit.report.page import report_page

    text = report_page([load_run(publication.folder)], listen=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def is_current(publication: Publication, path: Path) -> bool:
    """Whether there is a report that is not older than what it reports."""
    return path.is_file() and path.stat().st_mtime >= (publication.folder / "utterances.parquet").stat().st_mtime
