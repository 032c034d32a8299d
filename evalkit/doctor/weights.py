"""Fetching and listing weights by name, those of metrics and those of whole codecs.

A metric's files are kept in the folder of weights (evalkit.metrics.weights), a codec's in the hub's cache of this
machine or in a root of one's own (baselines.codecs.weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evalkit.downloads.transfer import Progress, download, mismatches, verify
from evalkit.metrics import METRICS
from evalkit.metrics.weights import WEIGHTS, WeightFile, weight_files
from q2d2.errors import UserError, did_you_mean
from q2d2.registry import UnknownName, is_import_path

if TYPE_CHECKING:
    from baselines.codecs.weights import Weights


class WeightsError(UserError, ValueError):
    """Weights that cannot be fetched or looked for as asked; the message says why."""


@dataclass(frozen=True)
class FetchedWeights:
    """What a fetch left.

    Attributes:
        name: of the metric or codec.
        path: the file, verified; of a codec the folder of its files.
        version: which they are: the start of the file's SHA-256, or the commit, as far as it is known.
        source: whose they are and under which licence, one line.
        already_there: nothing had to be done.
    """

    name: str
    path: Path
    version: str
    source: str
    already_there: bool

    def __str__(self) -> str:
        state = "are already there" if self.already_there else "are ready"
        return f"{self.name} weights {state}: {self.path} ({self.version}; {self.source})"


@dataclass(frozen=True)
class WeightsRow:
    """One accepted file of a metric, or a codec's files, as they are on this machine.

    Attributes:
        name: of the metric or codec that needs it.
        state: "absent", "verified", "present", "present, not the published file", "present, commit ...",
            "present, your own folder", "incomplete" or "not usable" (the codec cannot be imported).
        there: they can be used, as far as was looked.
        path: where it is, or would be; None for a codec's that are not there.
        size: in bytes: of what is there, or as published; None if neither is known.
        origin: what would be fetched from where; of a codec that is not usable, why.
        way: the command, or what to do by hand, that brings them; empty if they are there.
    """

    name: str
    state: str
    there: bool
    path: Path | None
    size: int | None
    origin: str
    way: str

    def __str__(self) -> str:
        size = "size not published" if self.size is None else f"{self.size:,} bytes"
        place = [f"{self.path} ({size})"] if self.path else []
        return f"{self.name:15} {self.state}: {'; '.join([*place, *filter(None, (self.origin, self.way))])}"


def fetch_weights(
    name: str,
    progress: Progress | None = None,
    *,
    root: Path | None = None,
    pause_seconds: float = 2.0,
    trust_code: bool = False,
) -> FetchedWeights:
    """Make sure that the weights of `name` are there, whole and verified.

    A metric's: the first accepted file is downloaded if none is there. A file appears under its name only when it is
    complete and verified; one that was there and is not the published file is replaced then. A download that was
    interrupted is kept in .fetch and goes on from there. A codec's: see `HubWeights.fetch`.

    Args:
        name: in WEIGHTS or baselines.codecs.CODECS, or a codec as "package.module:Class".
        progress: called with (stage, bytes done, bytes in all or None); see
            evalkit.downloads.transfer.progress_bar. Not called for a codec: the hub's library shows a bar of its own.
        root: folder for a codec's files, instead of the hub's cache of this machine.
        pause_seconds: wait before the first repeated attempt after a dropped connection.
        trust_code: whether "package.module:Class" may be imported.

    Raises:
        UntrustedCode: "package.module:Class" without `trust_code`.
        UnknownName: neither a metric nor a codec; the message suggests a close name.
        WeightsError: there are no weights to fetch, or `root` does not fit.
        CodecError: the codec cannot be imported; the message says what to install.
        WeightsMissing: the codec's weights are on no hub; or `root` has a folder called `name`, which would be
            preferred, and lacks a file.
        DownloadError: the server refuses, the connection failed several times in a row, or what came is not the
            published file: then it is deleted, and the message names both digests.
        HubError: as in `HubWeights.fetch`.
    """
    if root is not None and root.exists() and not root.is_dir():
        raise WeightsError(f"{root} is a file; the root of weights is a folder")
    return _source(name, trust_code).fetch(progress, root, pause_seconds)


def list_weights(
    progress: Progress | None = None, *, root: Path | None = None, verify: bool = True
) -> list[WeightsRow]:
    """Every accepted file of every metric, and the files of every codec; without any network.

    Args:
        progress: as in `fetch_weights`.
        root: folder to look for codecs' files in before the hub's cache of this machine.
        verify: read the metrics' files that are there, whole, and compare their digests; otherwise their lengths.

    Raises:
        WeightsError: `root` is no folder.
    """
    if root is not None and not root.is_dir():
        raise WeightsError(f"{root}: no such folder of weights")
    from baselines.codecs import CODECS

    sources: list[_Source] = [*map(_OfMetric, WEIGHTS.names()), *map(_OfCodec, CODECS.names())]
    return [row for source in sources for row in source.rows(progress, root, verify)]


class _Source(Protocol):
    """Weights of one name."""

    def fetch(self, progress: Progress | None, root: Path | None, pause_seconds: float) -> FetchedWeights: ...

    def rows(self, progress: Progress | None, root: Path | None, verify: bool) -> list[WeightsRow]: ...


def _source(name: str, trust_code: bool) -> _Source:
    if name in WEIGHTS.names():
        return _OfMetric(name)
    if name in METRICS.names():
        raise WeightsError(f"{name}: there is nothing to fetch, this metric needs no other file than its library")
    from baselines.codecs import CODECS

    if is_import_path(name) or name in CODECS.names():
        return _OfCodec(name, trust_code)
    known = list(dict.fromkeys(row.name for row in list_weights(verify=False)))
    raise UnknownName(f"unknown weights {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}.")


@dataclass(frozen=True)
class _OfMetric:
    name: str

    def fetch(self, progress: Progress | None, root: Path | None, pause_seconds: float) -> FetchedWeights:
        if root is not None:
            raise WeightsError(f"{self.name}: a root is for whole codecs; EVALKIT_WEIGHTS names the folder of metrics")
        files = weight_files(self.name)
        for file in files:
            if file.path.is_file() and not mismatches(file.path, file.size, {"sha256": file.sha256}, progress):
                return self._fetched(file, already_there=True)
        file = files[0]
        fetched = file.path.parent / ".fetch" / file.file_name
        if not fetched.exists():
            download(file.url, fetched, progress, pause_seconds=pause_seconds)
        verify(fetched, file.size, {"sha256": file.sha256}, progress)
        fetched.replace(file.path)
        if not any(fetched.parent.iterdir()):
            fetched.parent.rmdir()
        return self._fetched(file, already_there=False)

    def _fetched(self, file: WeightFile, already_there: bool) -> FetchedWeights:
        return FetchedWeights(self.name, file.path, f"sha256 {file.sha256[:12]}", file.source, already_there)

    def rows(self, progress: Progress | None, root: Path | None, verify: bool) -> list[WeightsRow]:
        return [self._row(file, progress, verify) for file in weight_files(self.name)]

    def _row(self, file: WeightFile, progress: Progress | None, verify: bool) -> WeightsRow:
        way = f"evalkit weights fetch {self.name}"
        if not file.path.is_file():
            return WeightsRow(self.name, "absent", False, file.path, file.size, file.url, way)
        size = file.path.stat().st_size
        if verify:
            wrong = bool(mismatches(file.path, file.size, {"sha256": file.sha256}, progress))
        else:
            wrong = file.size not in (None, size)
        if wrong:
            return WeightsRow(self.name, "present, not the published file", False, file.path, size, file.url, way)
        return WeightsRow(self.name, "verified" if verify else "present", True, file.path, size, file.url, "")


@dataclass(frozen=True)
class _OfCodec:
    name: str
    trust_code: bool = False

    def fetch(self, progress: Progress | None, root: Path | None, pause_seconds: float) -> FetchedWeights:
        from baselines.codecs import codec_class
        from baselines.codecs.weights import WeightsMissing

        if (weights := codec_class(self.name, self.trust_code).weights) is None:
            raise WeightsError(f"{self.name}: there is nothing to fetch, this codec needs no weights")
        own = root is not None and (root / self.name).is_dir()
        try:
            folder = weights.find(self.name, root)
            before = _written(_held(weights, folder, own))
        except WeightsMissing:
            if own:  # it would be found before anything that is fetched
                raise
            before = []
        if not own:
            try:
                folder = weights.fetch(root)
            except WeightsMissing as error:
                raise WeightsMissing(f"{self.name}: {error}") from error
        version = _version(weights, folder, own) + (", not compared with the published files" if own else "")
        same = before == _written(_held(weights, folder, own))
        return FetchedWeights(self.name, folder, version, weights.source, already_there=same)

    def rows(self, progress: Progress | None, root: Path | None, verify: bool) -> list[WeightsRow]:
        from baselines.codecs import CodecError, codec_class

        try:
            weights = codec_class(self.name).weights
        except CodecError as error:
            reason, _, way = str(error).rpartition("cannot be imported: ")[2].partition(". Install: ")
            return [WeightsRow(self.name, "not usable", False, None, None, reason, way)]
        return [] if weights is None else [self._row(weights, root)]

    def _row(self, weights: Weights, root: Path | None) -> WeightsRow:
        from baselines.codecs.weights import WeightsMissing

        origin, way = self._origin_and_way(weights)
        own = root / self.name if root is not None else None
        try:
            folder = weights.find(self.name, root)
        except WeightsMissing as error:
            if own is not None and own.is_dir():
                reason = str(error).removeprefix(f"{self.name}: ")
                return WeightsRow(self.name, "incomplete", False, None, None, reason, "")
            return WeightsRow(self.name, "absent", False, None, None, origin, way)
        size = sum(path.stat().st_size for path in _held(weights, folder, folder == own))
        state = f"present, {_version(weights, folder, folder == own)}"
        return WeightsRow(self.name, state, True, folder, size, origin, "")

    def _origin_and_way(self, weights: Weights) -> tuple[str, str]:
        from baselines.codecs.weights import HubWeights, LocalWeights

        files, fetch = ", ".join(weights.files), f"evalkit weights fetch {self.name}"
        if isinstance(weights, HubWeights):
            return f"{files} of {weights.repo} at {weights.revision or 'main, not pinned'}", fetch
        if isinstance(weights, LocalWeights):
            return weights.source, f"put {files} of {weights.page} into DIR/{self.name}, --weights-root DIR"
        return f"{files}, {weights.source}", fetch


def _version(weights: Weights, folder: Path, own: bool) -> str:
    from baselines.codecs.weights import HubWeights

    if own:
        return "your own folder"
    return f"commit {folder.name}" if isinstance(weights, HubWeights) else "where its codec keeps them"


def _held(weights: Weights, folder: Path, own: bool) -> list[Path]:
    """The files of weights in `folder`; those of one's own may be called otherwise."""
    patterns: Sequence[str] = (getattr(weights, "own_files", None) if own else None) or weights.files
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _written(files: Sequence[Path]) -> list[tuple[Path, int]]:
    """The files themselves and when they were written: equal only where nothing was fetched in between."""
    return [(path.resolve(), path.stat().st_mtime_ns) for path in files]
