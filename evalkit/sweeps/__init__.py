"""Many trainings as one question: points of a space as trials, run anywhere, compared at equal rate."""

from __future__ import annotations

from q2d2.errors import UserError


class SweepError(UserError, ValueError):
    """A sweep that cannot be read, is not valid or has no points; the message names the file, the key, the way out."""
