"""The terminal that commands print to."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from evalkit.escaping import shown


class Terminal(Console):
    """A console that shows what is hidden in names (marks of direction, control characters) instead of obeying it."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(shown(each) if isinstance(each, str) else each for each in objects), **options)
