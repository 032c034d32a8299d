"""The CSV of --pairs: which estimate belongs to which original, row by row."""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

from evalkit.scoring.pairing import Catalogue, PairingError, Wanted, speaker_of
from evalkit.text import normalized
from q2d2.suffixes import without_suffix

COLUMNS = {"reference", "estimate"}
SEPARATORS = ",;\t"
Row = dict[str, str]


def by_mapping(originals: Catalogue, mapping: Path) -> dict[str, Wanted]:
    """What the rows name, whether it is there or not.

    Raises:
        PairingError: the file cannot be read, a name is ambiguous or outside its folder, an original comes twice.
    """
    wanted: dict[str, Wanted] = {}
    for line, row in _read_mapping(mapping):
        given = row["reference"]
        where = f"{mapping}, line {line}"
        path = originals.find(given, f"{where}: reference", mapping.parent)
        if path is not None:
            name = originals.name_of(path)
        else:
            refuse_outside([originals], given, where)
            path, name = _missing(originals.folder, given)
        if name in wanted:
            raise PairingError(f"{where}: {given} for the second time, first in line {wanted[name].line}")
        wanted[name] = Wanted(path, row.get("speaker") or speaker_of(posixpath.basename(name)), row["estimate"], line)
    return wanted


def find_by_mapping(wanted: Mapping[str, Wanted], estimates: Catalogue, mapping: Path) -> dict[str, Path]:
    """The estimates that rows name and the folder has.

    Raises:
        PairingError: a name is ambiguous, or two rows name one file.
    """
    found: dict[str, Path] = {}
    lines: dict[Path, int] = {}
    for name, entry in wanted.items():
        where = f"{mapping}, line {entry.line}"
        path = estimates.find(entry.estimate, f"{where}: estimate of {name}", mapping.parent)
        if path is None:
            continue
        if path in lines:
            raise PairingError(f"{where}: {entry.estimate} for the second time, first in line {lines[path]}")
        lines[path] = entry.line
        found[name] = path
    return found


def refuse_outside(folders: Sequence[Catalogue], name: str, where: str) -> None:
    """Raise PairingError where an absolute path leads to a file that is there and in none of the folders."""
    if os.path.isabs(name) and os.path.isfile(name) and not any(each.find(name, where) for each in folders):
        raise PairingError(f"{where}: {name} is not in {' or '.join(str(each.folder) for each in folders)}")


def _missing(folder: Path, given: str) -> tuple[Path, str]:
    """Where a file that is not there would be, and what its utterance is called."""
    inner = posixpath.normpath(given.replace("\\", "/"))
    path = Path(os.path.abspath(folder / inner))
    here = Path(os.path.abspath(folder))
    name = (
        path.relative_to(here).as_posix() if path.is_relative_to(here) and path != here else posixpath.basename(inner)
    )
    return folder / inner, normalized(without_suffix(name))


def _read_mapping(path: Path) -> list[tuple[int, Row]]:
    """The rows with their lines: values without blanks around them, in composed form."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = max(SEPARATORS, key=first.count)  # the first of equals
            file.seek(0)
            lines = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
            rows = [(lines.line_num, [normalized(value.strip()) for value in row]) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairingError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    rows = [(line, row) for line, row in rows if any(row)]
    columns = rows[0][1] if rows else []
    if not set(columns) >= COLUMNS:
        shown = ", ".join(columns)[:100] or "none"
        raise PairingError(f"{path}: columns reference and estimate are needed, found {shown}")
    if len(set(columns)) < len(columns):
        raise PairingError(f"{path}: a column comes twice: {', '.join(columns)[:100]}")
    found = []
    for line, values in rows[1:]:
        if len(values) > len(columns):
            raise PairingError(
                f"{path}, line {line}: {len(values)} values, the first line names {len(columns)} columns; a name that "
                f"holds {separator!r} needs quotes"
            )
        row = dict(zip(columns, values, strict=False))
        if not row.get("reference") or not row.get("estimate"):
            raise PairingError(f"{path}, line {line}: reference or estimate is empty")
        found.append((line, row))
    return found
