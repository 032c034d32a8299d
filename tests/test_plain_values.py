"""JSON and YAML of anybody: what is read, what is refused in one line, and how soon."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from q2d2.errors import printable, shown
from q2d2.plain_values import NotPlain, differences, parse_json, read_json, require_plain
from q2d2.yaml_values import parse_yaml, read_yaml
from tests.yaml_bomb import BOMB

MERGES = "b0: &b0 {x: 1}\n" + "".join(
    f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 10)}], k{n}: 1}}\n" for n in range(1, 10)
)


def refusal(read: Callable[[Any], Any], given: Any) -> str:
    """The message with which it is refused: one line, of bounded length, within a second."""
    started = time.process_time()
    with pytest.raises(NotPlain) as caught:
        read(given)
    assert time.process_time() - started < 1
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    return message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 10_000, "nested more than 64 deep"),
        ("[" * 10_000 + "]" * 10_000, "nested more than 64 deep"),
        ("- " * 5_000, "nested more than 64 deep"),
        ("{a: " * 100 + "1" + "}" * 100, "nested more than 64 deep"),
        (BOMB, "holds more than 30,000 values"),
        (MERGES, "holds more than 30,000 values"),
        ("&a [*a]", "an alias stands for what it is a part of"),
        ("9" * 5000, "a number of 5,000 digits"),
        ("-" + "9" * 5000, "a number of 5,001 digits"),
        ("0x" + "f" * 5000, "a number of 5,002 digits"),
        ("1" + ":1" * 5000, "a number of 10,001 digits"),
        ("a: 1\na: 2", "the key 'a' is there twice"),
        ("!!int many", "not valid YAML"),
        ("!!bool maybe", "not valid YAML"),
        ("!!timestamp x", "not valid YAML"),
        ("2026-13-45", "not valid YAML: month must be in 1..12"),
        ("!!python/object:os.system {}", "not valid YAML: could not determine a constructor"),
        ("{<<: 5}", "not valid YAML"),
        ("{[1]: 2}", "not valid YAML"),
        ("\t- a", "not valid YAML"),
        ("a: \x1b[31m", "not valid YAML"),
        ("a" * 5000 + ": [", "not valid YAML"),
    ],
    ids=range(22),
)
def test_yaml_that_is_refused(text: str, words: str) -> None:
    assert words in refusal(parse_yaml, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested more than 64 deep"),
        ("[" * 200 + "]" * 200, "nested more than 64 deep"),
        ('{"a": ' * 100 + "1" + "}" * 100, "nested more than 64 deep"),
        ("9" * 5000, "a number of 5,000 digits"),
        ("1e999999", "a number beyond all sizes, '1e999999'"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ('"\\ud800"', "expected text, found '\\ud800'"),
        ('{"a": ["\\u0000"]}', "a.0: expected text, found '\\x00'"),
        ("", "not valid JSON: Expecting value"),
        ("[1] 2", "not valid JSON: Extra data"),
    ],
    ids=range(12),
)
def test_json_that_is_refused(text: str, words: str) -> None:
    assert words in refusal(parse_json, text)


def test_what_is_plain_is_read_as_ever() -> None:
    assert parse_yaml("a: &x [1, 2.5, 1.0e-3]\nb: *x\nc: {<<: {d: 1}, d: 2}\ne: 'é'\n") == {
        "a": [1, 2.5, 0.001], "b": [1, 2.5, 0.001], "c": {"d": 2}, "e": "é",
    }  # fmt: skip
    values = {"a": [1, -2.5, None, True, "é\U0001f600\n"], "b": {"c": {}}}
    assert parse_json(json.dumps(values)) == values  # the escapes of a pair of surrogates stand for one character


@pytest.mark.parametrize("read", [read_yaml, read_json])
class TestFiles:
    @pytest.mark.parametrize("content", [b'{"a": 1}', b'\xef\xbb\xbf{"a": 1}'], ids=["plain", "with a mark"])
    def test_a_mark_of_byte_order_is_no_part_of_the_text(self, tmp_path: Path, read: Any, content: bytes) -> None:
        (tmp_path / "file").write_bytes(content)
        assert read(tmp_path / "file") == {"a": 1}

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
    def test_other_encodings(self, tmp_path: Path, read: Any, encoding: str) -> None:
        (tmp_path / "file").write_bytes('{"a": 1}'.encode(encoding))
        assert "not text in UTF-8" in refusal(read, tmp_path / "file")

    def test_a_huge_file_is_not_read(self, tmp_path: Path, read: Any) -> None:
        with (tmp_path / "file").open("wb") as file:
            file.truncate(10**11)  # sparse
        assert "is larger than" in refusal(read, tmp_path / "file")

    def test_what_is_no_file(self, tmp_path: Path, read: Any) -> None:
        os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
        assert refusal(read, tmp_path / "pipe") == "is no regular file"
        assert refusal(read, Path("/dev/zero")) == "is no regular file"
        with pytest.raises(IsADirectoryError):
            read(tmp_path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": {"b": 10**30}}, "a.b: expected a number of at most 64 bits, found 1000000"),
        ({"a": [float("nan")]}, "a.0 is nan: expected a finite number"),
        ({"a": float("inf")}, "a is inf: expected a finite number"),
        ({"a": {None: 1}}, "a: null without quotes"),
        ({"a": {True: 1}}, "a: expected text as a key, found True: put it in quotes"),
        (parse_yaml("a: 2026-01-31"), "a: expected text, a number, a list or keys and values, found a date: put it in"),
        (parse_yaml("a: !!binary aGk="), "a: expected text, .* found binary data"),
        (parse_yaml("a: !!set {x}"), "a: expected text, .* found a set"),
        ({"a": "\ud800"}, "a: expected text, found"),
        ({"\0": 1}, "a key: expected text, found"),
    ],
    ids=range(10),
)
def test_what_is_no_plain_value_is_named_with_its_key(value: Any, words: str) -> None:
    with pytest.raises(NotPlain, match=words):
        require_plain(value)


@pytest.mark.parametrize(
    "value",
    ["a" * 10**6, 10**10_000, list(range(10**6)), {"a": {"b": {"c": {"d": {"e": 1}}}}}, b"x" * 10**5, "\x1b[31m"],
    ids=range(6),
)
def test_what_messages_repeat_is_short_and_printable(value: Any) -> None:
    assert len(shown(value)) <= 83
    assert shown(value).isprintable()
    if isinstance(value, str):
        assert len(printable(value)) <= 83
        assert printable(value).isprintable()


def test_differences_are_named_by_their_keys() -> None:
    held = {"train": {"steps": 4, "losses": {"mel": 1.0}, "log_every": 2}, "levels": [5, 5], "data": {"root": "a"}}
    wanted = {"train": {"steps": 3, "losses": {"mel": 1.0, "stft": 2.0}, "log_every": 9}, "levels": (5, 5)}
    found = differences(held, wanted, {"train.log_every", "root"})
    assert found == ["train.steps 4, not 3", "train.losses.stft null, not 2.0"]
    assert not differences(held, held)
