"""YAML files of one kind: those that ship with the package, by name, and anybody's own, by path."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from q2d2.errors import UserError, did_you_mean


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
        path = Path(source)
        try:
            if path.suffix in (".yaml", ".yml") or path.is_file():
                text = path.read_text(encoding="utf-8")
            elif source in self.names():
                text = (self.folder / f"{source}.yaml").read_text(encoding="utf-8")
            else:
                known = self.names()
                raise self.error(
                    f"no {self.kind} {source!r}.{did_you_mean(source, known)} Built in: {', '.join(known)}; "
                    "or give the path of a YAML file."
                )
            values = yaml.safe_load(text)
        except OSError as error:
            raise self.error(f"{self.kind} file {source} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise self.error(f"{self.kind} file {source} is not text in UTF-8") from error
        except yaml.YAMLError as error:
            raise self.error(f"{self.kind} {source} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict):
            raise self.error(f"{self.kind} {source}: expected keys and values, found {type(values).__name__}")
        return values
