"""One SQLite file that may be lost at any time: a damaged one is replaced by a new one, and no error gets out.

Any number of processes and threads of one machine may use it. Several machines must not: write-ahead logging works by
shared memory, so the file belongs on a local disk. Where SQLite refuses that mode, a rollback journal takes its place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

BUSY_SECONDS = 60.0
RETRY_SECONDS = 0.02
LOG_BYTES = 2**23  # what a large transaction leaves of the write-ahead log
BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_TOOBIG}
# Extended codes: a file shorter than its header says, and one that another process has replaced.
DAMAGED_DETAIL = {sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_READONLY_DBMOVED}
FREE_BYTES = 2**26  # a disk with so much left is not full

T = TypeVar("T")


class Damaged(sqlite3.DatabaseError):
    """The file holds something else than it should; raised within `Database.run`, it has the file replaced."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class Database:
    """An SQLite file with given tables, made and opened at the first `run`.

    A file that is damaged, or has other tables, is deleted and made anew, empty. Where that does not help (full disk,
    folder that cannot be written, file busy for a minute) this object goes out of service.

    Args:
        path: the file; its folder is made if missing, and gets a lock file beside it.
        schema: the statements that make all tables and indices, as SQLite stores them (one space after CREATE TABLE).
        version: of the schema and of what the columns mean.

    Attributes:
        problem: why it is out of service, in one line; empty while it works.
    """

    def __init__(self, path: Path, schema: Sequence[str], version: int) -> None:
        self.path = path
        self.problem = ""
        self._schema = schema
        self._version = version
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        _databases.add(self)

    def __del__(self) -> None:
        if self._connection is not None:  # by itself it would wait for the garbage collector, locks and all
            self._connection.close()

    def run(self, operation: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """The result of `operation`, or `otherwise` when out of service.

        `operation` gets a connection without a transaction open, and is called again where the file was busy or had to
        be replaced. Text comes as bytes.
        """
        deadline = time.monotonic() + BUSY_SECONDS
        replacements = 2
        damaged = False
        with _guard:
            while not self.problem:
                try:
                    if damaged:
                        self._replace()
                        damaged = False
                    if self._connection is None:
                        self._connection = self._open()
                    return operation(self._connection)
                except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
                    damaged = self._is_damage(error)
                    if damaged and replacements:
                        replacements -= 1
                        continue
                    self.close()
                    if _code(error) in BUSY and time.monotonic() < deadline:
                        time.sleep(RETRY_SECONDS)
                    else:
                        self.problem = f"{self.path}: {error}"
                except BaseException:  # a transaction may be open
                    self.close()
                    raise
        return otherwise

    def close(self) -> None:
        """Release the file; the next `run` opens it again."""
        with _guard:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path):
            try:
                connection = self._connect()
            except (sqlite3.Error, UnicodeDecodeError) as error:
                # A damaged header can make a file look like one of a later SQLite, or like a protected one.
                foreign = _code(error) == sqlite3.SQLITE_ERROR
                protected = _code(error) == sqlite3.SQLITE_READONLY
                if not (self._is_damage(error) or foreign or (protected and os.access(self.path, os.W_OK))):
                    raise
                _delete(self.path)
                connection = self._connect()
            self._identity = _identity(self.path)
        return connection

    def _is_damage(self, error: Exception) -> bool:
        if isinstance(error, UnicodeDecodeError):  # an error of SQLite whose message quotes damaged text
            return True
        if _code(error) == sqlite3.SQLITE_FULL:  # or the header claims the largest size there is
            return shutil.disk_usage(self.path.parent).free > FREE_BYTES
        return _code(error) in DAMAGED or getattr(error, "sqlite_errorcode", 0) in DAMAGED_DETAIL

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.text_factory = bytes  # damaged text is no reason for another kind of exception
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA cell_size_check = ON")
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            # A power cut takes the last entries with a log in mode NORMAL; with a journal it could take the file.
            connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == b'wal' else 'FULL'}")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            with transaction(connection):
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                found = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")]
                if version == 0 and not found:
                    for statement in self._schema:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {self._version}")
                elif version != self._version or set(found) != {statement.encode() for statement in self._schema}:
                    raise Damaged(f"other tables than those of version {self._version}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _replace(self) -> None:
        """Delete the file, unless another process has done so and this is a new one.

        The old connection stays open meanwhile: else the new file could get the old one's number. Other processes that
        hold the deleted file go on with that one, in which SQLite notices the move and touches no file beside it.
        """
        with _locked(self.path):
            if self._identity == _identity(self.path):
                _delete(self.path)
        self.close()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All writes of the block, or none of them; after an exception the connection is to be closed."""
    connection.execute("BEGIN IMMEDIATE")  # a reader that wants to write only later may be refused at once
    yield
    connection.execute("COMMIT")


def give_back(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Shorten the file towards `max_bytes` by the pages that nothing uses."""
    (page_bytes,), (pages,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "page_count"))
    excess = pages - max_bytes // page_bytes
    if excess > pages / 4:
        # The other way takes time by the square of the pages. This one needs room on the disk: where it fails, later.
        with suppress(sqlite3.OperationalError):
            connection.execute("VACUUM")
    elif excess > 0:
        connection.executescript(f"PRAGMA incremental_vacuum({excess})")  # execute() would free one page only


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock under which files are made, opened and deleted.

    Raises:
        TimeoutError: another process has held it for a minute.
        OSError: the lock file cannot be made.
    """
    descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process has held {path}-lock for {BUSY_SECONDS:g} s") from None
                time.sleep(RETRY_SECONDS / 10)
        yield
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _code(error: Exception) -> int:
    """SQLite's primary code of an error; 0 for one that is not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


# A connection must not pass through fork(2): its locks do not, and SQLite in the child would count on them. So all are
# closed before, and opened again by whoever needs them.
_guard = threading.RLock()
_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    _guard.acquire()
    for database in list(_databases):
        database.close()


def _after_fork_in_parent() -> None:
    _guard.release()


def _after_fork_in_child() -> None:
    global _guard
    _guard = threading.RLock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
