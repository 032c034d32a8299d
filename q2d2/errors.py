"""The root of all errors that a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in input, settings or environment: its message is one clear line, which the command line prints."""


class Stopped(UserError):
    """Work was stopped from outside after saving what was done; the message says how to go on."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the name among `known` that is closest to `name`, with a space before; empty where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
