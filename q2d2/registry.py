"""Lazy, extensible name -> class tables: one line adds a bottleneck, metric or dataset.

A registered name is code that its user installed. Any other code is imported only by `import_trusted`: a file that
names a class of its own is a program, and nothing that a file or folder names runs unless its user says so.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from q2d2.errors import UserError, did_you_mean, shown


class UnknownName(UserError, ValueError):
    """A name that is in no registry; the message lists what is."""


class UntrustedCode(UserError, ValueError):
    """A name that is code to import, where nobody said that it may run; the message names the option that does."""


class ForeignCode(UserError, ImportError):
    """Trusted code that cannot be imported; the message has the reason."""


class Registry:
    """Maps names to objects given as "module:attribute", imported only when asked for.

    Built-in entries come first; other packages add theirs through the entry-point group `group`.

    Args:
        kind: what an entry is, for messages ("bottleneck", "metric", ...).
        group: entry-point group searched for further entries.
        entries: built-in name -> "package.module:Attribute".
        former: names of before that old files hold -> what they are called now; not listed, but found.
    """

    def __init__(
        self, kind: str, group: str, entries: Mapping[str, str], former: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self.group = group
        self._entries = dict(entries)
        self._former = dict(former or {})

    def _targets(self) -> dict[str, str]:
        return {**_installed(self.group, tuple(sys.path)), **self._entries}

    def names(self) -> list[str]:
        """All known names: built-in in their order, then installed ones sorted."""
        return [*self._entries, *sorted(set(self._targets()) - set(self._entries))]

    def current(self, name: str) -> str:
        """What the entry `name` is called now; any other name as it is."""
        return self._former.get(name, name)

    def require(self, name: str) -> str:
        """The "module:attribute" of the entry `name`, without importing it.

        Raises:
            UnknownName: `name` is not registered; the message suggests close names.
        """
        targets, name = self._targets(), self.current(name)
        if name not in targets:
            hint = did_you_mean(name, targets)
            raise UnknownName(f"unknown {self.kind} {shown(name)}.{hint} Known: {', '.join(self.names())}.")
        return targets[name]

    def resolve(self, name: str) -> Any:
        """Import and return the entry `name`.

        Raises:
            UnknownName: as in `require`.
        """
        module, _, attribute = self.require(name).partition(":")
        return getattr(importlib.import_module(module), attribute)


def is_import_path(name: str) -> bool:
    """Whether a name is of the form "package.module:Class", which no registry has."""
    return ":" in name


def import_trusted(kind: str, target: str, *, trust_code: bool) -> Any:
    """Import what "package.module:Class" names, also from the working directory.

    Args:
        kind: what it is, for messages: "codec".
        target: "package.module:Class".
        trust_code: whether the user said that code named in files may run (--trust-code).

    Raises:
        UntrustedCode: they did not; nothing was imported, and the import path is as it was.
        ForeignCode: there is no such module or attribute, or it cannot be imported.
    """
    if not trust_code:
        raise UntrustedCode(
            f"{kind} {shown(target)} is code to import, which can do anything that you can: read it, then give "
            "--trust-code"
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # anybody's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ForeignCode(f"{kind} {shown(target)} cannot be imported: {reason}") from error


def leave_out_working_directory() -> None:
    """Take the working directory off the import path, where only `python -m` or an empty PYTHONPATH entry put it there.

    Somebody else's folder may hold modules called like ours, or entry points. Where this package itself was started
    from its source, that folder stays.
    """
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    here = str(Path.cwd())
    if here in map(os.path.abspath, given) or Path(__file__).resolve().parents[1] == Path(here).resolve():
        return
    sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]


@functools.cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, str]:
    """Entry points of `group` on `path`; kept, as reading the metadata of all packages takes milliseconds."""
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group=group)}
