"""q2d2.errors: what a message repeats of a stranger's text cannot move the cursor."""

from __future__ import annotations

import pytest

from q2d2.errors import UserError


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("a.wav: no such file", "a.wav: no such file"),
        ("unknown \x1b[31mred", "unknown \\x1b[31mred"),
        ("folder \u202egnp.wav", "folder \\u202egnp.wav"),
        ("two\nlines, 日本語, \U0001f469\u200d\U0001f4bb", "two\nlines, 日本語, \U0001f469\u200d\U0001f4bb"),
    ],
)
def test_a_message_is_text(given: str, seen: str) -> None:
    assert str(UserError(given)) == seen
