"""One call of `evalkit sweep`: the trials that are missing, through an executor, with progress."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from evalkit.sweeps.executors import Lost, run_jobs
from evalkit.sweeps.state import Outcome, read_state, trial_folder
from evalkit.sweeps.trials import Trial
from evalkit.sweeps.work import Settings, try_trial


@dataclass(frozen=True)
class Engine:
    """Where trials run.

    Attributes:
        executor: "local" or "ray".
        workers: trials at a time; None for as many as there is room for.
        threads: of each trial on a CPU.
        gpus: of each trial, with Ray.
    """

    executor: str = "local"
    workers: int | None = None
    threads: int = 1
    gpus: float = 0.0


def missing(trials: Sequence[Trial], settings: Settings, only_new: bool) -> list[Trial]:
    """Those without a result; failed ones are tried again unless `only_new`."""
    states = ((trial, read_state(trial_folder(settings.folder, trial.id)).state) for trial in trials)
    wanted = {"done", "failed"} if only_new else {"done"}
    return [trial for trial, state in states if state not in wanted]


def run_trials(trials: Sequence[Trial], total: int, settings: Settings, engine: Engine, console: Console) -> int:
    """Run `trials` and return how many of them failed; each is told as it ends.

    Args:
        trials: those that are missing.
        total: of the sweep (or of this shard), for the progress bar.
        settings, engine: how and where they run.
        console: for progress.

    Raises:
        Stopped: SIGTERM came.
        UserError: the executor cannot be used.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    work = functools.partial(try_trial, settings)
    failed = 0
    jobs = run_jobs(
        work, trials, executor=engine.executor, workers=engine.workers, threads=engine.threads, gpus=engine.gpus
    )
    with closing(jobs), Progress(*columns, console=console) as progress:
        task = progress.add_task("trials", total=total, completed=total - len(trials))
        for trial, result in jobs:
            outcome = _outcome(settings, trial, result)
            failed += outcome.status == "failed"
            told = f"done in {outcome.seconds:,.0f} s" if outcome.status == "done" else f"FAILED: {outcome.reason}"
            progress.console.print(
                f"{trial.id}  {trial.label}, seed {trial.seed}: {told}", highlight=False, markup=False, soft_wrap=True
            )
            progress.advance(task)
    return failed


def _outcome(settings: Settings, trial: Trial, result: Outcome | Lost) -> Outcome:
    if not isinstance(result, Lost):
        return result
    outcome = Outcome.of_lost(trial_folder(settings.folder, trial.id), result.reason)
    if not result.held:  # else its folder is another's
        outcome.write(trial_folder(settings.folder, trial.id))
    return outcome
