"""The root of all errors that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in input, settings or environment: its message is one clear line, which the command line prints."""
