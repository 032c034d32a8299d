"""A run's folder: rows appended while the run goes on, and what is made of them at the end.

While a run goes on, each scored utterance is one line of journal.jsonl, on disk before the next one starts. A kill at
any moment loses at most the utterances in hand. A line begins with a digest of its JSON: one that does not fit, torn or
changed on the disk, is left out when the journal is opened again, and what it held is scored again. Journals of earlier
versions have lines without digests at their beginning.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray

from evalkit.run.frames import write_parquet
from evalkit.scoring.pair import Score
from q2d2.errors import UserError
from q2d2.files import open_own, remove_leftovers, whole, write_atomically
from q2d2.limits import require_integer, require_size

# 2: scores carry the metric's version, rows also the protocol.
SCHEMA_VERSION = 2
DIGEST_DIGITS = 16
MAX_CODES = 2**26  # of one utterance: days of speech
UTTERANCE_COLUMNS = (
    "system", "dataset", "utterance", "speaker", "metric", "value", "status", "detail", "seconds",
    "protocol", "version",
)  # fmt: skip
SIGNAL_COLUMNS = ("system", "dataset", "utterance", "speaker", "seconds", "reference_sha256", "estimate")


def example_path(folder: Path, utterance: str, system: str) -> Path:
    """Where the audio of an example utterance is kept."""
    return folder / "audio" / utterance.replace("/", "_") / f"{system}.flac"


def read_example(path: Path) -> tuple[NDArray[np.float32], int, str] | None:
    """The audio (samples,) of a kept example, its rate in Hz and its comment; None if it is not there whole."""
    try:
        with soundfile.SoundFile(path) as file:
            return file.read(dtype="float32"), file.samplerate, str(file.comment)
    except (soundfile.LibsndfileError, OSError):
        return None


class StoreError(UserError, RuntimeError):
    """The run's folder cannot be used; the message says why and what to do."""


class RunInUse(StoreError):
    """Another process is at work in the run's folder."""


@dataclass(frozen=True)
class UtteranceRecord:
    """Everything kept of one utterance through one system.

    Attributes:
        system: name of the system.
        key: digest of all that the scores depend on but the metrics; a record with another key is not reused.
        utterance: id.
        scores: at most one per metric.
        codes: (quantizers, frames) int64, or None.
        bits: of the coded stream, where the system's rate is not nominal; else None.
    """

    system: str
    key: str
    utterance: str
    scores: tuple[Score, ...]
    codes: NDArray[np.int64] | None
    bits: int | None = None

    def numbers(self, versions: Mapping[str, str]) -> dict[str, Score]:
        """The scores that are numbers by the metrics and versions asked for."""
        found = {score.metric: score for score in self.scores if score.status == "ok"}
        return {name: score for name, score in found.items() if versions.get(name) == score.version}

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "system": self.system, "key": self.key, "utterance": self.utterance,
            "scores": [vars(score) for score in self.scores],
        }  # fmt: skip
        if self.codes is not None:
            packed = zlib.compress(self.codes.astype("<i4").tobytes())
            values["codes"] = {"shape": self.codes.shape, "zlib_int32": base64.b64encode(packed).decode()}
        if self.bits is not None:
            values["bits"] = self.bits
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> UtteranceRecord:
        codes = None
        if packed := values.get("codes"):
            codes = _unpacked(packed["shape"], base64.b64decode(packed["zlib_int32"]))
        scores = tuple(Score(**score) for score in values["scores"])
        return cls(values["system"], values["key"], values["utterance"], scores, codes, values.get("bits"))


def _unpacked(shape: list[int], packed: bytes) -> NDArray[np.int64]:
    """Codes of the shape that was promised, and no byte more is inflated than these take."""
    for length in shape:
        require_integer("a length of codes", length, 0, MAX_CODES)
    require_size("codes of an utterance", shape, MAX_CODES)
    inflater = zlib.decompressobj()
    # One byte more than promised, as 0 would mean no bound at all.
    raw = inflater.decompress(packed, 4 * math.prod(shape) + 1)
    if not inflater.eof:
        raise ValueError("codes are cut off, or more than their shape says")
    return np.frombuffer(raw, "<i4").astype(np.int64).reshape(shape)


class RunStore:
    """One run's folder, held by one process at a time (not: by one object within a process).

    Args:
        folder: made if missing.

    Attributes:
        damaged: how many lines of the journal were damaged and are left out.

    Raises:
        RunInUse: another process holds the folder.
        StoreError: the journal is of another schema version.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # A record lock, unlike one of flock(2), is not handed on to forked processes: those that read audio ahead
        # outlive a killed run by seconds and would keep the folder locked.
        self._lock = open_own(folder / ".lock", "w")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            self._lock.close()
            raise RunInUse(f"{folder} is in use by another run; wait for it or choose another --out") from error
        self.damaged = 0
        self._journal = folder / "journal.jsonl"
        self._description: dict[str, Any] | None = None
        self._records: dict[tuple[str, str, str], UtteranceRecord] = {}
        self._speeds: dict[tuple[str, str], dict[str, Any]] = {}
        try:
            remove_leftovers(folder)
            self._read_journal()
            self._file = open_own(self._journal, "ab", buffering=0)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> RunStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        finally:
            self._lock.close()

    @property
    def damage(self) -> str:
        """What a user should know of a damaged journal; empty where it is whole."""
        if not self.damaged:
            return ""
        lines = "1 line was" if self.damaged == 1 else f"{self.damaged} lines were"
        return f"{self._journal}: {lines} damaged on the disk; what is missing is scored again"

    def record(self, system: str, key: str, utterance: str) -> UtteranceRecord | None:
        """The record of an utterance, if there is one with this key."""
        return self._records.get((system, key, utterance))

    def append(self, record: UtteranceRecord) -> None:
        """Keep a record; it is on disk when this returns."""
        self._write(_record_entry(record))
        self._records[record.system, record.key, record.utterance] = record

    def speed(self, system: str, key: str) -> dict[str, Any] | None:
        """What was measured of a system's speed, if it was."""
        return self._speeds.get((system, key))

    def append_speed(self, system: str, key: str, values: dict[str, Any]) -> None:
        """Keep a speed measurement (columns of systems.parquet)."""
        self._write(_speed_entry(system, key, values))
        self._speeds[system, key] = values

    def take_over(self, other: RunStore) -> None:
        """Keep every record and speed of another run's folder that is not here yet."""
        records = {place: record for place, record in other._records.items() if place not in self._records}
        speeds = {place: values for place, values in other._speeds.items() if place not in self._speeds}
        self._write(*map(_record_entry, records.values()), *(_speed_entry(*place, speeds[place]) for place in speeds))
        self._records |= records
        self._speeds |= speeds

    def write_run(self, description: dict[str, Any]) -> None:
        """Write run.json, with the time (UTC) at which the last record was made or the rows were last changed."""
        last = datetime.fromtimestamp(self._journal.stat().st_mtime, UTC).isoformat(timespec="seconds")
        self._description = description
        values = {"schema_version": SCHEMA_VERSION, "finished": last, **description}
        text = json.dumps(values, indent=2, ensure_ascii=False)
        write_atomically(self.folder / "run.json", text + "\n")

    def write_frame(self, frame: pd.DataFrame, name: str) -> Path:
        """Write a frame as NAME.parquet, whole or not at all."""
        path = self.folder / f"{name}.parquet"
        known = path.is_file()
        if write_parquet(frame, path) and known:  # perhaps to records of an earlier call: another result, of now
            os.utime(self._journal)
            if self._description is not None:
                self.write_run(self._description)
        return path

    def _write(self, *entries: dict[str, Any]) -> None:
        left = memoryview("".join(map(_line, entries)).encode())
        try:
            while left:  # nearly always once: a write stops short where the disk is full
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._journal)) from error

    def _read_journal(self) -> None:
        open_own(self._journal, "ab").close()  # refuses a link before what it points to is taken for a journal
        raw = self._journal.read_bytes()
        lines = raw.split(b"\n")[:-1]
        if not lines:  # new, or killed within the first line
            write_atomically(self._journal, _line({"schema_version": SCHEMA_VERSION}))
            return
        kept = []
        digested = lines[0][DIGEST_DIGITS : DIGEST_DIGITS + 1] == b" "
        for number, line in enumerate(lines, 1):
            try:
                text = _checked(line, digested)
                self._take(json.loads(text), number)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error):
                continue
            digested |= text is not line  # lines without a digest are of an earlier version, and come first
            kept.append(line)
        self.damaged = len(lines) - len(kept)
        if self.damaged or not raw.endswith(b"\n"):
            self._rewrite(kept)

    def _rewrite(self, lines: Sequence[bytes]) -> None:
        """Keep these lines alone; the journal keeps its time, as no record was made now."""
        status = self._journal.stat()
        if not (lines and b'"schema_version"' in lines[0]):  # the first one was damaged
            lines = [_line({"schema_version": SCHEMA_VERSION}).encode().rstrip(b"\n"), *lines]
        with whole(self._journal) as part:
            part.write_bytes(b"".join(line + b"\n" for line in lines))
        os.utime(self._journal, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _take(self, entry: dict[str, Any], number: int) -> None:
        if number == 1 and entry.get("schema_version") != SCHEMA_VERSION:
            raise StoreError(
                f"{self._journal} has schema version {entry.get('schema_version')!r}, this version reads "
                f"{SCHEMA_VERSION}; move that file away to score everything again (nothing is trained again), or "
                "choose another --out"
            )
        if "utterance_record" in entry:
            record = UtteranceRecord.from_json(entry["utterance_record"])
            self._records[record.system, record.key, record.utterance] = record
        elif "speed_record" in entry:
            speed = entry["speed_record"]
            self._speeds[speed["system"], speed["key"]] = speed["values"]
        elif number > 1:
            raise ValueError("no record")


def _line(entry: dict[str, Any]) -> str:
    text = json.dumps(entry)
    return f"{_digest(text.encode())} {text}\n"


def _checked(line: bytes, digested: bool) -> bytes:
    """The JSON of a line, which has a digest unless it is of an earlier version (`digested` is False).

    Raises:
        ValueError: it is not what was written.
    """
    if line.startswith(b"{") and not digested:
        return line
    digest, _, text = line.partition(b" ")
    if digest != _digest(text).encode():
        raise ValueError("the digest is that of another line")
    return text


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:DIGEST_DIGITS]


def _record_entry(record: UtteranceRecord) -> dict[str, Any]:
    return {"utterance_record": record.to_json()}


def _speed_entry(system: str, key: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"speed_record": {"system": system, "key": key, "values": values}}
