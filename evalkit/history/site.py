"""The static site of a store: which pages there are, and bringing a folder to hold exactly these."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evalkit.history.archive import History, read_history, records
from evalkit.history.boards import Row
from evalkit.history.changes import are_known, compare_steps, find_steps
from evalkit.history.content import Site
from evalkit.history.links import INDEX, RUNS, SWEEPS, board_page, report_page, run_page, system_page
from evalkit.history.migrations import HistoryError
from evalkit.history.publication import CHANGES, Publication, as_table
from evalkit.history.run_views import run_view, runs_view, sweeps_view
from evalkit.history.views import board_page_view, board_pages, index_view, system_view
from evalkit.run.saved_run import RunError, load_run
from evalkit.sweeps import SweepError
from evalkit.sweeps.written import WrittenSweep, read_written
from q2d2.errors import UserError
from q2d2.files import write_atomically
from q2d2.plain_values import read_json

MANIFEST = ".evalkit-dashboard.json"
STYLE, SCRIPT = "history/dashboard.css", "history/dashboard.js"
Progress = Callable[[str, int, int], None]  # what is done now, how many of how many


class Built(NamedTuple):
    """What building a site did.

    Attributes:
        start: the page to open.
        num_runs: published runs on it.
        pages: pages there are now; `reports` of them are reports, `new_reports` of these written just now.
        removed: pages of an earlier build that are gone.
        damaged: a line for each publication, or part of one, that could not be shown.
    """

    start: Path
    num_runs: int
    pages: int
    reports: int
    new_reports: int
    removed: int
    damaged: tuple[str, ...]


def build_site(store: Path, out: Path, *, reports: bool, progress: Progress = lambda what, done, total: None) -> Built:
    """Write the site of a store into a folder.

    Pages of an earlier build that are not needed any more are removed, nothing else in the folder is touched. A report
    is written where there is none that is as new as its publication.

    Args:
        store: that `evalkit publish --to` was given.
        out: made if missing.
        reports: whether to write reports; those that are there are linked in any case.
        progress: called as the work goes on.

    Raises:
        HistoryError: the store cannot be read, or a page would replace a file that is not of an earlier build.
        OSError: the folder cannot be written.
    """
    history = read_history(store, functools.partial(progress, "reading"))
    damaged = list(history.damaged)
    if not history.publications:
        raise HistoryError(f"{store}: nothing in it can be read; {damaged[0]}")
    earlier = _read_manifest(out)
    wanted = [(report_page(publication), publication) for publication in history.publications]
    linked = {path for path, _ in wanted if path in earlier and (out / path).is_file()}
    new_reports = 0
    if reports:
        _claim(out, earlier, {path for path, _ in wanted})
        for done, (path, publication) in enumerate(wanted, 1):
            if not is_current(publication, out / path):
                try:
                    write_report(publication, out / path)
                    new_reports += 1
                    linked.add(path)
                except UserError as error:
                    damaged.append(f"report of {publication.id}: {error}")
            progress("reports", done, len(wanted))
    rows = history.rows()
    changes, lost = _changes(history, rows, progress)
    sweeps, unread = _sweeps(history.publications)
    damaged += [*lost, *unread]
    site = Site(history, rows, changes, sweeps, frozenset(linked))
    pages = _pages(site)
    _claim(out, earlier, {*pages, *linked})
    for done, (path, render_page) in enumerate(pages.items(), 1):
        _write(out / path, render_page())
        progress("pages", done, len(pages))
    removed = _remove(out, earlier - pages.keys() - linked)
    _write_manifest(out, {*pages, *linked})
    return Built(
        out / INDEX, len(history.publications), len(pages) + len(linked), len(linked), new_reports, removed,
        tuple(dict.fromkeys(damaged)),
    )  # fmt: skip


def _sweeps(publications: Sequence[Publication]) -> tuple[dict[int, WrittenSweep], list[str]]:
    """Position of a sweep -> its tables, none where they cannot be read; and what cannot."""
    found, damaged = {}, []
    for position, publication in enumerate(publications):
        if publication.is_sweep:
            try:
                found[position] = read_written(publication.folder, str(publication.values["title"]))
            except SweepError as error:
                damaged.append(str(error))
                found[position] = WrittenSweep((), (), None)
    return found, damaged


def _changes(history: History, rows: Sequence[Row], progress: Progress) -> tuple[Sequence[Row], list[str]]:
    """What changed in each publication: as it was found when it was published, unless its predecessors differ now."""
    publications = history.publications
    by_id = {publication.id: publication for publication in publications}
    steps = find_steps(publications, rows)
    tables, damaged = [], []
    for position, publication in enumerate(publications):
        wanted = steps.get(position, [])
        table = publication.changes
        if not are_known(publication, wanted):
            try:
                frame = compare_steps(load_run(publication.folder).utterances, wanted, by_id)
                table = as_table(frame, CHANGES)
            except (HistoryError, RunError) as error:
                damaged.append(str(error))
                table = CHANGES.empty_table()
        tables.append(table)
        progress("comparing", position + 1, len(publications))
    return records(tables), damaged


def _pages(site: Site) -> Mapping[str, Callable[[], str]]:
    """Path -> what makes the page; they are made one by one, so that never all are in memory."""
    pages: dict[str, Callable[[], str]] = {}

    def add(path: str, template: str, title: str, view: Callable[..., dict[str, Any]], *of: object) -> None:
        pages[path] = lambda: _render(template, title, view(site, *of))

    add(INDEX, "index", "Leaderboards", index_view)
    add(RUNS, "runs", "Published runs", runs_view)
    add(SWEEPS, "sweeps", "Sweeps", sweeps_view)
    for board in site.boards:
        title = f"{board.dataset}, protocol {board.protocol or 'not named'}"
        for number in range(1, board_pages(board) + 1):
            add(board_page(board.dataset, board.protocol, number), "board", title, board_page_view, board, number)
    for system in site.systems:
        add(system_page(system.name, system.system), "system", system.system, system_view, system)
    for position, publication in enumerate(site.publications):
        title = f"{publication.name}, {site.label(position)}"
        add(run_page(publication), "run", title, run_view, position)
    return pages


def _render(template: str, title: str, view: Mapping[str, Any]) -> str:
    from evalkit.pages import render

    return render(f"history/{template}.html.j2", title=title, styles=[STYLE], scripts=[SCRIPT], **view)


def _write(path: Path, text: str) -> None:
    """Write a page, unless it is there as it is: what did not change keeps its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def _read_manifest(out: Path) -> set[str]:
    """The pages that an earlier build left, as far as they can be this site's."""
    path = out / MANIFEST
    if not path.is_file():
        return set()
    try:
        files = read_json(path)["files"]
        return {name for name in files if isinstance(name, str) and _is_ours(name)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HistoryError(f"{path} is damaged ({error}): empty {out}, or choose another --out") from error


def _is_ours(name: str) -> bool:
    """Whether a path is one that this site has: nothing else is ever removed, whatever a manifest says."""
    folder, _, page = name.rpartition("/")
    plain = page.removesuffix(".html").replace("-", "")
    return folder in ("", "boards", "systems", "runs", "reports") and page.endswith(".html") and plain.isalnum()


def _claim(out: Path, earlier: set[str], paths: set[str]) -> None:
    """Note what is going to be written before it is, so that a build that is cut off can be repeated.

    Raises:
        HistoryError: one of these is there and was not written by a build.
    """
    strangers = sorted(path for path in paths - earlier if (out / path).exists())
    if strangers:
        raise HistoryError(f"{out / strangers[0]} is not from an earlier build of this site: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    earlier |= paths
    _write_manifest(out, earlier)


def _write_manifest(out: Path, paths: set[str]) -> None:
    write_atomically(out / MANIFEST, json.dumps({"files": sorted(paths)}, indent=0) + "\n")


def _remove(out: Path, paths: set[str]) -> int:
    """Remove pages, and folders that are empty then."""
    removed = 0
    for name in sorted(paths):
        path = out / name
        if path.is_file():
            path.unlink()
            removed += 1
            if path.parent != out and not any(path.parent.iterdir()):
                path.parent.rmdir()
    return removed


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
