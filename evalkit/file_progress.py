"""A progress bar over many files: how many, and how much of their audio."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class FileProgress:
    """Shows files and minutes of audio done, and every failure in a line above the bar.

    Args:
        verb: what is done, as in "encode".
        console: where to show it.
    """

    def __init__(self, verb: str, console: Console) -> None:
        self.verb = verb
        self.bar = Progress(
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
