"""Audio files as columns: cut into Arrow record batches, and read back row by row without copying."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from q2d2.errors import UserError

VERSION = 1
BATCH_ROWS = 16_384
SCHEMA = pa.schema(
    [
        pa.field("path", pa.binary(), nullable=False),  # a file's name need not be UTF-8
        pa.field("frames", pa.int64(), nullable=False),
        pa.field("sample_rate", pa.int32(), nullable=False),
        pa.field("end", pa.float64(), nullable=False),
    ]
)


class ManifestError(UserError, ValueError):
    """A manifest that cannot be read or written.

    It takes one argument, as errors that cross from a worker process of a DataLoader must.
    """


@dataclass(frozen=True)
class AudioFile:
    """A file to draw segments from, `frames` samples per channel long at `sample_rate` Hz."""

    path: Path
    frames: int
    sample_rate: int


@dataclass(frozen=True)
class Summary:
    """What is known of the columns without reading them.

    Attributes:
        version: of the format.
        count: number of rows.
        seconds: duration of all files together.
        digest: SHA-256, see Manifest.digest.
        batch_rows: rows of each batch; the last may have fewer.
    """

    version: int
    count: int
    seconds: float
    digest: str
    batch_rows: int

    @property
    def num_batches(self) -> int:
        return -(-self.count // self.batch_rows)

    def rows(self, number: int) -> int:
        """Rows of batch `number`."""
        return min(self.batch_rows, self.count - number * self.batch_rows)


class Cutter:
    """Cuts files into record batches, one at a time, and sums up what went through.

    Args:
        folder: absolute path; files in or below it are written relative to it, and all others with their absolute path.
            None: paths are taken as they are.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._prefix = None if folder is None else os.fsencode(os.path.join(folder, ""))
        self._count = 0
        self._seconds = 0.0
        self._digest = hashlib.sha256()

    def batches(self, files: Iterable[AudioFile]) -> Iterator[pa.RecordBatch]:
        """Record batches of SCHEMA.

        Raises:
            ManifestError: a file has less than one frame, or a sample rate below 1 Hz.
        """
        source = iter(files)
        while chunk := list(itertools.islice(source, BATCH_ROWS)):
            yield self._batch(chunk)
            del chunk  # before the next one is built beside it

    def _batch(self, chunk: list[AudioFile]) -> pa.RecordBatch:
        paths = [os.fsencode(file.path) for file in chunk]
        frames = np.array([file.frames for file in chunk], np.int64)
        rates = np.array([file.sample_rate for file in chunk], np.int32)
        if (wrong := np.flatnonzero((frames < 1) | (rates < 1))).size:
            file = chunk[int(wrong[0])]
            raise ManifestError(
                f"{file.path}: {file.frames} frames at {file.sample_rate} Hz, at least 1 of both needed"
            )
        # Added up one after the other, so that the sums do not depend on where batches end.
        ends = np.cumsum(np.concatenate([[self._seconds], frames / rates]))[1:]
        self._count += len(chunk)
        self._seconds = float(ends[-1])
        self._digest.update(b"".join(map(_identity, paths, frames.tolist(), rates.tolist())))
        stored = [self._stored(path) for path in paths]
        return pa.record_batch([pa.array(stored, pa.binary()), frames, rates, ends], schema=SCHEMA)

    def summary(self) -> Summary:
        """Of all files so far."""
        return Summary(VERSION, self._count, self._seconds, self._digest.hexdigest(), BATCH_ROWS)

    def _stored(self, path: bytes) -> bytes:
        if self._prefix is None:
            return path
        return os.path.abspath(path).removeprefix(self._prefix)


class BatchView:
    """The rows of a record batch, read where they lie.

    Attributes:
        ends: (rows,) float64, seconds from the start of the manifest.

    Raises:
        ValueError, TypeError: the batch does not have SCHEMA and `rows` rows, or is damaged.
    """

    def __init__(self, batch: pa.RecordBatch, rows: int) -> None:
        if batch.num_rows != rows:
            raise ValueError(f"{batch.num_rows} rows instead of {rows}")
        path, frames, rates, ends = (column.buffers() for column in batch.columns)
        # Looked into as plain numbers: Arrow would follow a damaged offset to wherever it leads.
        self._offsets = np.frombuffer(path[1], np.int32, rows + 1)
        self._names = memoryview(path[2])
        self._frames = np.frombuffer(frames[1], np.int64, rows)
        self._rates = np.frombuffer(rates[1], np.int32, rows)
        self.ends = np.frombuffer(ends[1], np.float64, rows)

    def row(self, row: int) -> tuple[str, int, int]:
        """Path, frames and sample rate.

        Raises:
            ValueError: the row is damaged.
        """
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        frames, rate = int(self._frames[row]), int(self._rates[row])
        if not 0 <= start < stop <= len(self._names) or frames < 1 or rate < 1:
            raise ValueError("no path, frames or sample rate")
        return os.fsdecode(bytes(self._names[start:stop])), frames, rate


def _identity(path: bytes, frames: int, rate: int) -> bytes:
    """What of a file goes into the digest: no name holds the byte 0, so the rows stay apart."""
    name = os.path.splitext(os.path.basename(path))[0]
    return b"%b\0%d\0%d\0" % (name, frames, rate)
