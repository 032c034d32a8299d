"""What a training run shows and keeps: a progress bar, a CSV file, and scalars for its trackers."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from q2d2.files import open_own, write_atomically
from q2d2.trackers import Tracking
from q2d2.training.steps import StepLosses

# The column of what a discriminator itself lowers; its bare name is what the codec lowers.
DISCRIMINATOR = "discriminator_{}"


class TrainingLog:
    """Logs rows of scalars from `first_step` on; rows of an interrupted run beyond it are dropped first.

    Args:
        folder: receives log.csv and what trackers keep.
        name: shown beside the progress bar and of the tracked run.
        columns: names of the losses that some row has; a row without one of them leaves its place empty.
        first_step, steps: range of the run, for the bar.
        enabled: False on all ranks but the first.
        quiet: show nothing.
        tracking: which trackers are sent the rows; one that fails is a warning. None for TensorBoard.
        settings: plain values that trackers show.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        columns: StepLosses[None],
        first_step: int,
        steps: int,
        enabled: bool = True,
        quiet: bool = False,
        tracking: Tracking | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.enabled = enabled
        if not enabled:
            return
        taught = map(DISCRIMINATOR.format, columns.discriminators)
        self.columns = ["step", *columns.codec, "total", *taught, "learning_rate", "seconds"]
        self.console = Console(stderr=True, quiet=quiet)
        self.path = folder / "log.csv"
        self._drop_rows_from(first_step)
        self.trackers = (tracking or Tracking()).open(folder, name, settings or {}, first_step, self.problem)
        self.progress = Progress(
            TextColumn("[bold]{task.description}", table_column=Column(no_wrap=True, min_width=8)),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True, min_width=9)),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
            # What does not fit a narrow terminal is cut here, and not from what comes before.
            TextColumn("{task.fields[losses]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=self.console,
            expand=True,
        )
        self.task: TaskID = self.progress.add_task(name, total=steps, completed=first_step, rate="", losses="")

    def __enter__(self) -> TrainingLog:
        if self.enabled:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enabled:
            self.progress.stop()
            self.trackers.close()

    def problem(self, text: str) -> None:
        """Tell the user about something that training survived."""
        if self.enabled:
            self.console.print(f"[yellow]warning:[/] {escape(text)}", highlight=False)

    def row(self, step: int, losses: StepLosses[float], learning_rate: float, seconds: float, rate: float) -> None:
        """Log one row: `step` counts finished steps, `rate` is steps per second, `total` is what the codec lowers."""
        if not self.enabled:
            return
        values = {
            **losses.codec,
            "total": sum(losses.codec.values()),
            **{DISCRIMINATOR.format(name): value for name, value in losses.discriminators.items()},
            "learning_rate": learning_rate,
            "seconds": round(seconds, 3),
        }
        new = not self.path.exists()
        with open_own(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="", lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow({"step": step, **values})
        self.trackers.scalars(values, step)
        shown = " ".join(f"{name} {value:.3f}" for name, value in losses.codec.items())
        self.progress.update(self.task, completed=step, rate=f"{rate:.1f} it/s", losses=shown)

    def _drop_rows_from(self, first_step: int) -> None:
        if not self.path.exists():
            return
        lines = self.path.read_text().splitlines(keepends=True)
        # A kill can leave a last line without its end.
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",", 1)[0]) <= first_step]
        if not kept:  # the header may be cut off as well
            self.path.unlink()
            return
        write_atomically(self.path, "".join(lines[:1] + kept))
