"""A store of published runs: where they lie, and all of them read in the order in which they were made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from evalkit.history.migrations import HistoryError
from evalkit.history.publication import PUBLICATION, Publication, plain_publication, plain_run, read_publication
from evalkit.run.saved_run import DESCRIPTION, SWEEP, RunError, load_run

PUBLISHED = "published"


@dataclass(frozen=True)
class History:
    """What a store holds.

    Attributes:
        publications: from the oldest to the newest; of equal runs one.
        damaged: a line for each that could not be read, which names the file.
    """

    publications: tuple[Publication, ...]
    damaged: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """All rows of all summaries, oldest first, with `position`: the place in `publications`."""
        return records([publication.summary for publication in self.publications])


def read_history(store: Path, seen: Callable[[int, int], None] = lambda done, total: None) -> History:
    """Read all publications of a store, and its plain folders of runs, which are older ones not moved yet.

    Args:
        store: the folder that `evalkit publish --to` was given.
        seen: called with the number read and the number there is.

    Raises:
        HistoryError: the store is missing, is itself a run, or holds nothing.
    """
    if not store.is_dir():
        raise HistoryError(f"{store}: no such folder; evalkit publish RUN --to {store} makes it")
    if is_run(store):
        raise HistoryError(f"{store} is one run; give the folder that holds published ones (evalkit publish RUN --to)")
    published, plain = list(published_folders(store)), [each for each in sorted(store.iterdir()) if is_run(each)]
    found: dict[tuple[str, str], Publication] = {}  # name and digest: branches may publish one run under two times
    damaged = []
    for done, folder in enumerate([*published, *plain], 1):
        try:
            if done <= len(published):
                publication: Publication | None = read_publication(folder)
            else:
                publication = _read_plain(folder, {digest for _, digest in found})
            if publication is not None:
                found.setdefault((publication.name, str(publication.values["digest"])), publication)
        except (HistoryError, RunError) as error:
            damaged.append(str(error))
        seen(done, len(published) + len(plain))
    if not found and not damaged:
        raise HistoryError(f"{store} holds nothing published; evalkit publish RUN --to {store} adds a run")
    ordered = sorted(found.values(), key=lambda publication: publication.order)
    return History(tuple(ordered), tuple(damaged))


def published_folders(store: Path, name: str | None = None) -> Iterator[Path]:
    """The folders of publications, or of those in the folder of one name, whole or not."""
    root = store / PUBLISHED
    names = ([root / name] if name else sorted(root.iterdir())) if root.is_dir() else []
    for folder in names:
        if folder.is_dir() and not folder.name.startswith("."):  # a dot: what a killed publish left
            yield from (each for each in sorted(folder.iterdir()) if each.is_dir() and not each.name.startswith("."))


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run or a sweep, published or not."""
    return any((folder / name).is_file() for name in (PUBLICATION, DESCRIPTION, SWEEP))


def records(tables: Sequence[pa.Table]) -> list[dict[str, Any]]:
    """The rows of several tables of one schema, with their `position` among the tables; a missing number is NaN."""
    placed = pa.concat_tables(
        table.append_column("position", pa.array([position] * table.num_rows, pa.int64()))
        for position, table in enumerate(tables)
    )
    columns = [
        column.to_numpy().tolist() if pa.types.is_floating(column.type) else column.to_pylist()
        for column in placed.columns
    ]
    return [dict(zip(placed.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def _read_plain(folder: Path, known: Set[str]) -> Publication | None:
    """A plain folder of a run; None where a run with its digest is known, as it was published since."""
    run = load_run(folder)
    stored = plain_run(run)
    return None if stored.values["digest"] in known else plain_publication(run, stored)
