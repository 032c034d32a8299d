"""A manifest: which audio files there are and how long each one is, in columns, for corpora of any size.

On disk it is an Arrow IPC file of the columns path (bytes; relative to the manifest's folder unless absolute), frames
(int64), sample_rate (int32, Hz) and end (float64: seconds from the start of the corpus to the end of the file). It is
mapped into memory: opening reads only its footer, looking a file up reads a few pages, and processes share them. Pages
are given back from time to time, so that memory stays flat while a whole epoch is drawn.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from q2d2.files import whole
from q2d2.plain_values import parse_json
from q2d2.training.columns import SCHEMA, VERSION, AudioFile, BatchView, Cutter, ManifestError, Summary

__all__ = ["AudioFile", "Manifest", "ManifestError", "write_manifest"]

_KEY = b"codec-bottlenecks.manifest"
# The system maps 64 KiB at each touch, and a look-up touches a handful of places: some 20 MiB are held between.
_LOOKUPS_HELD = 64
_BEFORE_ONE = math.nextafter(1.0, 0.0)


class Manifest:
    """An immutable list of audio files, laid end to end on a timeline of `seconds` seconds.

    Pickled, a manifest from a file is its path: other processes map the file anew. A file that is to be replaced while
    in use must be renamed over, as `write_manifest` does, never written in place.
    """

    def __init__(self, parts: Iterable[_Part]) -> None:
        self._parts = [part for part in parts if part.summary.count]
        self._counts = list(itertools.accumulate((part.summary.count for part in self._parts), initial=0))
        self._starts = list(itertools.accumulate((part.summary.seconds for part in self._parts), initial=0.0))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Manifest:
        """Open a file that `write_manifest` wrote; takes milliseconds, however many entries there are.

        Raises:
            ManifestError: the file is missing, cut off, damaged, no manifest, or of another version. Damage inside the
                columns shows, as this same error, when an entry there is looked up.
        """
        return cls([_open(os.path.abspath(path))])

    @classmethod
    def of(cls, files: Iterable[AudioFile]) -> Manifest:
        """Hold `files` in memory, in columns; there may be none.

        Raises:
            ManifestError: a file has less than one frame, or a sample rate below 1 Hz.
        """
        cutter = Cutter()
        batches = list(cutter.batches(files))
        return cls([_Part(cutter.summary(), batches.__getitem__, batches)])

    @classmethod
    def concat(cls, manifests: Iterable[Manifest]) -> Manifest:
        """The files of several manifests, one after the other; nothing is copied."""
        return cls(part for manifest in manifests for part in manifest._parts)

    def __len__(self) -> int:
        return self._counts[-1]

    @property
    def seconds(self) -> float:
        """Duration of all files together."""
        return self._starts[-1]

    @property
    def digest(self) -> str:
        """64 hex digits (SHA-256) over name without folders and suffix, frames and sample rate of each file, in order.

        Where the files lie does not count. Of several manifests in one, it is over their digests.
        """
        digests = [part.summary.digest for part in self._parts]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def __getitem__(self, index: int) -> AudioFile:
        """Entry `index`, counted from 0.

        Raises:
            IndexError: there is no such entry.
            ManifestError: the file is damaged there.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"entry {index} of a manifest of {len(self)}")
        part = bisect.bisect_right(self._counts, index) - 1
        return self._parts[part].file(*divmod(index - self._counts[part], self._parts[part].summary.batch_rows))

    def __iter__(self) -> Iterator[AudioFile]:
        return (self[index] for index in range(len(self)))

    def at(self, seconds: float) -> tuple[AudioFile, float]:
        """The file at a time of the timeline, and where in it: a fraction of its duration in [0, 1).

        Raises:
            ValueError: `seconds` is not in [0, self.seconds).
            ManifestError: the file is damaged there.
        """
        if not 0 <= seconds < self.seconds:
            raise ValueError(f"{seconds} s is not on the timeline of {self.seconds} s")
        part = bisect.bisect_right(self._starts, seconds) - 1
        return self._parts[part].at(seconds - self._starts[part])


def write_manifest(path: str | os.PathLike[str], files: Iterable[AudioFile]) -> Manifest:
    """Write a manifest and open it; `files` may be millions, as a generator: memory stays flat.

    Files in the manifest's folder or below are stored relative to it, so that both can be moved together. The file
    appears under its name when it is complete; an older one is replaced then.

    Args:
        path: of the manifest, such as train.arrow.
        files: in the order of the timeline; relative paths are relative to the working directory.

    Raises:
        ManifestError: there are no files, or one has less than one frame or a sample rate below 1 Hz.
        OSError: the disk cannot be written.
    """
    target = os.path.abspath(path)
    folder = os.path.dirname(target)
    cutter = Cutter(folder)
    with whole(target) as part, tempfile.TemporaryFile(dir=folder) as columns:
        with pa.ipc.new_file(columns, SCHEMA) as writer:
            for batch in cutter.batches(files):
                writer.write_batch(batch)
        summary = cutter.summary()
        if not summary.count:
            raise ManifestError(f"{path}: there are no files to list")
        # The summary is known only now, but a schema comes first in a file: the columns are copied behind it.
        described = SCHEMA.with_metadata({_KEY: json.dumps(asdict(summary))})
        columns.seek(0)
        with (
            pa.ipc.open_file(columns) as reader,
            pa.OSFile(str(part), "wb") as sink,
            pa.ipc.new_file(sink, described) as writer,
        ):
            for number in range(summary.num_batches):
                writer.write_batch(reader.get_batch(number))
    return Manifest.open(target)


class _Part:
    """The stretch of a timeline that one file or one list takes.

    Args:
        summary: of its columns.
        load: number -> record batch.
        batches: all batches of a list; None for a file.
        path: absolute path of the file; "" for a list.
        mapping: of the file.
    """

    def __init__(
        self,
        summary: Summary,
        load: Callable[[int], pa.RecordBatch],
        batches: list[pa.RecordBatch] | None = None,
        path: str = "",
        mapping: mmap.mmap | None = None,
    ) -> None:
        self.summary = summary
        self._load = load
        self._batches = batches
        self._path = path
        self._mapping = mapping
        self._lookups = 0
        self._views: list[BatchView | None] = [None] * summary.num_batches

    def __reduce__(self) -> tuple[Any, ...]:
        if self._batches is None:
            return _reopen, (self._path, self.summary.digest)
        return _hold, (self.summary, self._batches)

    def file(self, number: int, row: int) -> AudioFile:
        self._lookups += 1
        if self._mapping is not None and self._lookups % _LOOKUPS_HELD == 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)  # they stay in the system's cache
        try:
            path, frames, rate = self._view(number).row(row)
        except ValueError as error:
            raise self._damaged(number, error) from error
        return AudioFile(Path(os.path.dirname(self._path), path), frames, rate)

    def at(self, seconds: float) -> tuple[AudioFile, float]:
        earlier = range(len(self._views) - 1)  # what is in none of these is in the last
        number = bisect.bisect_right(earlier, seconds, key=lambda each: self._view(each).ends[-1])
        ends = self._view(number).ends
        row = min(int(np.searchsorted(ends, seconds, side="right")), len(ends) - 1)
        file = self.file(number, row)
        fraction = 1.0 - (float(ends[row]) - seconds) * file.sample_rate / file.frames
        return file, min(max(fraction, 0.0), _BEFORE_ONE)  # rounding may lead out

    def _view(self, number: int) -> BatchView:
        view = self._views[number]
        if view is None:
            try:
                view = BatchView(self._load(number), self.summary.rows(number))
            except (pa.ArrowException, OSError, ValueError, TypeError) as error:
                raise self._damaged(number, error) from error
            self._views[number] = view
        return view

    def _damaged(self, number: int, error: Exception) -> ManifestError:
        return ManifestError(f"{self._path} is damaged in its batch {number}: {_line(error)}. Write it anew.")


def _open(path: str) -> _Part:
    try:
        with open(path, "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # The columns are not compressed: threads would have nothing to do, and processes are forked from this one.
        options = pa.ipc.IpcReadOptions(use_threads=False)
        reader = pa.ipc.open_file(pa.py_buffer(mapping), options=options)
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: there is no such manifest. `evalkit data index` writes one.") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError(f"{path} is no manifest, or is cut off: {_line(error)}. Write it anew.") from error
    described = (reader.schema.metadata or {}).get(_KEY)
    if described is None:
        raise ManifestError(f"{path} is an Arrow file, but no manifest: `evalkit data index` writes one.")
    try:
        values = parse_json(described.decode())
        if (version := values["version"]) != VERSION:
            raise ManifestError(f"{path} is a manifest of version {version}, not {VERSION}. Write it anew.")
        summary = Summary(**values)
        whole = reader.num_record_batches == summary.num_batches > 0
        columns, wanted = _types(reader.schema), _types(SCHEMA)
    except ManifestError:
        raise
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise ManifestError(f"{path} is damaged: its description cannot be read. Write it anew.") from error
    if columns != wanted:
        raise ManifestError(f"{path} is damaged: its columns are {columns}, not {wanted}. Write it anew.")
    if not whole:
        raise ManifestError(
            f"{path} is damaged: {reader.num_record_batches} batches cannot be its {summary.count:,} entries. "
            "Write it anew."
        )
    return _Part(summary, reader.get_batch, path=path, mapping=mapping)


def _reopen(path: str, digest: str) -> _Part:
    part = _open(path)
    if part.summary.digest != digest:
        raise ManifestError(f"{path} was replaced while it was in use. Start again.")
    return part


def _hold(summary: Summary, batches: list[pa.RecordBatch]) -> _Part:
    return _Part(summary, batches.__getitem__, batches)


def _types(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
