"""YAML files of one kind: those that ship with the package, by name, and anybody's own, by path."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from q2d2.errors import UserError, did_you_mean, shown
from q2d2.plain_values import NotPlain, parse_yaml, read_yaml


@dataclass(frozen=True)
class YamlSources:
    """Where files of a kind are read from.

    Attributes:
        kind: for messages: "experiment".
        folder: of those that ship.
        error: what is raised; its message names the file and the way out.
        suffix: of the names of those that ship.
    """

    kind: str
    folder: Traversable
    error: type[UserError]
    suffix: str = ".yaml"

    def names(self) -> list[str]:
        """Of the files that ship with the package, without ".yaml"."""
        found = [entry.name for entry in self.folder.iterdir() if entry.name.endswith(self.suffix)]
        return sorted(name.removesuffix(".yaml") for name in found)

    def read(self, source: str) -> dict[str, Any]:
        """The keys and values of a built-in file or a user's own, not validated.

        Args:
            source: a built-in name, or the path of a YAML file.

        Raises:
            UserError: `error`: not found, not text, or not YAML with keys.
        """
        try:
            path = Path(source)
            if path.suffix in (".yaml", ".yml") or (path.exists() and not path.is_dir()):
                values = read_yaml(path)
            elif source in self.names():
                values = parse_yaml((self.folder / f"{source}.yaml").read_text(encoding="utf-8"))
            else:
                known = self.names()
                raise self.error(
                    f"no {self.kind} {shown(source)}.{did_you_mean(source, known)} Built in: {', '.join(known)}; "
                    "or give the path of a YAML file."
                )
        except OSError as error:
            raise self.error(f"{self.kind} file {source} cannot be read: {error.strerror}") from error
        except NotPlain as error:
            raise self.error(f"{self.kind} file {source} {error}") from error
        if not isinstance(values, dict):
            raise self.error(f"{self.kind} {source}: expected keys and values, found {type(values).__name__}")
        return values
