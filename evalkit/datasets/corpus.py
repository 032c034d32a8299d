"""A corpus: the utterances of a folder, and by name what in it cannot be used or had to be adapted."""

from __future__ import annotations

import itertools
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from evalkit.text import escaped, is_text, normalized, told_apart
from q2d2.audio import AudioError, Header, check_audio, read_header
from q2d2.errors import UserError
from q2d2.suffixes import AUDIO_SUFFIXES

if TYPE_CHECKING:
    from q2d2.training.manifest import Manifest

Item = TypeVar("Item")
Result = TypeVar("Result")

# libsndfile works outside the interpreter's lock; more threads than this only wait for the disk.
_THREADS = min(8, (os.cpu_count() or 1) * 2)


class DatasetError(UserError, ValueError):
    """A dataset that cannot be opened or fetched; the message says what to do about it."""


@dataclass(frozen=True)
class Utterance:
    """One file of speech. `frames` counts samples per channel at `sample_rate` (Hz)."""

    id: str
    path: Path
    speaker: str | None
    frames: int
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class Problem:
    """A file and what is the matter with it."""

    path: Path
    reason: str

    def __str__(self) -> str:
        path = str(self.path)
        return f"{path if is_text(path) else escaped(path)}: {self.reason}"


@dataclass(frozen=True)
class Corpus:
    """The usable utterances of one part of a dataset, sorted by id.

    Attributes:
        name, part: what was opened.
        root: the folder that holds the part.
        utterances: sorted by id, ids unique; those of a manifest are made when they are asked for.
        problems: files left out, sorted by path.
        expected: number of utterances as published; None where there is no such number.
        notes: files that are used after an adaptation (several channels, another sample rate), sorted by path.
        manifest: the index that the utterances are read from; None where their files have been looked into. It makes
            a corpus of millions cheap to open, and names no speakers.
    """

    name: str
    part: str
    root: Path
    utterances: Sequence[Utterance]
    problems: tuple[Problem, ...]
    expected: int | None = None
    notes: tuple[Problem, ...] = ()
    manifest: Manifest | None = None

    @property
    def seconds(self) -> float:
        """Seconds of usable audio."""
        if self.manifest is not None:
            return self.manifest.seconds
        return sum(utterance.seconds for utterance in self.utterances)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The known speakers, sorted."""
        if self.manifest is not None:
            return ()
        return tuple(sorted({utterance.speaker for utterance in self.utterances if utterance.speaker is not None}))

    @property
    def coverage(self) -> str:
        """How much of the published part is there, such as "91 of 2,620 utterances (partial)"."""
        count = len(self.utterances)
        if self.expected is None:
            return f"{count:,} utterance{'' if count == 1 else 's'}"
        extent = "complete" if count == self.expected else "partial" if count < self.expected else "more than published"
        return f"{count:,} of {self.expected:,} utterances ({extent})"

    def describe(self) -> str:
        """Several lines: coverage, duration, speakers, and every problem and note by name."""
        count = len(self.speakers)
        speakers = f"{count} speaker{'' if count == 1 else 's'}" if count else "speakers unknown"
        lines = [
            f"{self.name} {self.part}: {self.coverage}, {self.seconds / 60:.1f} minutes, {speakers}, in {self.root}"
        ]
        for title, entries in (("left out", self.problems), ("adapted", self.notes)):
            if entries:
                lines.append(f"{title}: {len(entries)}")
                lines.extend(f"  {entry}" for entry in entries)
        return "\n".join(lines)


@dataclass(frozen=True)
class Found:
    """A file that belongs to a corpus, before it has been looked into."""

    id: str
    speaker: str | None
    path: Path


_OF_THE_DISK = "lost+found"  # at the root of a disk, readable by root alone


def find_audio(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder` whose suffix is that of audio, readable or not; hidden ones are passed over.

    Links to folders are followed, each folder once.

    Raises:
        OSError: a folder cannot be read, so that what it holds would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        raise error

    seen = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != _OF_THE_DISK)
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield Path(parent, name)


def _nobody(done: int, total: int) -> None:
    pass


_header_watcher: ContextVar[Callable[[int, int], None]] = ContextVar("header_watcher", default=_nobody)


@contextmanager
def watching_headers(progress: Callable[[int, int], None]) -> Iterator[None]:
    """While inside, `build_corpus` calls progress(headers read, headers in all), whichever dataset calls it."""
    token = _header_watcher.set(progress)
    try:
        yield
    finally:
        _header_watcher.reset(token)


def build_corpus(
    name: str,
    part: str,
    root: Path,
    found: Iterable[Found],
    *,
    expected: int | None = None,
    native_rate: int | None = None,
    problems: Iterable[Problem] = (),
) -> Corpus:
    """Read the header of every file found, and sort the usable from the others.

    Args:
        name, part, root, expected: as in Corpus.
        found: the files, in any order.
        native_rate: the dataset's sample rate in Hz; other rates are noted. None: the most common rate.
        problems: what was noticed before, such as names that do not follow the layout.

    Raises:
        DatasetError: two files have one id, or no file is usable.
    """
    entries = sorted(map(_spelled, found), key=lambda entry: entry.id)
    for before, after in itertools.pairwise(entries):
        if before.id == after.id:
            first, second = told_apart(str(before.path), str(after.path))
            raise DatasetError(f"{name}: two files have the id {after.id!r}: {first} and {second}. Remove one.")

    outcomes = []
    for outcome in map_in_threads(header_or_problem, (entry.path for entry in entries)):
        outcomes.append(outcome)
        _header_watcher.get()(len(outcomes), len(entries))
    left_out = list(problems)
    usable: list[tuple[Found, Header]] = []
    for entry, outcome in zip(entries, outcomes, strict=True):
        if isinstance(outcome, Problem):
            left_out.append(outcome)
        else:
            usable.append((entry, outcome))
    left_out.sort(key=lambda problem: problem.path)
    if not usable:
        shown = "".join(f"\n  {problem}" for problem in left_out[:5])
        raise DatasetError(f"{name} {part}: no usable audio in {root}; {len(left_out)} files with problems{shown}")

    usual = native_rate or Counter(header.sample_rate for _, header in usable).most_common(1)[0][0]
    notes = []
    for entry, header in usable:
        if header.channels > 1:
            notes.append(Problem(entry.path, f"{header.channels} channels, averaged into one"))
        if header.sample_rate != usual:
            notes.append(Problem(entry.path, f"{header.sample_rate} Hz, where {usual} Hz is usual; used, resampled"))
    utterances = tuple(
        Utterance(entry.id, entry.path, entry.speaker, header.frames, header.sample_rate) for entry, header in usable
    )
    notes.sort(key=lambda note: note.path)
    return Corpus(name, part, root, utterances, tuple(left_out), expected, tuple(notes))


def _spelled(found: Found) -> Found:
    """Id and speaker as they are compared, whatever the spelling of the file's name."""
    return Found(normalized(found.id), None if found.speaker is None else normalized(found.speaker), found.path)


def check_corpus(corpus: Corpus, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Decode every utterance, and return all that is wrong with the corpus, sorted by path.

    Beyond what opening finds (`corpus.problems`): files cut off or corrupt past their header, silent ones, NaN.
    FLAC decodes more than 1,000 times faster than real time.

    Args:
        progress: called with (files done, files in all).
    """
    problems = list(corpus.problems)
    paths = (utterance.path for utterance in corpus.utterances)
    for done, problem in enumerate(map_in_threads(_decoding_problem, paths), start=1):
        if problem is not None:
            problems.append(problem)
        if progress is not None:
            progress(done, len(corpus.utterances))
    return sorted(problems, key=lambda problem: problem.path)


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield function(item) for each item in order, worked out by several threads, a few hundred items ahead at most."""
    pool = ThreadPoolExecutor(_THREADS)
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= _THREADS * 32:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def header_or_problem(path: Path) -> Header | Problem:
    """The header of a file, or what is the matter with it."""
    if not is_text(str(path)):
        return Problem(path, "its name is no UTF-8; rename it")
    try:
        return read_header(path)
    except AudioError as error:
        return Problem(error.path, error.reason)


def _decoding_problem(path: Path) -> Problem | None:
    try:
        check_audio(path)
    except AudioError as error:
        return Problem(error.path, error.reason)
    return None
