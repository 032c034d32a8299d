"""What was put in the cache comes back, the least recently used leave first, and a damaged entry counts as missing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.scoring.cache import Cache, CacheError, cache_key, content_digest, parse_size
from tests.cache_entries import expected, filled, key, right, works_again


class TestEntries:
    def test_come_back_from_the_disk(self, tmp_path: Path) -> None:
        Cache(tmp_path).put_many({"k": {"value": 0.1 + 0.2, "detail": "ü"}, "track": {"pitch": np.arange(3.0)}})
        cache = Cache(tmp_path)
        assert cache.get("k") == {"value": 0.1 + 0.2, "detail": "ü"}
        assert cache.get("other") is None
        found = cache.get_many(["other", "k", "track", "k"])
        assert found.keys() == {"k", "track"}
        assert found["track"]["pitch"].tolist() == [0, 1, 2]

    def test_of_the_wrong_type_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError):
            Cache(tmp_path).put("k", {"value": {1, 2}})

    def test_the_last_one_counts(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path)
        cache.put_many({"k": {"value": 1}, "other": {"value": 0}})
        cache.put("k", {"value": 2})
        assert cache.get("k") == {"value": 2}
        assert cache.info().entries == 2

    def test_with_a_flipped_bit_is_lost_alone(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path)
        cache.put_many({"a": {"value": "needle in the file"}, "b": {"value": 2}})
        cache.close()
        raw = bytearray(cache.path.read_bytes())
        raw[raw.index(b"needle")] ^= 1
        cache.path.write_bytes(raw)
        assert cache.get_many(["a", "b"]) == {"b": {"value": 2}}
        assert cache.info().entries == 1
        cache.put("a", {"value": 3})
        assert cache.get("a") == {"value": 3}

    @pytest.mark.parametrize(
        "change",
        [
            "value = (SELECT value FROM entries WHERE key = CAST('b' AS BLOB))",
            "value = 7",
            "value = 'text'",
            "checksum = x''",
            "value = (SELECT e.value FROM entries e WHERE e.key = CAST('b' AS BLOB)), "
            "checksum = (SELECT e.checksum FROM entries e WHERE e.key = CAST('b' AS BLOB))",
            "used = 'never'",
        ],
    )
    def test_changed_counts_as_missing(self, tmp_path: Path, change: str) -> None:
        cache = Cache(tmp_path)
        cache.put_many({"a": {"value": 1}, "b": {"value": 2}})
        with closing(sqlite3.connect(cache.path)) as connection, connection:
            connection.execute(f"UPDATE entries SET {change} WHERE key = CAST('a' AS BLOB)")
        assert cache.get("a") in (None, {"value": 1})
        assert cache.get("b") == {"value": 2}
        cache.put("a", {"value": 1})
        assert cache.get("a") == {"value": 1}
        assert cache.problem == ""


class TestKeys:
    def test_change_with_every_part(self) -> None:
        parts: list[tuple[Any, ...]] = [
            ("a", "bc"), ("ab", "c"), ("a", ["b", "c"]), ("a", None), (), ("a",), (1,), (1.5,), (True,), ({"a": 1},),
        ]  # fmt: skip
        assert len({cache_key(*part) for part in parts}) == len(parts)
        assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})
        assert len(cache_key()) == 64

    def test_are_made_of_json_values(self) -> None:
        with pytest.raises(TypeError):
            cache_key(Path("x"))
        with pytest.raises(ValueError, match="not JSON compliant"):
            cache_key(float("nan"))

    def test_digest_changes_with_rate_type_shape_and_any_bit(self) -> None:
        signal = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
        flipped = signal.copy()
        flipped.view(np.uint32)[500] ^= 1
        variants = [
            (signal, 16000), (signal, 24000), (flipped, 16000), (signal[:-1], 16000), (signal.view(np.int32), 16000),
            (signal.reshape(10, 100), 16000), (np.zeros(4, np.float32), 8000), (-np.zeros(4, np.float32), 8000),
        ]  # fmt: skip
        assert len({content_digest(*variant) for variant in variants}) == len(variants)
        assert content_digest(np.repeat(signal, 2)[::2], 16000) == content_digest(signal, 16000)


class TestSettings:
    def test_folder_and_size_come_from_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("EVALKIT_CACHE", "EVALKIT_CACHE_SIZE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert Cache.from_environment().path == tmp_path / ".cache/evalkit/cache.sqlite"
        assert Cache.from_environment().max_bytes == 2 * 2**30
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert Cache.from_environment().path == tmp_path / "xdg/evalkit/cache.sqlite"
        monkeypatch.setenv("EVALKIT_CACHE", "~/mine")
        monkeypatch.setenv("EVALKIT_CACHE_SIZE", "500MB")
        assert Cache.from_environment().path == tmp_path / "mine/cache.sqlite"
        assert Cache.from_environment().max_bytes == 500 * 2**20

    def test_sizes(self) -> None:
        assert [parse_size(text) for text in ("1MB", " 1.5 gb ", "2048KB")] == [2**20, 3 * 2**29, 2**21]

    @pytest.mark.parametrize("text", ["2", "2 XB", "-1GB", "0MB", "1KB", "GB", "1e3MB", "inf GB", "9" * 400 + "GB"])
    def test_wrong_size_is_named(self, text: str) -> None:
        with pytest.raises(CacheError, match=r"^EVALKIT_CACHE_SIZE=.*such as 500MB or 2GB"):
            parse_size(text)


class TestSize:
    def test_stays_bounded_and_so_does_the_file(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path, 2**20)
        for batch in range(60):
            cache.put_many({key(n): expected(n) for n in range(50 * batch, 50 * batch + 50)})
            assert cache.info().bytes <= 2**20
        assert cache.info().entries > 100
        assert len(right(cache, list(range(2950, 3000)))) == 50
        cache.close()
        assert 2**19 < cache.path.stat().st_size < 1.3 * 2**20

    def test_least_recently_used_leave_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [10**12]
        monkeypatch.setattr("evalkit.scoring.cache._milliseconds", lambda: clock[0])
        cache = Cache(tmp_path, 2**20)
        block = {"track": np.zeros(2500)}  # 45 of them fit
        for number in range(40):
            clock[0] += 1000
            cache.put(key(number), block)
        clock[0] += 7_200_000
        assert cache.get_many([key(5), key(17)]).keys() == {key(5), key(17)}
        cache.close()
        for number in range(40, 60):
            clock[0] += 1000
            cache.put(key(number), block)
        left = {number for number in range(60) if cache.get(key(number))}
        assert {5, 17, *range(40, 60)} <= left
        first = min(left - {5, 17})
        assert first > 10
        assert left == {5, 17, *range(first, 60)}

    def test_reading_marks_an_entry_once_an_hour(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [10**12]
        monkeypatch.setattr("evalkit.scoring.cache._milliseconds", lambda: clock[0])
        cache = Cache(tmp_path)
        cache.put("k", {"value": 1})
        seen = []
        for minutes in (59, 2, 58, 3):
            clock[0] += minutes * 60_000
            cache.get("k")
            cache.close()
            newest = cache.info().newest
            assert newest is not None
            seen.append(newest.timestamp() * 1000 == clock[0])
        assert seen == [False, True, False, True]

    def test_lowered_size_shortens_the_file(self, tmp_path: Path) -> None:
        cache = filled(tmp_path, 3000)
        cache.close()
        assert cache.path.stat().st_size > 3 * 2**20
        smaller = Cache(tmp_path, 2**20)
        smaller.put("k", {"value": 1})
        smaller.close()
        assert cache.path.stat().st_size <= 2**20
        assert right(smaller, list(range(3000)))

    def test_value_that_would_drive_out_the_others_is_not_kept(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path, 2**20)
        cache.put_many({"large": {"track": np.zeros(2**17)}, "small": {"value": 1}})
        assert cache.get_many(["large", "small"]) == {"small": {"value": 1}}

    def test_clear_gives_the_space_back(self, tmp_path: Path) -> None:
        cache = filled(tmp_path, 300)
        assert cache.clear() == 300
        assert cache.get(key(1)) is None
        assert cache.path.stat().st_size < 50_000
        info = cache.info()
        assert (info.entries, info.bytes, info.oldest, info.newest) == (0, 0, None, None)
        works_again(tmp_path)
