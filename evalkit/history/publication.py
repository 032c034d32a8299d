"""One published run: what its folder holds, and how it is read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from evalkit.history.migrations import MIGRATIONS, HistoryError, Stored, migrate
from evalkit.history.names import folder_name
from evalkit.history.summaries import SUMMARY, TEXT, as_table
from evalkit.saved_run import DESCRIPTION, SWEEP, RunError, SavedRun, load_run

PUBLICATION = "publication.json"
CHANGES = pa.schema(
    [("dataset", TEXT), ("protocol", TEXT), ("system", TEXT), ("metric", TEXT), ("predecessor", TEXT)]
    + [("n", pa.int64()), ("units", pa.int64())]
    + [(name, pa.float64()) for name in ("difference", "low", "high", "p", "p_holm")]
    + [("verdict", TEXT)]
)
# What is copied from a run's folder, and makes it that run; of a sweep, its trials in place of systems.
KEPT = {False: ("utterances", "systems", "codes", "signals"), True: ("utterances", "trials")}
TRAINING = "training.parquet"
DIGEST = 12  # hexadecimal digits
TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, eq=False)
class Publication:
    """A published run, as far as a site of many needs it; `load_run(folder)` gives all its rows.

    Attributes:
        folder: where it is.
        id: "NAME/WHEN-DIGEST", unlike that of any other run.
        values: publication.json.
        summary: means, intervals and counts, columns `SUMMARY`.
        changes: differences to the predecessor known when it was published, columns `CHANGES`.
    """

    folder: Path
    id: str
    values: dict[str, Any]
    summary: pa.Table
    changes: pa.Table

    @property
    def name(self) -> str:
        """The name that its versions share."""
        return str(self.values["name"])

    @property
    def made(self) -> datetime:
        """When the run was made, in UTC."""
        return datetime.fromisoformat(self.values["made"])

    @property
    def is_sweep(self) -> bool:
        return bool(self.values["kind"] == "sweep")

    @property
    def order(self) -> tuple[datetime, str]:
        """What publications are sorted by: equal times by content, so that the order is always the same."""
        return self.made, str(self.values["digest"])

    def load(self) -> SavedRun:
        """All its rows, its training curves too.

        Raises:
            RunError: a file is missing or damaged.
        """
        return load_published(self.folder)


def publication_id(values: Mapping[str, Any]) -> str:
    """NAME/WHEN-DIGEST, the place of a publication in a store: WHEN is in UTC, to the second."""
    when = datetime.fromisoformat(values["made"]).astimezone(UTC).strftime(TIME)
    return f"{folder_name(values['name'])}/{when}-{values['digest']}"


def read_publication(folder: Path) -> Publication:
    """Read a publication of any version, or a plain folder of a run, which is version 1.

    Raises:
        HistoryError: it is damaged, incomplete or newer than this evalkit; the message names the file.
        RunError: it is a plain folder that holds no finished run.
    """
    path = folder / PUBLICATION
    if not path.is_file() and any((folder / name).is_file() for name in (DESCRIPTION, SWEEP)):
        stored = migrate(plain_run(folder), 1, str(folder), MIGRATIONS)
        summary, changes = as_table(stored.frames["summary"], SUMMARY), CHANGES.empty_table()
    else:
        values = _read_values(path)
        stored = migrate(Stored(values, {}), values.get("schema_version"), str(path), MIGRATIONS)
        _check(path, stored.values)
        summary = _read_table(folder, "summary.parquet", values, SUMMARY)
        has_changes = "changes.parquet" in values["files"]
        changes = _read_table(folder, "changes.parquet", values, CHANGES) if has_changes else CHANGES.empty_table()
    return Publication(folder, publication_id(stored.values), stored.values, summary, changes)


def plain_run(folder: Path, made: datetime | None = None, name: str | None = None) -> Stored:
    """A run's or sweep's folder as version 1 of what is stored.

    Args:
        folder: of a finished run.
        made: when it was, if run.json does not say so.
        name: in place of its own.

    Raises:
        RunError: it holds no finished run.
        HistoryError: `made` is given and run.json says another time.
    """
    run = load_run(folder)
    description = raw_description(folder)
    when, told_by = _made(folder, description, made)
    values = description | {
        "name": name or run.name, "title": run.title, "made": when.isoformat(timespec="seconds"),
        "made_from": told_by, "digest": content_digest(description, kept_frames(folder)),
    }  # fmt: skip
    return Stored(values, {"utterances": run.utterances, "systems": run.systems, "signals": run.signals})


def raw_description(folder: Path) -> dict[str, Any]:
    """run.json or sweep.json as it is."""
    values: dict[str, Any] = json.loads((folder / description_name(folder)).read_text(encoding="utf-8"))
    return values


def description_name(folder: Path) -> str:
    """sweep.json of a sweep's folder, else run.json."""
    return SWEEP if (folder / SWEEP).is_file() else DESCRIPTION


def kept_frames(folder: Path) -> dict[str, pa.Table]:
    """The frames of a run's folder that a publication holds; signals only where there are any.

    Raises:
        RunError: one cannot be read.
    """
    found = {}
    for name in KEPT[description_name(folder) == SWEEP]:
        path = folder / f"{name}.parquet"
        if path.is_file():
            try:
                table = pq.ParquetFile(path).read()
            except (OSError, ValueError) as error:
                raise RunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
            if table.num_rows or name != "signals":
                found[name] = table
    return found


def content_digest(description: Mapping[str, Any], frames: Mapping[str, pa.Table]) -> str:
    """A digest of a run: of its description and of the values of its rows, not of how a file holds them."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(frames):
        for column in sorted(frames[name].column_names):
            values = [_plain(value) for value in frames[name][column].to_pylist()]
            digest.update(json.dumps([name, column, values]).encode())
    return digest.hexdigest()[:DIGEST]


def load_published(folder: Path) -> SavedRun:
    """As `evalkit.load_run`, of a publication: its training curves are in one file."""
    run = load_run(folder)
    path = folder / TRAINING
    if run.training or not path.is_file():
        return run
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    curves = {
        str(system): part.drop(columns="system").dropna(axis="columns", how="all").reset_index(drop=True)
        for system, part in rows.groupby("system", sort=False)
    }
    return replace(run, training=curves)


def _plain(value: Any) -> Any:
    """Null for every kind of null, and a time as text."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, list)) else str(value)


def _made(folder: Path, description: Mapping[str, Any], made: datetime | None) -> tuple[datetime, str]:
    if finished := description.get("finished"):
        if made is not None:
            raise HistoryError(f"{folder / DESCRIPTION} says when it was made, {finished}: leave out --made")
        return datetime.fromisoformat(finished).astimezone(UTC), DESCRIPTION
    if made is not None:
        return made.astimezone(UTC), "--made"
    path = folder / "utterances.parquet"
    return datetime.fromtimestamp(path.stat().st_mtime, UTC), "time of utterances.parquet"


def _read_values(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise HistoryError(f"{path} is missing: {path.parent} is no publication, or not whole") from error
    except (OSError, ValueError) as error:
        raise HistoryError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise HistoryError(f"{path} is damaged: expected keys and values, found {type(values).__name__}")
    return values


def _check(path: Path, values: Mapping[str, Any]) -> None:
    """That what a site is built from is there, and every file of the size it had."""
    try:
        when = datetime.fromisoformat(values["made"])
        if when.tzinfo is None:
            raise ValueError("made names no time zone")
        for key in ("name", "title", "digest", "kind", "version"):
            if not isinstance(values[key], str):
                raise ValueError(f"{key} is no text")
        sizes = {name: int(told["bytes"]) for name, told in values["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise HistoryError(f"{path} is damaged: {what}") from error
    for name, size in sizes.items():
        file = path.parent / name
        if not file.is_file():
            raise HistoryError(f"{file} is missing: get it back, or publish that run again")
        if file.stat().st_size != size:
            raise HistoryError(f"{file} is damaged: {file.stat().st_size:,} bytes, not {size:,}")


def _read_table(folder: Path, name: str, values: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    path = folder / name
    try:
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != values["files"][name]["sha256"]:
            raise ValueError("its SHA-256 is not the one in publication.json")
        return pq.ParquetFile(pa.BufferReader(raw)).read(columns=schema.names, use_threads=False).cast(schema)
    except (OSError, ValueError, KeyError) as error:
        raise HistoryError(f"{path} is damaged: {' '.join(str(error).split())}") from error
