"""Weights of metric networks: which files are accepted, where they are kept, finding and checking them.

A file counts only with the SHA-256 it was published with: a damaged or strange one would give numbers all the same.
They are kept in the folder named by EVALKIT_WEIGHTS (otherwise $XDG_CACHE_HOME/evalkit/weights or
~/.cache/evalkit/weights); one that was got in another way can be put there under its name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from evalkit.downloads.transfer import mismatches
from evalkit.metrics.signals import Unavailable
from q2d2.registry import Registry


@dataclass(frozen=True)
class WeightFile:
    """One published file of weights.

    Attributes:
        file_name: what it is called in the folder of weights.
        url: where it is published.
        size: length in bytes; None if it is not known.
        sha256: hexadecimal digest.
        source: whose it is and under which licence, one line.
    """

    file_name: str
    url: str
    size: int | None
    sha256: str
    source: str

    @property
    def path(self) -> Path:
        """Where it is, or will be, on this machine."""
        return weights_folder() / self.file_name

    @property
    def length(self) -> str:
        """Its size as printed."""
        return "size not published" if self.size is None else f"{self.size:,} bytes"


# Each entry is a tuple of WeightFile: any of them will do, and the first is the one that is fetched.
WEIGHTS = Registry(
    "weights",
    group="evalkit.weights",
    entries={
        "utmos": "evalkit.metrics.utmos:WEIGHT_FILES",
    },
)


def weights_folder() -> Path:
    """The folder of weights (see the module's text); it need not exist."""
    if folder := os.environ.get("EVALKIT_WEIGHTS"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "evalkit" / "weights"


def weight_files(name: str) -> tuple[WeightFile, ...]:
    """The files that are accepted for `name`, the one to fetch first.

    Raises:
        UnknownName: nothing of that name has weights to fetch.
    """
    files: tuple[WeightFile, ...] = WEIGHTS.resolve(name)
    return files


def find_weights(name: str) -> tuple[Path, WeightFile] | None:
    """The first accepted file of `name` that is there, by its name alone, and what it must be; None if none is.

    Raises:
        UnknownName: as in `weight_files`.
    """
    return next(((file.path, file) for file in weight_files(name) if file.path.is_file()), None)


def require_weights(name: str) -> tuple[Path, WeightFile]:
    """The file of `name` that is there, and what it must be. Its content is not read: see `check_weights`.

    Raises:
        UnknownName: as in `weight_files`.
        Unavailable: none is there, or it has not the published length; the message says how to get it.
    """
    if (found := find_weights(name)) is None:
        places = " Or: ".join(
            f"{file.url} ({file.length}, sha256 {file.sha256}) as {_below_home(file.path)}."
            for file in weight_files(name)
        )
        raise Unavailable(
            f"{name}: the weights are missing. Fetch them: evalkit weights fetch {name}. By hand: {places}"
        )
    path, file = found
    if file.size is not None and path.stat().st_size != file.size:
        check_weights(name, path, file)
    return found


def _below_home(path: Path) -> str:
    """`path` as it reads on any machine, where it lies in the home folder: tables are shown to others."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def check_weights(name: str, path: Path, file: WeightFile) -> None:
    """Read the whole of `path` and compare it with what was published.

    Raises:
        Unavailable: it differs; the message names what was expected and what was found. The file stays.
    """
    if found := mismatches(path, file.size, {"sha256": file.sha256}):
        raise Unavailable(
            f"{name}: {path} is not the published file. {'; '.join(found)}. Fetch it anew: evalkit weights fetch {name}"
        )
