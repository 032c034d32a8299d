"""Which files belong together: by equal names, or by a CSV that says so."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evalkit.datasets.corpus import find_audio
from evalkit.systems import GroundTruth
from q2d2.errors import UserError

# Names of these corpora begin with the speaker.
SPEAKER_PATTERNS = (
    re.compile(r"(\d+)-\d+-\d{4,}"),  # LibriSpeech
    re.compile(r"(\d+)_\d+_\d{6}_\d{6}"),  # LibriTTS
    re.compile(r"(p\d{3})_\d{3}"),  # VCTK
)
MAX_NAME_BYTES = 100  # systems name files


class PairingError(UserError, ValueError):
    """Folders that cannot be paired; the message names the folder or file and the way out."""


def list_audio(folder: Path, others: Iterable[Path]) -> list[Path]:
    """The audio files below `folder`, but for those in one of `others` that lies inside it."""
    if not folder.is_dir():
        raise PairingError(f"{folder}: no such folder")
    here = folder.resolve()
    inside = [other for other in map(Path.resolve, others) if other != here and other.is_relative_to(here)]
    files = [path for path in find_audio(folder) if not any(path.resolve().is_relative_to(other) for other in inside)]
    if not files:
        raise PairingError(f"{folder}: no audio files in it")
    for path in files:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise PairingError(
                f"{folder}: the file name {str(path.name).encode(errors='replace')!r} is no UTF-8"
            ) from None
    return files


def named_folders(estimates: Sequence[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for given in estimates:
        name, equals, folder = given.partition("=")
        if equals and "/" not in name and not Path(given).is_dir():  # a folder may be called "lr=0.001"
            path = Path(folder)
        else:
            name, path, folder = Path(given).resolve().name, Path(given), given
        if not name or not folder or len(name.encode()) > MAX_NAME_BYTES:
            raise PairingError(f"{given}: expected DIR or NAME=DIR, NAME of at most {MAX_NAME_BYTES} bytes")
        if name == GroundTruth.name:
            raise PairingError(f"{given}: {name} is what the references are called; give it as NAME={path}")
        if name in named:
            raise PairingError(f"{named[name]} and {path} are both called {name}; give one as NAME={path}")
        named[name] = path
    return named


class Wanted(NamedTuple):
    """What belongs to an utterance: its original, the name of its estimates, its speaker if known."""

    reference: Path
    estimate: str
    speaker: str | None


# By each name that a file may be given: the files it may be.
Known = dict[str, list[Path]]


def by_equal_names(folder: Path, originals: Sequence[Path]) -> dict[str, Wanted]:
    known = known_by_stem(folder, originals)
    return {stem: Wanted(path, stem, _speaker(stem)) for stem, (path,) in known.items()}


def by_mapping(folder: Path, originals: Sequence[Path], mapping: Path) -> dict[str, Wanted]:
    known = known_by_any_name(folder, originals)
    wanted: dict[str, Wanted] = {}
    for line, row in _read_mapping(mapping):
        path = look_up(known, row["reference"], f"{mapping}, line {line}: reference", folder)
        if path is None:
            raise PairingError(f"{mapping}, line {line}: no reference {row['reference']!r} in {folder}")
        # Two of one name, as in bdl/a0001.wav and slt/a0001.wav, are told apart by their folders.
        below = path.relative_to(folder).with_suffix("").as_posix()
        name = path.stem if len(known[path.stem]) == 1 else below
        if name in wanted:
            raise PairingError(f"{mapping}, line {line}: {row['reference']} for the second time")
        wanted[name] = Wanted(path, row["estimate"], row.get("speaker") or _speaker(path.stem))
    return wanted


def known_by_stem(folder: Path, files: Iterable[Path]) -> Known:
    found: Known = {}
    for path in files:
        if path.stem in found:
            first, second = found[path.stem][0].relative_to(folder), path.relative_to(folder)
            raise PairingError(
                f"{folder}: {first} and {second} have one name; give --pairs with a CSV that tells them apart"
            )
        found[path.stem] = [path]
    return found


def known_by_any_name(folder: Path, files: Iterable[Path]) -> Known:
    known: Known = {}
    for path in files:
        below = path.relative_to(folder)
        for name in {below.as_posix(), below.with_suffix("").as_posix(), path.name, path.stem}:
            known.setdefault(name, []).append(path)
    return known


def look_up(known: Known, name: str, what: str, folder: Path) -> Path | None:
    paths = known.get(name, [])
    exact = [path for path in paths if path.relative_to(folder).as_posix() == name]
    if len(exact) == 1:
        return exact[0]
    if len(paths) > 1:
        shown = ", ".join(str(path.relative_to(folder)) for path in paths[:2])
        raise PairingError(f"{what}: {name!r} may be {shown}; write the path below {folder}")
    return paths[0] if paths else None


def _read_mapping(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairingError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not {"reference", "estimate"} <= set(columns):
        raise PairingError(f"{path}: columns reference and estimate are needed, found {', '.join(columns) or 'none'}")
    for line, row in rows:
        if not row["reference"] or not row["estimate"]:
            raise PairingError(f"{path}, line {line}: reference or estimate is empty")
    return rows


def _speaker(stem: str) -> str | None:
    for pattern in SPEAKER_PATTERNS:
        if match := pattern.fullmatch(stem):
            return match[1]
    return None
