"""Entries of a cache that can be made again from their numbers, checks of what comes back, and mishaps."""

from __future__ import annotations

import os
import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.scoring.cache import Cache, cache_key


def key(number: int) -> str:
    return cache_key("entry", number)


def expected(number: int) -> dict[str, Any]:
    """A value made of its number, every third with an array of up to several pages."""
    if number % 3:
        return {"value": number / 7, "detail": "x" * (number % 50)}
    return {"value": number / 7, "track": np.random.default_rng(number).standard_normal(37 * (number % 60))}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def right(cache: Cache, numbers: list[int]) -> list[int]:
    """Those of `numbers` that are in the cache, after checking that none is wrong."""
    found = cache.get_many([key(number) for number in numbers])
    there = [number for number in numbers if key(number) in found]
    assert all(same(found[key(number)], expected(number)) for number in there)
    return there


def filled(folder: Path, count: int = 120) -> Cache:
    cache = Cache(folder)
    cache.put_many({key(number): expected(number) for number in range(count)})
    return cache


def works_again(folder: Path, count: int = 120) -> None:
    cache = filled(folder, count)
    assert right(cache, list(range(count))) == list(range(count))
    assert cache.problem == ""
    cache.close()


def fail_once(cache: Cache, code: int) -> None:
    """Run something on the cache's file that fails by an error of SQLite with `code` the first time."""
    left = [code]

    def operation(_: sqlite3.Connection) -> str:
        if left:
            error = sqlite3.OperationalError("as if")
            error.sqlite_errorcode = left.pop()
            raise error
        return "done"

    assert cache._database.run(operation, "failed") == "done"


def forked(action: Callable[[], None]) -> int:
    """Number of a forked process that runs `action` and then ends, with status 1 after an exception."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
