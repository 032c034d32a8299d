"""Fetching published corpora: download, verify, unpack, each safe to interrupt and to repeat.

Everything unfinished lives in DESTINATION/.fetch; a corpus folder appears only when it is complete.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import sys
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

from evalkit.datasets import DATASETS
from evalkit.datasets.corpus import DatasetError, find_audio
from evalkit.datasets.layout import Archive, require_part, root_variable
from evalkit.downloads.transfer import Progress, download, verify
from q2d2.errors import printable

# Unpacked size over archive size, with a margin; the largest is that of LJSpeech, 1.4.
_UNPACKED_RATIO = 1.5
# Beyond what the ratio allows, for small archives; and the least packed bytes a file of a corpus has, on average.
_SPARE_BYTES, _SPARE_MEMBERS, _MEMBER_BYTES = 64 * 2**20, 10_000, 1_000
_HEADER_BYTES = 2**20  # of one long name or attribute: what is read into memory


@dataclass(frozen=True)
class Fetched:
    """What a fetch left.

    Attributes:
        root: what load_corpus takes.
        folder: holds the part.
        already_there: nothing had to be done.
    """

    dataset: str
    part: str
    root: Path
    folder: Path
    already_there: bool

    def __str__(self) -> str:
        state = "is already there, complete" if self.already_there else "is ready"
        return (
            f"{self.dataset} {self.part} {state}: {self.folder}. Use it with {root_variable(self.dataset)}={self.root}"
        )


def fetch(
    dataset: str, part: str | None, destination: Path, progress: Progress | None = None, *, pause_seconds: float = 2.0
) -> Fetched:
    """Download, verify and unpack one part of a dataset below `destination`; does nothing if it is there.

    Args:
        dataset: a name in DATASETS whose module has ARCHIVES.
        part: a key of ARCHIVES; None if there is only one.
        destination: folder that will hold the corpus folder; made if need be.
        progress: called with (stage, bytes done, bytes in all or None); see evalkit.downloads.transfer.progress_bar.
        pause_seconds: wait before the first repeated attempt after a dropped connection.

    Raises:
        UnknownName: no such dataset.
        DatasetError: no archive is published for it; the part is unknown; an incomplete folder is in the way; too
            little space; the archive is damaged or unsafe.
        DownloadError: the server refuses; the connection failed several times in a row; size or checksum differ.
    """
    archives = archives_of(dataset)
    if part is None:
        if len(archives) > 1:
            raise DatasetError(f"{dataset}: which part? Give --part with one of {', '.join(archives)}.")
        part = next(iter(archives))
    require_part(dataset, part, archives)
    archive = archives[part]
    destination = destination.expanduser().resolve()
    result = Fetched(dataset, part, destination, destination / archive.folder, already_there=True)
    if result.folder.exists():
        _require_complete(result, archive)
        return result

    work = destination / ".fetch"
    packed = work / f"{dataset}-{archive.url.rpartition('/')[2]}"
    _require_space(destination, archive, packed)
    if not packed.exists():
        download(archive.url, packed, progress, pause_seconds=pause_seconds)
    verify(packed, archive.size, archive.checksums, progress)
    unpack(packed, work / f"{dataset}-{part}.unpacking", destination, archive.folder, progress)
    packed.unlink()
    if not any(work.iterdir()):
        work.rmdir()
    return Fetched(dataset, part, destination, result.folder, already_there=False)


def archives_of(dataset: str) -> Mapping[str, Archive]:
    """Part -> Archive, from ARCHIVES in the module that opens `dataset`.

    Raises:
        UnknownName: no such dataset.
        DatasetError: its module has no ARCHIVES.
    """
    module = sys.modules[DATASETS.resolve(dataset).__module__]
    archives: Mapping[str, Archive] = getattr(module, "ARCHIVES", {})
    if not archives:
        raise DatasetError(f"{dataset}: there is nothing to fetch; no archive of it is published.")
    return archives


def unpack(packed: Path, scratch: Path, destination: Path, folder: str, progress: Progress | None = None) -> None:
    """Unpack a tar archive into `scratch`, then move `folder` and the files beside it to `destination`.

    Members that lead out of the folder (absolute paths, "..", links), devices and the like are refused, and so is what
    unpacks to more than the room that `fetch` asked for. The move of `folder` is one rename and comes last: a kill
    leaves it whole or absent.

    Raises:
        DatasetError: the archive is damaged, unsafe, or lacks `folder`, or the disk is full; nothing
            of it is left in `destination`.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DatasetError("this Python cannot unpack archives safely; use 3.11.4 or later, or 3.12.")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    size = packed.stat().st_size
    room, members = int(_UNPACKED_RATIO * size) + _SPARE_BYTES, size // _MEMBER_BYTES + _SPARE_MEMBERS
    try:
        with (
            packed.open("rb") as raw,
            _checked(raw) as stream,
            tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as tar,
        ):
            for count, member in enumerate(tar, start=1):
                room -= member.size
                if room < 0 or count > members:
                    raise DatasetError(
                        f"{packed.name} is unsafe and was not unpacked: in {size:,} bytes it claims "
                        + ("too many files" if count > members else "far more than it can hold")
                    )
                tar.extract(member, scratch, filter="data")
                if progress is not None:
                    progress("unpacking", raw.tell(), size)
            while room >= 0 and (rest := stream.read(2**20)):  # to its end, where the checksum is
                room -= len(rest)
        if not (scratch / folder).is_dir():
            raise DatasetError(f"{packed.name} holds no folder {folder}")
        target = destination / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        for beside in (scratch / folder).parent.iterdir():
            if beside.is_file() and not (target.parent / beside.name).exists():
                beside.rename(target.parent / beside.name)
        (scratch / folder).rename(target)
    except tarfile.FilterError as error:
        raise DatasetError(f"{packed.name} is unsafe and was not unpacked: {error}") from error
    # The last ones: names with a zero byte, times that no file can have.
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{packed.name} cannot be unpacked in {scratch}: {printable(str(error))}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _checked(raw: IO[bytes]) -> IO[bytes]:
    """What is unpacked, with gzip's checksum compared, which tarfile's own reading of a stream leaves out."""
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw


class _Member(tarfile.TarInfo):
    """A header that is looked at before what it announces is read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _READ_WHOLE and member.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {member.size:,} bytes, at most {_HEADER_BYTES:,} are read")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a file with holes, which no corpus has")
        return member


_READ_WHOLE = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


def _require_complete(there: Fetched, archive: Archive) -> None:
    count = sum(1 for _ in find_audio(there.folder))
    if count < archive.utterances:
        raise DatasetError(
            f"{there.folder} is there, with {count:,} of {archive.utterances:,} utterances. It is usable as it is "
            "(partial). To fetch the whole part, move that folder away, or give another destination."
        )


def _require_space(destination: Path, archive: Archive, packed: Path) -> None:
    """Ask for room for what is still to come, before hours of download end on a full disk."""
    there = next(parent for parent in (destination, *destination.parents) if parent.exists())
    have = sum(path.stat().st_size for path in (packed, packed.with_name(packed.name + ".part")) if path.exists())
    needed = int(archive.size * (1 + _UNPACKED_RATIO)) - have
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DatasetError(
            f"{destination}: {needed / 1e9:.1f} GB needed for {archive.url} and what it unpacks to, "
            f"{free / 1e9:.1f} GB free. Choose another destination."
        )
