"""The root of all errors that a user can mend."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

ECHOED = 80  # characters of what was given that a message repeats


class UserError(Exception):
    """A mistake in input, settings or environment: its message is one clear line, which the command line prints.

    What in it would move a terminal's cursor, and may come from a file, is written as an escape.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if text.isprintable():
            return text
        return "".join(
            c if c.isprintable() or c in "\n\u200c\u200d" else c.encode("unicode_escape").decode() for c in text
        )


class NotFinite(UserError, ValueError):
    """NaN or infinity where numbers belong; the message says where they appeared."""


class Stopped(UserError):
    """Work was stopped from outside after saving what was done; the message says how to go on."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the name among `known` that is closest to `name`, with a space before; empty where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1) if len(name) <= ECHOED else []
    return f" Did you mean {close[0]!r}?" if close else ""


def shown(value: Any) -> str:
    """`value` as a message repeats it: as Python writes it, cut to about 80 characters, however large it is."""
    text = _REPR.repr(value)
    return text if len(text) <= ECHOED + 3 else f"{text[:ECHOED]}..."


def printable(name: str) -> str:
    """A name for a message: as it is, or quoted where it would move the cursor, and cut to about 80 characters."""
    return name if name and name.isprintable() and len(name) <= ECHOED else shown(name)


class _Repr(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        # Python writes no number of more than 4,300 digits.
        digits = int(value.bit_length() * 0.30103) + 1
        return repr(value) if digits <= ECHOED // 2 else f"a number of about {digits:,} digits"


_REPR = _Repr()
_REPR.maxlevel = 4
_REPR.maxdict = _REPR.maxlist = _REPR.maxtuple = 8
_REPR.maxset = _REPR.maxfrozenset = 8
_REPR.maxstring = _REPR.maxother = ECHOED
