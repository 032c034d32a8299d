"""Files of torch.save, read without trust: no code is run, no claim of size is believed, no damage goes unnoticed."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from q2d2.archives import ArchiveError, check_stored
from q2d2.errors import UserError, printable

# Of the part that names the tensors, about 40 operations and 200 bytes each; it is read operation by operation.
MAX_OPERATIONS, MAX_PICKLE_BYTES = 500_000, 8 * 2**20
_TOO_MUCH = "it names more tensors than any model has"
_LEGACY_PICKLES = 4  # of the older format before the tensors: magic number, version, machine, contents


class TorchFileError(UserError, ValueError):
    """A file that torch.save did not write, or that was damaged since; the message names it and says why."""


class ForeignObjects(TorchFileError):
    """A file that holds more than tensors and plain values; `classes` are some of the names of what it holds."""

    def __init__(self, path: Path, classes: list[str]) -> None:
        super().__init__(f"{path} holds objects beside its tensors ({', '.join(map(printable, classes))})")
        self.classes = classes


def read_torch(path: Path) -> Any:
    """What torch.save wrote to `path`, tensors on the CPU, mapped into memory where the format allows.

    Nothing but tensors and plain values is ever loaded (`weights_only`): the general format runs code. The entries of
    the present format are compared with their checksums, which torch itself does not do; the older one has none.

    Raises:
        TorchFileError: no such file, damaged, or not written by torch.save.
        ForeignObjects: objects beside the tensors.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"  # how torch tells
    except OSError as error:
        raise TorchFileError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        if zipped:
            check_stored(path)
        _check_pickles(path, zipped)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except ForeignObjects:
        raise
    except Exception as error:  # a damaged pickle is a damaged program: it can fail in any way
        if classes := _foreign_classes(path, zipped, error):
            raise ForeignObjects(path, classes) from error
        reason = f": {error}" if isinstance(error, ArchiveError) else ""
        raise TorchFileError(f"{path} is damaged, or was not written by torch.save{reason}") from error


def _check_pickles(path: Path, zipped: bool) -> None:
    if not zipped:
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(path, file)
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                if not entry.CRC:  # left out: without the attribute, none is compared
                    del entry.CRC
                if entry.file_size > MAX_PICKLE_BYTES:
                    raise ArchiveError(_TOO_MUCH)
                with archive.open(entry) as content:
                    _check_pickle(path, io.BytesIO(content.read()))


def _check_pickle(path: Path, content: IO[bytes]) -> None:
    """Look through a pickle without running it."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if count == MAX_OPERATIONS:
            raise ArchiveError(_TOO_MUCH)
        # The one thing that torch allows and that takes any memory, filled, for a number.
        if operation.name == "GLOBAL" and str(argument).endswith(" bytearray"):
            raise ForeignObjects(path, ["bytearray"])


def _foreign_classes(path: Path, zipped: bool, refusal: Exception) -> list[str]:
    """Some of the classes that a file names and `weights_only` does not allow; none if that was not the matter."""
    if zipped and not isinstance(refusal, ArchiveError):
        try:
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))[:3]
        except Exception:  # only for the message; a damaged file fails here in any of a dozen ways
            return []
    return re.findall(r"GLOBAL (\S+)", str(refusal))[:1]  # in the older format only the first is known
