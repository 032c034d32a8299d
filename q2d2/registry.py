"""Lazy, extensible name -> class tables: one line adds a bottleneck, metric or dataset."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Mapping
from typing import Any

from q2d2.errors import UserError, did_you_mean


class UnknownName(UserError, ValueError):
    """A name that is in no registry; the message lists what is."""


class Registry:
    """Maps names to objects given as "module:attribute", imported only when asked for.

    Built-in entries come first; other packages add theirs through the entry-point group `group`.

    Args:
        kind: what an entry is, for messages ("bottleneck", "metric", ...).
        group: entry-point group searched for further entries.
        entries: built-in name -> "package.module:Attribute".
    """

    def __init__(self, kind: str, group: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._entries = dict(entries)

    def _targets(self) -> dict[str, str]:
        return {**_installed(self.group, tuple(sys.path)), **self._entries}

    def names(self) -> list[str]:
        """All known names: built-in in their order, then installed ones sorted."""
        return [*self._entries, *sorted(set(self._targets()) - set(self._entries))]

    def require(self, name: str) -> str:
        """The "module:attribute" of the entry `name`, without importing it.

        Raises:
            UnknownName: `name` is not registered; the message suggests close names.
        """
        targets = self._targets()
        if name not in targets:
            hint = did_you_mean(name, targets)
            raise UnknownName(f"unknown {self.kind} {name!r}.{hint} Known: {', '.join(self.names())}.")
        return targets[name]

    def resolve(self, name: str) -> Any:
        """Import and return the entry `name`.

        Raises:
            UnknownName: as in `require`.
        """
        module, _, attribute = self.require(name).partition(":")
        return getattr(importlib.import_module(module), attribute)


@functools.cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, str]:
    """Entry points of `group` on `path`; kept, as reading the metadata of all packages takes milliseconds."""
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group=group)}
