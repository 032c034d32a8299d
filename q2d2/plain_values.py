"""Plain values from the JSON of anybody (YAML: yaml_values.py): text, numbers, lists and mappings, never large or deep.

A file may come from a stranger, or be damaged. What is read here is bounded before it takes memory or time, and what is
no plain value is refused in one line.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from q2d2.errors import printable, shown

# Python needs some twenty bytes for each of a JSON's.
MAX_JSON_BYTES = 32 * 2**20
MAX_DEPTH = 64
MAX_DIGITS = 100
BARE_NULL = 'null without quotes means "nothing" in YAML: the bottleneck without codes is called unquantized'
TOO_DEEP = f"is nested more than {MAX_DEPTH} deep"
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class NotPlain(ValueError):
    """What is wrong with a text or a value, to be said after its name: "is not valid JSON: ..."."""


def read_text(path: Path, max_bytes: int) -> str:
    """The text of a regular file; a mark of byte order at its beginning is left out.

    Raises:
        NotPlain: larger than `max_bytes`, no regular file (nothing waits for a pipe), or not text in UTF-8.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise NotPlain("is no regular file")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise NotPlain(f"is larger than {max_bytes / 2**20:g} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotPlain("is not text in UTF-8") from error
    if "\0" in text:
        raise NotPlain("is not text in UTF-8: it holds NUL characters")
    return text


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The values of a JSON file; raises as `read_text` and `parse_json`."""
    return parse_json(read_text(path, max_bytes))


def parse_json(text: str) -> Any:
    """The values of a JSON text.

    Raises:
        NotPlain: not JSON; a key twice, NaN or an infinity, a number of too many digits, nested too deep.
    """
    try:
        values = json.loads(
            text, object_pairs_hook=_mapping, parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
    except NotPlain:
        raise
    except RecursionError as error:
        raise NotPlain(TOO_DEEP) from error
    except ValueError as error:
        raise NotPlain(f"is not valid JSON: {error}") from error
    level = [values]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, (dict, list))]
        if not level:
            break
    else:
        raise NotPlain(TOO_DEEP)
    if _ESCAPED.search(text):  # JSON may spell out what is no text, and rarely does
        try:
            require_plain(values)
        except NotPlain as error:
            raise NotPlain(f"holds what is no plain value: {error}") from error
    return values


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise NotPlain(f"is not valid JSON: the key {shown(twice)} is there twice")
    return values


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise NotPlain(f"is not valid JSON: a number of {len(digits):,} digits")
    return int(digits)


def _number(digits: str) -> float:
    if len(digits) > MAX_DIGITS or not math.isfinite(value := float(digits)):
        raise NotPlain(f"is not valid JSON: a number beyond all sizes, {shown(digits)}")
    return value


def _constant(name: str) -> float:
    raise NotPlain(f"is not valid JSON: {name} is no number")


def differences(held: Any, wanted: Any, ignored: Container[str] = ()) -> list[str]:
    """Where what a file holds is not what is wanted, one text a key, such as "train.steps 4, not 3".

    Args:
        held, wanted: mappings of plain values, or what becomes that as JSON; a key that one lacks is null there.
        ignored: keys, in full ("train.num_workers") or their last part ("root"), that may differ.
    """
    there, here = dict(_flat(held)), dict(_flat(wanted))
    return [
        f"{key} {json.dumps(there.get(key), ensure_ascii=False)}, not {json.dumps(here.get(key), ensure_ascii=False)}"
        for key in {**here, **there}
        if there.get(key) != here.get(key) and key not in ignored and key.rpartition(".")[2] not in ignored
    ]


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """{"train": {"steps": 5}} as ("train.steps", 5)."""
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _flat(each, f"{key}.{name}" if key else str(name))
    elif key:
        yield key, json.loads(json.dumps(value))


def shortened(error: Exception) -> str:
    """The message of a library's error on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


def require_plain(value: Any, key: str = "", depth: int = 0) -> None:
    """Refuse what JSON does not have, keys that are no text, and numbers beyond 64 bits, wherever they are.

    Args:
        value: of an experiment, say; not of a stranger's text unless it came through `parse_json` or `parse_yaml`.
        key: the dotted key of `value` itself.
        depth: of `value` in the whole.

    Raises:
        NotPlain: the message begins with the dotted key.
    """
    if depth > MAX_DEPTH:
        raise NotPlain(f"{_named(key)}{TOO_DEEP}")
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise NotPlain(f"{_named(key)}{_no_key(name)}")
            _require_text(name, f"{_named(key)}a key")
            require_plain(inner, f"{key}.{name}" if key else name, depth + 1)
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            require_plain(inner, f"{key}.{place}" if key else str(place), depth + 1)
    elif isinstance(value, str):
        _require_text(value, printable(key))
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise NotPlain(f"{printable(key)} is {value}: expected a finite number")
    elif isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise NotPlain(f"{printable(key)}: expected a number of at most 64 bits, found {shown(value)}")
    elif value is not None and not isinstance(value, bool):
        kind = {"date": "a date", "datetime": "a time", "bytes": "binary data"}.get(type(value).__name__)
        found = kind or f"a {type(value).__name__}"
        raise NotPlain(f"{_named(key)}expected text, a number, a list or keys and values, found {found}{_quotes(kind)}")


def _named(key: str) -> str:
    return f"{printable(key)}: " if key else ""


def _quotes(kind: str | None) -> str:
    return ": put it in quotes if it is text" if kind in ("a date", "a time") else ""


def _no_key(name: Hashable) -> str:
    if name is None:
        return BARE_NULL
    return f"expected text as a key, found {shown(name)}: put it in quotes"


def _require_text(text: str, where: str) -> None:
    if _NO_TEXT.search(text):
        raise NotPlain(f"{where}: expected text, found {shown(text)}, which holds a character that is none")
