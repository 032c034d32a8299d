"""Many files through a network: what is made from what, batches of equal length, reading ahead, failures by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from q2d2.errors import UserError
from q2d2.files import remove_leftovers


class FileProgress:
    """Shows files and minutes of audio done, and every failure in a line above the bar.

    Args:
        verb: what is done, as in "encode".
        console: where to show it.
    """

    def __init__(self, verb: str, console: Console) -> None:
        self.verb = verb
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]:,}/{task.fields[files]:,} files"),
            TextColumn("{task.fields[minutes]:,.1f}/{task.fields[all_minutes]:,.1f} min"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task: TaskID | None = None
        self.done = self.files = 0
        self.all_seconds = self.seconds = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def start(self, seconds: float, files: int) -> None:
        """What is to be done in all."""
        self.files, self.all_seconds = files, seconds
        if files:
            self.task = self.bar.add_task(
                self.verb, total=seconds, done=0, files=files, minutes=0.0, all_minutes=seconds / 60
            )

    def advance(self, seconds: float) -> None:
        """So many seconds of audio more are done."""
        if self.task is not None:
            self.seconds += seconds
            self.bar.update(self.task, completed=self.seconds, minutes=self.seconds / 60)

    def finish_file(self) -> None:
        """One more file is done."""
        self.done += 1
        if self.task is not None:
            self.bar.update(self.task, done=self.done)
            if self.done == self.files:  # a sum of seconds may fall short of the total by a rounding
                self.bar.update(self.task, completed=self.all_seconds)

    def fail(self, reason: str) -> None:
        """Say why a file failed."""
        self.bar.console.print(f"failed: {reason}", markup=False, highlight=False, soft_wrap=True)


T = TypeVar("T")


class JobError(UserError, ValueError):
    """Files that cannot be worked on as asked; the message says what to change."""


@dataclass(frozen=True)
class Job:
    """A file to read and the file to make of it."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Work:
    """A job that is still to be done.

    seconds: of its audio.
    group: works of one group may be computed together; None for one that goes alone.
    """

    job: Job
    seconds: float
    group: int | None


class Worker(Protocol[T]):
    """What is done with a job."""

    def plan(self, job: Job) -> Work | None:
        """What is to be done, None where it has been done before.

        Raises:
            UserError: this job cannot be done; the message names the file and the reason.
        """
        ...

    def read(self, work: Work) -> T:
        """Read what the work needs; called in a thread of its own, one work ahead.

        Raises:
            UserError: as for `plan`.
        """
        ...

    def do(self, works: Sequence[Work], contents: Sequence[T], advance: Callable[[float], None]) -> None:
        """Do works of one group together, and tell `advance` how many seconds of audio are done.

        Raises:
            UserError: as for `plan`; only where there is one work.
        """
        ...


@dataclass
class Summary:
    """What came of jobs.

    done, skipped: numbers of files.
    failures: in the order they were met.
    audio_seconds: of what was done.
    wall_seconds: that it took, reading and writing included.
    """

    done: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    audio_seconds: float = 0.0
    wall_seconds: float = 0.0


class Progress(Protocol):
    """Who is told how far jobs are."""

    def start(self, seconds: float, files: int) -> None: ...
    def advance(self, seconds: float) -> None: ...
    def finish_file(self) -> None: ...
    def fail(self, reason: str) -> None: ...


def plan_jobs(
    inputs: Sequence[Path], out: Path, suffix: str, find: Callable[[Path], Iterable[Path]], kind: str
) -> list[Job]:
    """One job for every file: below `out` the tree of a folder is kept, with another suffix.

    Args:
        inputs: files, and folders that are searched with `find`, all but what lies in `out`.
        kind: what is searched for, for messages.

    Raises:
        JobError: an input is missing or holds nothing, or two files would become one.
    """
    sources: dict[Path, Path] = {}  # target -> source
    for given in inputs:
        if given.is_dir():
            found = [path for path in find(given) if not path.resolve().is_relative_to(out.resolve())]
            if not found:
                raise JobError(f"{given}: no {kind} in this folder")
            pairs = [(path, path.relative_to(given)) for path in found]
        elif given.exists():
            pairs = [(given, Path(given.name))]
        else:
            raise JobError(f"{given}: no such file or folder")
        for source, inner in pairs:
            target = out / inner.with_suffix(suffix)
            other = sources.setdefault(target, source)
            if other.resolve() != source.resolve():
                raise JobError(f"{other} and {source} would both become {target}: rename one, or use two folders")
    return [Job(source, target) for target, source in sources.items()]


def batches(works: Iterable[Work], seconds: float) -> Iterator[list[Work]]:
    """Works of one group together, up to `seconds` of audio and at least one; groups in the order of their first."""
    groups: dict[object, list[Work]] = {}
    for number, work in enumerate(works):
        groups.setdefault(("alone", number) if work.group is None else work.group, []).append(work)
    for group in groups.values():
        size = max(1, int(seconds / group[0].seconds))
        for first in range(0, len(group), size):
            yield group[first : first + size]


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each computed in a thread while the one before is in use."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, source, end)
        while (item := upcoming.result()) is not end:
            upcoming = pool.submit(next, source, end)
            yield item  # type: ignore[misc]


class FileJobs(Generic[T]):
    """Runs jobs; a file that fails is noted and the others go on.

    Args:
        worker: does the work.
        batch_seconds: of audio computed together at most; 0 for one file at a time.
        progress: is told of every step.
    """

    def __init__(self, worker: Worker[T], batch_seconds: float, progress: Progress) -> None:
        self.worker = worker
        self.batch_seconds = batch_seconds
        self.progress = progress
        self.summary = Summary()

    def run(self, jobs: Sequence[Job]) -> Summary:
        """Do all jobs that have not been done before.

        Raises:
            JobError: the device has too little memory for a batch.
            OSError: a file cannot be written, for instance on a full disk; what is done is kept.
        """
        for folder in {job.target.parent for job in jobs}:
            remove_leftovers(folder)
        works = self._plan(jobs)
        self.progress.start(sum(work.seconds for work in works), len(works))
        begun = time.perf_counter()
        for batch in ahead(map(self._read, batches(works, self.batch_seconds))):
            if batch:
                self._do(batch)
        self.summary.wall_seconds = time.perf_counter() - begun
        return self.summary

    def _plan(self, jobs: Sequence[Job]) -> list[Work]:
        works = []
        for job in jobs:
            try:
                work = self.worker.plan(job)
            except UserError as error:
                self._fail(error)
                continue
            if work is None:
                self.summary.skipped += 1
            else:
                works.append(work)
        return works

    def _read(self, batch: list[Work]) -> list[tuple[Work, T]]:
        read = []
        for work in batch:
            try:
                read.append((work, self.worker.read(work)))
            except UserError as error:
                self._fail(error)
        return read

    def _do(self, batch: list[tuple[Work, T]]) -> None:
        works, contents = zip(*batch, strict=True)
        try:
            for folder in {work.job.target.parent for work in works}:
                folder.mkdir(parents=True, exist_ok=True)
            self.worker.do(works, contents, self.progress.advance)
        except torch.OutOfMemoryError as error:
            seconds = sum(work.seconds for work in works)
            raise JobError(
                f"too little memory on the device for {seconds:.0f} s of audio at once: lower --batch-seconds"
            ) from error
        except UserError as error:
            if len(batch) > 1:  # the others of the batch are not to blame
                for each in batch:
                    self._do([each])
                return
            source = str(works[0].job.source)
            self._fail(error if source in str(error) else JobError(f"{source}: {error}"))
            return
        for work in works:
            self.summary.done += 1
            self.summary.audio_seconds += work.seconds
            self.progress.finish_file()

    def _fail(self, error: UserError) -> None:
        self.summary.failures.append(str(error))
        self.progress.fail(str(error))
