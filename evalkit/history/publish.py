"""Adding a run to a store of published results: one folder, written whole or not at all, the same for the same run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from evalkit.history.archive import PUBLISHED, published_folders, records
from evalkit.history.changes import compare_steps, find_steps
from evalkit.history.migrations import HistoryError
from evalkit.history.publication import (
    CHANGES,
    PUBLICATION,
    Publication,
    description_name,
    folder_name,
    kept_frames,
    plain_publication,
    plain_run,
    read_publication,
)
from evalkit.history.summaries import as_table
from evalkit.run.saved_run import PUBLISHED_TABLE, SWEEP, TRAINING, SavedRun, load_run
from evalkit.sweeps.written import TABLES as SWEEP_TABLES
from evalkit.tables.csv_text import read_csv
from q2d2.files import write_atomically


class Published(NamedTuple):
    """What publishing did.

    Attributes:
        publication: of the run, now in the store.
        is_new: False where the run was there already, and nothing was written.
        damaged: a line for each publication of the same name that could not be read, and was not compared with.
        names_home: whether its description names folders of this user's home.
    """

    publication: Publication
    is_new: bool
    damaged: tuple[str, ...]
    names_home: bool


def publish(
    run: Path, store: Path, *, name: str | None = None, note: str = "", made: datetime | None = None
) -> Published:
    """Add a finished run, a sweep or a scored set of folders to a store.

    The folder is STORE/published/NAME/WHEN-DIGEST. DIGEST is of the run's description and rows: publishing the same run
    again finds that folder and leaves it as it is.

    Args:
        run: its folder.
        store: made if missing.
        name: in place of the experiment's; versions of one name are compared with each other.
        note: a sentence kept with it.
        made: when the run was made, if its run.json does not say so. None: the time of its utterances.parquet.

    Raises:
        RunError: the folder holds no finished run.
        HistoryError: it is published already, with another note; or its rows are inconsistent.
        OSError: the store cannot be written.
    """
    if (run / PUBLICATION).is_file():
        raise HistoryError(f"{run} is a publication already: copy its folder to {store / PUBLISHED} to add it there")
    if name is not None and not name.strip():
        raise HistoryError("--as: the name is empty")
    saved = load_run(run)
    plain = plain_run(saved, made, name)
    digest, shown = plain.values["digest"], plain.values["name"]
    root = store / PUBLISHED / folder_name(shown)
    names_home = str(Path.home()) in (run / description_name(run)).read_text(encoding="utf-8")
    for folder in published_folders(store, root.name):
        if folder.name.endswith(f"-{digest}"):
            return Published(_same(folder, note), False, (), names_home)
    fresh = plain_publication(saved, plain)
    fresh = replace(fresh, values=fresh.values | {"note": note})
    changes, damaged = _changes(fresh, store, saved.utterances)
    root.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=root))
    try:
        part.chmod(0o755)
        _write(part, saved, replace(fresh, changes=changes))
        target = store / PUBLISHED / fresh.id
        os.rename(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Published(read_publication(target), True, tuple(damaged), names_home)


def _same(folder: Path, note: str) -> Publication:
    publication = read_publication(folder)
    if note and note != publication.values["note"]:
        raise HistoryError(
            f"{folder} holds this run already, with the note {publication.values['note']!r}: delete that folder to "
            "publish it with another"
        )
    return publication


def _changes(fresh: Publication, store: Path, utterances: pd.DataFrame) -> tuple[pa.Table, list[str]]:
    """Differences to what is published under the same name; and what of that is damaged."""
    earlier, damaged = [], []
    for folder in published_folders(store, folder_name(fresh.name)):
        try:
            publication = read_publication(folder)
        except HistoryError as error:
            damaged.append(str(error))
            continue
        if publication.order < fresh.order:
            earlier.append(publication)
    line = [*sorted(earlier, key=lambda publication: publication.order), fresh]
    steps = find_steps(line, records([publication.summary for publication in line])).get(len(line) - 1, [])
    if not steps:
        return CHANGES.empty_table(), damaged
    frame = compare_steps(utterances, steps, {publication.id: publication for publication in earlier})
    return as_table(frame, CHANGES), damaged


def _write(folder: Path, run: SavedRun, publication: Publication) -> None:
    """Everything a publication holds; publication.json comes last and lists the rest."""
    tables = {**kept_frames(run.folder), "summary": publication.summary}
    if publication.changes.num_rows:
        tables["changes"] = publication.changes
    if run.training:
        curves = pd.concat([rows.assign(system=name) for name, rows in run.training.items()], ignore_index=True)
        tables[TRAINING.removesuffix(".parquet")] = pa.Table.from_pandas(curves, preserve_index=False)
    description = description_name(run.folder)
    shutil.copyfile(run.folder / description, folder / description)
    for name in SWEEP_TABLES:  # of a plain run, what its page shows follows from the rows
        path = run.folder / "tables" / f"{name}.csv"
        if description == SWEEP and path.is_file():
            tables[name] = pa.Table.from_pandas(read_csv(path), preserve_index=False)
    if (published := run.folder / "tables" / PUBLISHED_TABLE).is_file():  # it knew which weights were loaded
        shutil.copyfile(published, folder / PUBLISHED_TABLE)
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", compression_level=15)
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(folder.iterdir())
    }
    text = json.dumps(publication.values | {"files": files}, indent=1, ensure_ascii=False)
    write_atomically(folder / PUBLICATION, text + "\n")
