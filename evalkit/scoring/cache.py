"""Scores and analyses kept between runs and shared by processes, so that equal signals are scored once.

One SQLite file, cache.sqlite, in the folder named by EVALKIT_CACHE (otherwise $XDG_CACHE_HOME/evalkit or
~/.cache/evalkit), on a local disk: several machines cannot share it. A key is a digest of all that the value depends
on, so an entry never goes stale; the least recently used leave when the size set by EVALKIT_CACHE_SIZE is exceeded.

The cache may be lost at any time and never changes a result: each entry carries a checksum, a damaged one counts as
missing, a damaged file is replaced by a new one, and where the disk is full or the folder cannot be written the process
goes on without (`Cache.problem` says why).
"""

from __future__ import annotations

import atexit
import hashlib
import json
import math
import os
import re
import sqlite3
import time
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.scoring.database import Damaged, Database, give_back, transaction
from evalkit.scoring.packing import pack, unpack
from q2d2.errors import UserError

DEFAULT_BYTES = 2 * 2**30
MIN_BYTES = 2**20
UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
SCHEMA_VERSION = 1
# The keys are digests, so rows fall at random places of the tree: space left by deleted rows is used again.
SCHEMA = (
    "CREATE TABLE entries (key BLOB PRIMARY KEY, used INTEGER NOT NULL, room INTEGER NOT NULL, "
    "checksum BLOB NOT NULL, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX entries_by_use ON entries (used, room)",
)
KEPT_WHEN_FULL = 0.9
# How much a process adds before it sums up all entries again, as a share of the size allowed.
UNCOUNTED_SHARE = 1 / 64
TOUCH_AFTER_MS = 3_600_000  # an entry read again within the hour is not marked again
TOUCH_EVERY_SECONDS = 5.0
KEYS_PER_QUERY = 500


class CacheError(UserError, ValueError):
    """A setting of the cache is wrong; the message says which and what is expected."""


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds, in the file `path`.

    Attributes:
        bytes: estimate of what the entries take of the file.
        max_bytes: what they may take; beside the file stands a write-ahead log of a few MB.
        oldest, newest: last use of the entries used longest ago and most recently, UTC; None if there are none.
    """

    path: Path
    entries: int
    bytes: int
    max_bytes: int
    oldest: datetime | None
    newest: datetime | None


def cache_key(*parts: Any) -> str:
    """64 hex digits that change with any of `parts`: JSON values, the order of a mapping's keys left aside.

    Raises:
        TypeError: a part is no JSON value.
        ValueError: a part is or holds NaN or infinity.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def content_digest(signal: NDArray[Any], sample_rate: int) -> str:
    """64 hex digits that change with the rate in Hz and with the type, shape or any bit of `signal` (samples,)."""
    digest = hashlib.sha256(f"{int(sample_rate)} {signal.dtype.str} {signal.shape}\n".encode())
    digest.update(np.ascontiguousarray(signal).data)
    return digest.hexdigest()


def parse_size(text: str) -> int:
    """Bytes of a size such as "500MB" or "1.5 GB" (1 KB is 1024 bytes).

    Raises:
        CacheError: no such size, or less than 1 MB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)\s*", text, re.IGNORECASE | re.ASCII)
    size = float(match[1]) * UNITS[match[2].upper()] if match else 0.0
    if not MIN_BYTES <= size < 2**60:
        raise CacheError(f"EVALKIT_CACHE_SIZE={text!r}: expected a size of at least 1MB, such as 500MB or 2GB")
    return int(size)


class Cache:
    """Values by key, on disk. Opened at first use; may be pickled, forked, and used by several threads.

    A value is a mapping from names to JSON values and numpy arrays, and comes back equal to the bit. No method raises
    for what is wrong with the file or its folder: then nothing is found and nothing kept, and `problem` says why.

    Args:
        folder: where the file is or will be; made if missing.
        max_bytes: size beyond which the least recently used entries leave, until 90 % of it are taken.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_BYTES) -> None:
        self.path = Path(folder) / "cache.sqlite"
        self.max_bytes = max_bytes
        self._database = Database(self.path, SCHEMA, SCHEMA_VERSION)
        self._uncounted: float = math.inf
        self._touched: set[bytes] = set()
        self._touch_at = -math.inf
        _caches.add(self)

    @classmethod
    def from_environment(cls) -> Cache:
        """The cache that EVALKIT_CACHE and EVALKIT_CACHE_SIZE ("500MB", "2GB") name.

        Raises:
            CacheError: EVALKIT_CACHE_SIZE is no size.
        """
        folder = os.environ.get("EVALKIT_CACHE")
        if not folder:
            folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "evalkit")
        size = os.environ.get("EVALKIT_CACHE_SIZE")
        return cls(Path(os.path.expanduser(folder)), parse_size(size) if size else DEFAULT_BYTES)

    def __reduce__(self) -> tuple[type[Cache], tuple[Path, int]]:
        return Cache, (self.path.parent, self.max_bytes)

    @property
    def problem(self) -> str:
        """Why this process goes on without a cache, in one line; empty while it works."""
        why = self._database.problem
        return why and f"scores are not kept for the next run: {why}; EVALKIT_CACHE can name another folder"

    def get(self, key: str) -> dict[str, Any] | None:
        """The value of `key`, or None."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The values of those of `keys` that there are."""
        wanted = {key.encode(): key for key in keys}
        return self._database.run(lambda connection: self._read(connection, wanted), {})

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a value, in place of an earlier one; one larger than half the cache is not kept.

        Raises:
            TypeError: it holds something that is neither a JSON value nor an array of numbers or text.
        """
        self.put_many({key: value})

    def put_many(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep many values at once, much faster than one by one; other processes see all or none of them."""
        packed = [(key.encode(), pack(value)) for key, value in entries.items()]
        rows = [(key, _room(key, value), _checksum(key, value), value) for key, value in packed]
        fitting = [row for row in rows if row[1] <= self.max_bytes / 2]
        if fitting:
            self._database.run(lambda connection: self._write(connection, fitting), None)

    def info(self) -> CacheInfo:
        """What the cache holds; nothing, if it does not work."""
        count = "SELECT COUNT(*), COALESCE(SUM(room), 0), MIN(used), MAX(used) FROM entries"
        nothing = (0, 0, None, None)
        entries, size, *used = self._database.run(lambda connection: connection.execute(count).fetchone(), nothing)
        oldest, newest = (None if moment is None else datetime.fromtimestamp(moment / 1000, UTC) for moment in used)
        return CacheInfo(self.path, entries, size, self.max_bytes, oldest, newest)

    def clear(self) -> int:
        """Remove all entries and give their space back to the disk; the number removed."""
        return self._database.run(_remove_all, 0)

    def close(self) -> None:
        """Write what is pending and release the file; the next call opens it again."""
        if self._touched:
            self._database.run(self._mark_used, None)
        self._database.close()

    def _read(self, connection: sqlite3.Connection, wanted: Mapping[bytes, str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        damaged = []
        now = _milliseconds()
        keys = list(wanted)
        for start in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[start : start + KEYS_PER_QUERY]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, used, checksum, value FROM entries WHERE key IN ({marks})"
            for key, used, checksum, value in connection.execute(query, some).fetchall():
                try:
                    if checksum != _checksum(key, value):
                        raise ValueError("the checksum is that of another value")
                    found[wanted[key]] = unpack(value)
                    if abs(now - used) > TOUCH_AFTER_MS:  # also where the clock was wrong and is right again
                        self._touched.add(key)
                except (ValueError, TypeError):
                    damaged.append((key, checksum))
        if damaged:
            with transaction(connection):
                connection.executemany("DELETE FROM entries WHERE key = ? AND checksum IS ?", damaged)
        if self._touched and time.monotonic() > self._touch_at:
            self._mark_used(connection)
        return found

    def _mark_used(self, connection: sqlite3.Connection) -> None:
        now = _milliseconds()
        with transaction(connection):
            marks = [(now, key) for key in self._touched]
            connection.executemany("UPDATE entries SET used = ? WHERE key = ?", marks)
        self._touched.clear()
        self._touch_at = time.monotonic() + TOUCH_EVERY_SECONDS

    def _write(self, connection: sqlite3.Connection, rows: list[tuple[bytes, int, bytes, bytes]]) -> None:
        now = _milliseconds()
        with transaction(connection):
            insert = "INSERT OR REPLACE INTO entries (used, key, room, checksum, value) VALUES (?, ?, ?, ?, ?)"
            connection.executemany(insert, [(now, *row) for row in rows])
            find = "SELECT 1 FROM entries WHERE key = ?"
            if any(connection.execute(find, row[:1]).fetchone() is None for row in rows):
                raise Damaged("an entry is not found where it was put")  # keys out of order, no error of SQLite's
        self._uncounted += sum(row[1] for row in rows)
        if self._uncounted > self.max_bytes * UNCOUNTED_SHARE:
            self._mark_used(connection)
            _remove_oldest(connection, self.max_bytes)
            self._uncounted = 0


def _remove_oldest(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Where all entries take more than `max_bytes`, remove the least recently used until 90 % of it are taken."""
    with transaction(connection):
        (room,) = connection.execute("SELECT COALESCE(SUM(room), 0) FROM entries").fetchone()
        keys = []
        if room > max_bytes:
            for key, size in connection.execute("SELECT key, room FROM entries ORDER BY used, room"):
                if room <= max_bytes * KEPT_WHEN_FULL:
                    break
                keys.append((key,))
                room -= size
            connection.executemany("DELETE FROM entries WHERE key = ?", keys)
    give_back(connection, max_bytes)


def _remove_all(connection: sqlite3.Connection) -> int:
    removed = connection.execute("DELETE FROM entries").rowcount
    give_back(connection, 0)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return removed


def _checksum(key: bytes, packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=16, key=hashlib.sha256(key).digest()).digest()


def _room(key: bytes, packed: bytes) -> int:
    """Bytes that an entry takes of the file: whole pages beyond 1000 bytes, and trees that are two thirds full."""
    row = len(key) + len(packed) + 30
    pages = 0 if row <= 1000 else math.ceil((row - 490) / 4092)
    return int(1.5 * (min(row, 700) + len(key) + 16)) + 4096 * pages


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


_caches: weakref.WeakSet[Cache] = weakref.WeakSet()
atexit.register(lambda: list(map(Cache.close, _caches)))
