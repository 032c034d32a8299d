"""Zip archives: what a directory claims of its entries is bounded and compared before anything is unpacked."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from q2d2.errors import UserError, printable, shown

MAX_ENTRIES = 100_000
# What an archive may unpack to: so much in any case, beyond it so many times its own size (codes: about tenfold).
UNPACKED_BYTES, UNPACKED_RATIO = 64 * 2**20, 64
_CHUNK = 2**20
# What zipfile and numpy raise on damage.
_DAMAGE = (
    OSError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, ValueError, TypeError, LookupError,
    NotImplementedError, RuntimeError, OverflowError, SyntaxError, tokenize.TokenError, MemoryError,
)  # fmt: skip


class ArchiveError(UserError, ValueError):
    """An archive that is damaged or claims more than it can hold; the message gives the reason, not the file."""


def check_stored(path: Path) -> None:
    """See that a zip archive holds its entries as they are, none compressed, each with its own checksum.

    Of what torch.save writes nothing is compressed, so no such archive can unpack to more than its own size; and torch
    itself, which maps the entries into memory, compares no checksum. The whole file is read.

    Raises:
        ArchiveError: the archive is damaged, or an entry is compressed, encrypted, there twice or too long.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in _entries(archive, path.stat().st_size):
                if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                    raise ArchiveError(f"{printable(entry.filename)} is compressed, which torch.save does not do")
                if entry.CRC:  # torch can be asked to leave checksums out
                    with archive.open(entry) as content:
                        while content.read(_CHUNK):
                            pass
    except ArchiveError:
        raise
    except _DAMAGE as error:
        raise ArchiveError(_reason(error)) from error


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file, without those of objects; memory is taken for no more than is there.

    Raises:
        ArchiveError: there is no such file, it is damaged, holds objects, or claims more than it can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, path.stat().st_size)
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    except ArchiveError:
        raise
    except _DAMAGE as error:
        raise ArchiveError(_reason(error)) from error


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays as an .npz file, compressed: the same bytes for the same arrays, whenever they are written.

    Raises:
        OSError: it cannot be written.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))  # numpy's own writer notes the time
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            with archive.open(entry, "w", force_zip64=True) as content:
                npy.write_array(content, np.asanyarray(array), allow_pickle=False)


def _entries(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """The entries of an archive of `size` bytes, after what they claim together is found possible."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise ArchiveError(f"{len(entries):,} entries, at most {MAX_ENTRIES:,} are read")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ArchiveError("several entries have one name")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > max(UNPACKED_BYTES, UNPACKED_RATIO * size):
        raise ArchiveError(f"its entries claim {claimed:,} bytes in a file of {size:,}")
    if sum(entry.compress_size for entry in entries) > size:
        raise ArchiveError("its entries overlap")
    return entries


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    name = printable(entry.filename)
    with archive.open(entry) as content:
        version = npy.read_magic(content)
        if version not in ((1, 0), (2, 0)):
            raise ArchiveError(f"{name} has version {version} of numpy's format, expected 1.0 or 2.0")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(content)
        if dtype.hasobject or not dtype.itemsize:
            raise ArchiveError(
                f"{name} holds {'objects' if dtype.hasobject else 'items of no bytes'}, expected numbers"
            )
        if any(extent < 0 for extent in shape) or math.prod(shape) * dtype.itemsize != entry.file_size - content.tell():
            raise ArchiveError(f"{name} claims the shape {shown(shape)} of {dtype}, which its length contradicts")
    with archive.open(entry) as content:  # from its start: numpy reads the header itself
        array: NDArray[Any] = npy.read_array(content, allow_pickle=False)
        if content.read(1):
            raise ArchiveError(f"{name} holds more than an array")
    return array


def _reason(error: Exception) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return printable(reason)
