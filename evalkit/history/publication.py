"""One published run: what its folder holds, and how it is read."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime

from evalkit.history.migrations import MIGRATIONS, HistoryError, Stored, migrate
from evalkit.history.summaries import SUMMARY, TEXT, as_table
from evalkit.run.descriptions import read_description
from evalkit.run.saved_run import DESCRIPTION, SWEEP, RunError, SavedRun
from evalkit.schema import Described, read_described, validated
from q2d2.errors import shown

PUBLICATION = "publication.json"
CHANGES = pa.schema(
    [("dataset", TEXT), ("protocol", TEXT), ("system", TEXT), ("metric", TEXT), ("predecessor", TEXT)]
    + [("n", pa.int64()), ("units", pa.int64())]
    + [(name, pa.float64()) for name in ("difference", "low", "high", "p", "p_holm")]
    + [("verdict", TEXT)]
)
# What is copied from a run's folder, and makes it that run; of a sweep, its trials in place of systems.
KEPT = {False: ("utterances", "systems", "codes", "signals"), True: ("utterances", "trials")}
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

    @cached_property
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


def publication_id(values: Mapping[str, Any]) -> str:
    """NAME/WHEN-DIGEST, the place of a publication in a store: WHEN is in UTC, to the second."""
    when = datetime.fromisoformat(values["made"]).astimezone(UTC).strftime(TIME)
    return f"{folder_name(values['name'])}/{when}-{values['digest']}"


def read_publication(folder: Path) -> Publication:
    """Read a publication of version 2 or later.

    Raises:
        HistoryError: it is damaged, incomplete or newer than this evalkit; the message names the file.
    """
    path = folder / PUBLICATION
    values = _read_values(path)
    values = migrate(Stored(values, {}), values.get("schema_version"), str(path), MIGRATIONS).values
    _check(path, values)
    summary = _read_table(folder, "summary.parquet", values, SUMMARY)
    has_changes = "changes.parquet" in values["files"]
    changes = _read_table(folder, "changes.parquet", values, CHANGES) if has_changes else CHANGES.empty_table()
    return Publication(folder, publication_id(values), values, summary, changes)


def plain_run(run: SavedRun, made: datetime | None = None, name: str | None = None) -> Stored:
    """A run or sweep that was not published: version 1 of what is stored.

    Args:
        run: a finished one.
        made: when it was, if run.json does not say so.
        name: in place of its own.

    Raises:
        RunError: one of its files cannot be read.
        HistoryError: run.json tells no time where it should, or `made` is given and it tells one.
    """
    description = raw_description(run.folder)
    when, told_by = _made(run.folder, description, made)
    values = description | {
        "name": name or run.name, "title": run.title, "made": when.isoformat(timespec="seconds"),
        "made_from": told_by, "digest": content_digest(description, kept_frames(run.folder)),
    }  # fmt: skip
    return Stored(values, {"utterances": run.utterances, "systems": run.systems, "signals": run.signals})


def plain_publication(run: SavedRun, stored: Stored) -> Publication:
    """What a run would be as a publication; its folder is the run's.

    Args:
        stored: of that run, from `plain_run`.

    Raises:
        HistoryError: its rows are inconsistent.
    """
    try:
        present = migrate(stored, 1, str(run.folder), MIGRATIONS)
    except ValueError as error:
        raise HistoryError(f"{run.folder} cannot be published: {error}") from error
    summary = as_table(present.frames["summary"], SUMMARY)
    return Publication(run.folder, publication_id(present.values), present.values, summary, CHANGES.empty_table())


def raw_description(folder: Path) -> dict[str, Any]:
    """run.json or sweep.json as it is."""
    return read_description(folder / description_name(folder), RunError)


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


def _plain(value: Any) -> Any:
    """Null for every kind of null, and a time as text."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, list)) else str(value)


def _made(folder: Path, description: Mapping[str, Any], made: datetime | None) -> tuple[datetime, str]:
    if finished := description.get("finished"):
        path = folder / description_name(folder)
        try:
            when = datetime.fromisoformat(finished)
        except (TypeError, ValueError):
            when = datetime.min
        if when.tzinfo is None:
            raise HistoryError(f"{path}: finished is {finished!r}: no time with a zone, as 2026-01-31T12:00:00+00:00")
        if made is not None:
            raise HistoryError(f"{path} says when it was made, {finished}: leave out --made")
        return when.astimezone(UTC), path.name
    if made is not None:
        return made.astimezone(UTC), "--made"
    path = folder / "utterances.parquet"
    return datetime.fromtimestamp(path.stat().st_mtime, UTC), "time of utterances.parquet"


def _read_values(path: Path) -> dict[str, Any]:
    try:
        return read_described(path, HistoryError)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise HistoryError(f"{path} is missing: {path.parent} is no publication, or not whole") from error


class _Board(Described):
    dataset: str
    protocol: str
    n: int


class _File(Described):
    bytes: int
    sha256: str


class _Form(Described):
    """publication.json, version 2."""

    name: str
    title: str
    digest: str
    kind: Literal["run", "folders", "sweep"]
    made: AwareDatetime
    made_from: str
    note: str
    version: str
    commit: str | None
    hardware: dict[str, Any] | None
    seed: Any
    baseline: str | None
    boards: list[_Board]
    metrics: dict[str, list[str]]
    weights_sha256: dict[str, Any]
    files: dict[str, _File]


def _check(path: Path, values: Mapping[str, Any]) -> None:
    """That what a site is built from is there, and every file of the size it had."""
    form = validated(_Form, values, f"{path} is damaged", HistoryError)
    for name, told in form.files.items():
        if Path(name).name != name:  # it may come from anybody, and is joined to a path
            raise HistoryError(f"{path} is damaged: files: {shown(name)} is no name of a file")
        file = path.parent / name
        if not file.is_file():
            raise HistoryError(f"{file} is missing: get it back, or publish that run again")
        if (size := file.stat().st_size) != told.bytes:
            raise HistoryError(f"{file} is damaged: {size:,} bytes, not {told.bytes:,}")


def _read_table(folder: Path, name: str, values: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    path = folder / name
    try:
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != values["files"][name]["sha256"]:
            raise ValueError("its SHA-256 is not the one in publication.json")
        return pq.ParquetFile(pa.BufferReader(raw)).read(columns=schema.names, use_threads=False).cast(schema)
    except (OSError, ValueError, KeyError) as error:
        raise HistoryError(f"{path} is damaged: {' '.join(str(error).split())}") from error


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
