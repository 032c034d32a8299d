"""A file that is damaged, locked, full, forked or shared never gives a wrong value or an error."""

from __future__ import annotations

import fcntl
import os
import pickle
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evalkit.scoring import database
from evalkit.scoring.cache import Cache
from tests.cache_entries import expected, fail_once, filled, forked, key, right, works_again
from tests.obstacles import full_disk

ROOT = Path(__file__).parents[1]
# Each process puts its own entries and some that all put, and checks whatever it finds of the others'.
WORK = """
import sys
from pathlib import Path
from tests.cache_entries import expected, key, right
from evalkit.scoring.cache import Cache

folder, processes, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cache = Cache(folder)
for step in range(60):
    for entry in (1000 * number + step, step):
        cache.put(key(entry), expected(entry))
        assert cache.get(key(entry)) is not None, entry
    right(cache, [1000 * other + step for other in range(1, processes + 1)])
assert not cache.problem, cache.problem
"""


class TestDamage:
    @pytest.mark.parametrize("offset", [0, 16, 18, 19, 20, 28, 32, 36, 40, 44, 47, 52, 56, 60, 64, 96, 100, 103, 107])
    def test_header_is_replaced_or_harmless(self, tmp_path: Path, offset: int) -> None:
        cache = filled(tmp_path)
        cache.close()
        raw = bytearray(cache.path.read_bytes())
        raw[offset] ^= 0x55
        cache.path.write_bytes(raw)
        right(Cache(tmp_path), list(range(120)))
        works_again(tmp_path, 200)

    @pytest.mark.parametrize("byte", [b"\xff", b"\0", b"x"])
    def test_schema_is_replaced(self, tmp_path: Path, byte: bytes) -> None:
        cache = filled(tmp_path)
        cache.close()
        cache.path.write_bytes(cache.path.read_bytes().replace(b"INDEX entries", b"INDEX entr" + byte + b"es"))
        assert cache.get(key(0)) is None
        works_again(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"SQLite format 3", b"no database " * 999, bytes(9999), 4096, 5000, -1])
    def test_what_is_no_whole_database_is_replaced(self, tmp_path: Path, content: bytes | int) -> None:
        cache = filled(tmp_path)
        cache.close()
        cache.path.write_bytes(content if isinstance(content, bytes) else cache.path.read_bytes()[:content])
        right(cache, list(range(120)))
        works_again(tmp_path)

    def test_at_random_places_never_gives_a_wrong_value(self, tmp_path: Path) -> None:
        cache = filled(tmp_path)
        cache.close()
        whole = cache.path.read_bytes()
        generator = random.Random(0)
        for _ in range(40):
            raw = bytearray(whole)
            start = generator.randrange(len(raw))
            size = generator.choice([1, 8, 600, 4096])
            raw[start : start + size] = generator.randbytes(len(raw[start : start + size]))
            cache.path.write_bytes(raw)
            right(cache, list(range(120)))
            works_again(tmp_path)

    def test_another_schema_is_replaced(self, tmp_path: Path) -> None:
        cache = filled(tmp_path)
        cache.close()
        for statement in ("PRAGMA user_version = 99", "ALTER TABLE entries ADD COLUMN more", "DROP TABLE entries"):
            with closing(sqlite3.connect(cache.path)) as connection, connection:
                connection.execute(statement)
            assert Cache(tmp_path).get(key(0)) is None
            works_again(tmp_path)

    def test_processes_that_hold_the_replaced_file_do_no_harm(self, tmp_path: Path) -> None:
        before, finder = filled(tmp_path), Cache(tmp_path)
        fail_once(finder, sqlite3.SQLITE_CORRUPT)
        finder.put("new", {"value": 1})
        before.put("lost", {"value": 2})
        before.close()
        assert Cache(tmp_path).get("new") == {"value": 1}
        assert (tmp_path / "cache.sqlite-wal").stat().st_size > 0
        assert before.get_many(["new", "lost"]) == {"new": {"value": 1}}

    def test_found_by_two_is_replaced_once(self, tmp_path: Path) -> None:
        first, second = filled(tmp_path), Cache(tmp_path)
        assert second.get(key(0)) is not None
        fail_once(first, sqlite3.SQLITE_CORRUPT)
        first.put("new", {"value": 1})
        fail_once(second, sqlite3.SQLITE_CORRUPT)
        assert second.get_many(["new", key(0)]) == {"new": {"value": 1}}

    def test_entry_that_vanishes_where_it_is_put_has_the_file_replaced(self, tmp_path: Path) -> None:
        """As keys that are out of order make it, of which SQLite notices nothing."""
        cache = filled(tmp_path)
        vanish = "CREATE TEMP TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries WHERE key = new.key; END"
        cache._database.run(lambda connection: connection.execute(vanish), None)
        cache.put("new", {"value": 1})
        assert cache.get_many(["new", key(0)]) == {"new": {"value": 1}}
        assert cache.problem == ""

    def test_removed_folder_is_made_again(self, tmp_path: Path) -> None:
        cache = filled(tmp_path / "cache")
        shutil.rmtree(tmp_path / "cache")
        cache.put("k", {"value": 1})
        assert cache.problem == ""
        works_again(tmp_path / "cache")


class TestProcesses:
    @pytest.mark.parametrize(("processes", "content"), [(2, None), (4, None), (4, b"no database " * 999)])
    def test_write_and_read_at_once(self, tmp_path: Path, processes: int, content: bytes | None) -> None:
        if content:
            (tmp_path / "cache.sqlite").write_bytes(content)
        numbers = range(1, processes + 1)
        command = [sys.executable, "-c", WORK, str(tmp_path), str(processes)]
        started = [subprocess.Popen([*command, str(number)], cwd=ROOT) for number in numbers]
        assert [process.wait() for process in started] == [0] * processes
        every = [1000 * number + step for number in (0, *numbers) for step in range(60)]
        assert right(Cache(tmp_path), every) == every

    def test_killed_while_writing_leave_nothing_wrong(self, tmp_path: Path) -> None:
        generator = random.Random(0)
        found = 0

        def write() -> None:
            cache = Cache(tmp_path, 2**20)  # so small that entries leave now and then
            for number in range(100 * turn, 100_000):
                cache.put(key(number), expected(number))
                os.write(writes, b".")

        for turn in range(20):
            reader, writes = os.pipe()
            writer = forked(write)
            for _ in range(generator.randrange(40)):
                os.read(reader, 1)
            time.sleep(generator.uniform(0, 0.002))
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
            os.close(reader)
            os.close(writes)
            found += len(right(Cache(tmp_path), list(range(100 * turn, 100 * turn + 1000))))
        assert found > 100
        works_again(tmp_path)

    def test_forked_and_pickled_ones_open_the_file_themselves(self, tmp_path: Path) -> None:
        cache = filled(tmp_path)

        def child() -> None:
            files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
            assert not [name for name in files if "cache.sqlite" in name]
            cache.put("child", {"value": 1})

        assert os.waitstatus_to_exitcode(os.waitpid(forked(child), 0)[1]) == 0
        cache.put("parent", {"value": 2})
        copy = pickle.loads(pickle.dumps(Cache(tmp_path, 2**21)))
        assert copy.max_bytes == 2**21
        assert copy.get_many(["child", "parent"]) == {"child": {"value": 1}, "parent": {"value": 2}}

    def test_threads_share_one(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda number: cache.put(key(number), expected(number)), range(600)))
        finally:
            sys.setswitchinterval(before)
        assert cache.problem == ""
        assert len(right(cache, list(range(600)))) == 600

    def test_wait_for_each_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        filled(tmp_path).close()
        with closing(sqlite3.connect(tmp_path / "cache.sqlite", check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            threading.Timer(0.3, other.rollback).start()
            cache = Cache(tmp_path)
            cache.put("k", {"value": 1})
            assert cache.get("k") == {"value": 1}
            fail_once(cache, sqlite3.SQLITE_BUSY_SNAPSHOT)
            fail_once(cache, sqlite3.SQLITE_BUSY_RECOVERY)
            other.execute("BEGIN IMMEDIATE")
            monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
            cache = Cache(tmp_path)
            cache.put("never", {"value": 1})
            assert "locked" in cache.problem

    def test_wait_until_another_has_opened_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
        with (tmp_path / "cache.sqlite-lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            cache = Cache(tmp_path)
            cache.put("k", {"value": 1})
            assert "another process has held" in cache.problem
        works_again(tmp_path)


class TestNoRoom:
    @pytest.mark.parametrize("size", [0, 5000, 40_000, 400_000])
    def test_full_disk_switches_it_off(self, tmp_path: Path, size: int) -> None:
        cache = Cache(tmp_path)
        with full_disk(size):
            for number in range(300):
                cache.put(key(number), expected(number))
            assert re.fullmatch(r".*cache\.sqlite.*EVALKIT_CACHE.*", cache.problem)
            assert cache.get(key(0)) is None
            assert cache.info().entries == cache.clear() == 0
        right(Cache(tmp_path), list(range(300)))
        works_again(tmp_path)

    def test_full_file_system(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from tests.cache_entries import *\n"
            "cache = filled(Path(sys.argv[1]), 10)\n"
            "for number in range(300): cache.put(key(number), expected(number))\n"
            "assert 'full' in cache.problem, cache.problem\n"
            "right(Cache(Path(sys.argv[1])), list(range(300)))\n"
            "print('done')\n"
        )
        mount = 'mount -t tmpfs -o size=600k none "$1" || exit 77; "$2" -c "$3" "$1"'
        command = ["unshare", "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, code]
        if shutil.which("unshare") is None:
            pytest.skip("no program unshare")
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if "done" not in result.stdout and ("unshare" in result.stderr or result.returncode == 77):
            pytest.skip(f"a file system cannot be mounted here: {result.stderr.strip()}")
        assert result.stdout == "done\n", result.stderr

    def test_full_with_room_on_the_disk_is_damage(self, tmp_path: Path) -> None:
        """A header may claim that the file has the largest size there is."""
        cache = filled(tmp_path)
        fail_once(cache, sqlite3.SQLITE_FULL)
        assert cache.info().entries == 0
        works_again(tmp_path)

    def test_impossible_folder_switches_it_off(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        cache = Cache(tmp_path / "file" / "cache")
        cache.put("k", {"value": 1})
        assert cache.get("k") is None
        assert "Not a directory" in cache.problem

    def test_protected_file_is_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        filled(tmp_path).close()

        def refuse(*_: Any) -> None:
            error = sqlite3.OperationalError("attempt to write a readonly database")
            error.sqlite_errorcode = sqlite3.SQLITE_READONLY
            raise error

        monkeypatch.setattr(database.Database, "_connect", refuse)
        monkeypatch.setattr(database.os, "access", lambda *_: False)
        cache = Cache(tmp_path)
        assert cache.get(key(0)) is None
        assert "readonly" in cache.problem
        monkeypatch.undo()
        assert len(right(Cache(tmp_path), list(range(120)))) == 120


def test_file_is_shortened_by_as_many_pages_as_asked(tmp_path: Path) -> None:
    def pages(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])

    def shorten(connection: sqlite3.Connection) -> tuple[int, int]:
        before = pages(connection)
        connection.execute("DELETE FROM entries WHERE key IN (SELECT key FROM entries ORDER BY room DESC LIMIT 10)")
        database.give_back(connection, 4096 * (before - 20))
        return before, pages(connection)

    before, after = filled(tmp_path)._database.run(shorten, (0, 0))
    assert after == before - 20
