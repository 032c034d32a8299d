"""Downloading a file so that neither a dropped connection, a kill nor a damaged copy does harm."""

from __future__ import annotations

import hashlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from q2d2.errors import UserError
from q2d2.files import open_own

# Called with (what is being done, bytes done, bytes in all or None).
Progress = Callable[[str, int, int | None], None]

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60.0
# Attempts in a row that bring no new byte. An attempt that brought some is followed by a fresh set.
_FRUITLESS_ATTEMPTS = 5
# Errors of the network, not of the disk: urllib's own are OSErrors as well, and a full disk must not be retried.
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)
_TEMPORARY_STATUS = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(UserError):
    """A file that could not be fetched, or is not the published one; the message says what to do."""


class InterruptedDownloadError(ConnectionError):
    """The connection ended before all announced bytes were there."""


def download(url: str, target: Path, progress: Progress | None = None, *, pause_seconds: float = 2.0) -> None:
    """Download `url` to `target`, going on from what an earlier attempt left in `target`.part.

    A server that ignores the Range header makes it start again. `target` appears only when the length is complete.

    Args:
        pause_seconds: wait before another attempt; doubled with each one that brings nothing.

    Raises:
        DownloadError: the server refuses, or the connection failed several times in a row; what came is kept.
        OSError: the disk cannot be written.
    """
    partial = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    furthest, fruitless = _size(partial), 0
    while True:
        try:
            _attempt(url, partial, progress)
        except _NETWORK_ERRORS as error:
            came = _size(partial)
            refused = error if isinstance(error, urllib.error.HTTPError) else None
            if refused and refused.code == 416:  # Nothing follows our part: it is whole, or not of this file.
                if refused.headers.get("Content-Range") == f"bytes */{came}":
                    break
                partial.unlink(missing_ok=True)
            elif refused and refused.code not in _TEMPORARY_STATUS:
                raise DownloadError(f"{url}: the server answers {refused.code} {refused.reason}") from error
            # Measured against the furthest point: a server without Range that keeps dropping must come to an end.
            fruitless = 0 if came > furthest else fruitless + 1
            furthest = max(furthest, came)
            if fruitless >= _FRUITLESS_ATTEMPTS:
                raise DownloadError(
                    f"{url}: {fruitless} attempts in a row failed, last: {error}. "
                    f"{came:,} bytes are kept in {partial}; run the same command again to go on from there."
                ) from error
            time.sleep(pause_seconds * 2 ** max(fruitless - 1, 0))
        else:
            break
    partial.replace(target)


def verify(path: Path, size: int | None, checksums: Mapping[str, str], progress: Progress | None = None) -> None:
    """Check length and digests of a file; delete it if they are not what was published.

    Args:
        size, checksums: as in `mismatches`.

    Raises:
        DownloadError: a mismatch; the message gives what was expected and what was found.
    """
    if found := mismatches(path, size, checksums, progress):
        path.unlink()
        raise DownloadError(
            f"{path.name} is not the published file. {'; '.join(found)}. "
            "It was deleted; run the same command again to download it anew."
        )


def mismatches(
    path: Path, size: int | None, checksums: Mapping[str, str], progress: Progress | None = None
) -> list[str]:
    """What differs between a file and the published one, expected and found; empty if nothing does.

    Args:
        size: length in bytes; None if it is not known. Of a file of another length nothing else is looked at.
        checksums: hashlib name -> hexadecimal digest; all must match.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    found = path.stat().st_size
    if size is not None and found != size:
        return [f"length: expected {size:,} bytes, got {found:,}"]
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in checksums}
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for digest in digests.values():
                digest.update(chunk)
            if progress is not None:
                progress("checking", file.tell(), found)
    return [
        f"{name}: expected {expected}, got {digests[name].hexdigest()}"
        for name, expected in checksums.items()
        if digests[name].hexdigest() != expected
    ]


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A rich progress bar with rate and time left, as the `progress` of a download."""
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:>11}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, TimeRemainingColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield show


def _attempt(url: str, partial: Path, progress: Progress | None) -> None:
    """One request: append to `partial`, or write it anew where the server sends the whole file."""
    have = _size(partial)
    headers = {"Accept-Encoding": "identity", "User-Agent": "evalkit"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS) as response:
        if have and not _resumes_at(response, have):
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with open_own(partial, "ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                if progress is not None:
                    progress("downloading", file.tell(), total)
            written = file.tell()
    # read(n) returns what came before a drop without complaint.
    if total is not None and written != total:
        raise InterruptedDownloadError(f"{written:,} of {total:,} bytes came")


def _resumes_at(response: http.client.HTTPResponse, offset: int) -> bool:
    answer = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == 206 and answer is not None and int(answer[1]) == offset


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
