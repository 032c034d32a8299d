"""Files written whole or not at all, and what is in them.

Nothing here follows a symbolic link that lies where a file of ours belongs: in a folder that somebody else made, or can
write to, such a link would let a run overwrite any file of its user.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PART_SUFFIX = ".part"


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file so that a kill at any moment leaves the old one or the new one, never a part.

    The block writes to the path it gets, an empty file beside `path` under a name that cannot be foreseen; when it ends
    without an error, that file takes the place of `path` (of the link, where `path` is a symbolic link).

    Args:
        path: of the file; its folder exists.

    Yields:
        the path to write to; it says nothing of the file's format, so name that where a writer goes by the suffix.

    Raises:
        OSError: what the block or the file system raises, naming `path`: a full disk, a folder that may not be written,
            a folder where the file belongs.
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}{PART_SUFFIX}")
    with _naming(path, part):
        if path.is_dir() and not path.is_symlink():
            raise IsADirectoryError(errno.EISDIR, "a folder is where this file belongs; move it away", str(path))
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with suppress(OSError):  # held while it is written: `remove_leftovers` knows it by that
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
            os.close(descriptor)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the block, with its parents; where the block fails, nothing that was made stays.

    A folder that was there before stays with what is in it.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in made[1:]:
            with suppress(OSError):  # others have put something there
                parent.rmdir()
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a text file in UTF-8, line ends as they are; whole or not at all, as `whole` does.

    Raises:
        OSError: as `whole`.
    """
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder`; what others are writing now is left alone."""
    for part in folder.glob(f".*{PART_SUFFIX}"):
        with suppress(OSError):  # another process was faster, or holds it
            descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(descriptor)


def open_own(path: Path, mode: str, buffering: int = -1, newline: str | None = None) -> Any:
    """`open` for a file that is written bit by bit, such as a journal or a lock; text is in UTF-8.

    Raises:
        OSError: a symbolic link lies there, or the file cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        try:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise OSError(
                errno.ELOOP, "a symbolic link is where a file of ours belongs; remove the link", name
            ) from error

    return open(path, mode, buffering, encoding=None if "b" in mode else "utf-8", newline=newline, opener=opener)


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _naming(path: Path, part: Path) -> Iterator[None]:
    """Errors of the system that name no file, or the part that the user does not know, name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename not in (None, str(part)):
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno or errno.EIO, reason, str(path)) from error
