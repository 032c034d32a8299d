"""One call of `evalkit tune`: what is missing of the search, then of the finalists, then the answer."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from evalkit.sweeps.executors import Lost, run_jobs
from evalkit.sweeps.run import Engine, missing, run_trials
from evalkit.sweeps.state import read_state, trial_folder
from evalkit.sweeps.work import Settings
from evalkit.tuning.answer import Answer, answer, write_best
from evalkit.tuning.finals import Finals, compare_finals, plan_finals
from evalkit.tuning.forecast import count_trials
from evalkit.tuning.search import search_once
from evalkit.tuning.settings import Tuning
from evalkit.tuning.space import TuneError
from evalkit.tuning.study import SearchStudy, is_at_work
from evalkit.tuning.tables import draw_search, show_tuned, write_trials, write_tuned

WAIT = 2.0  # seconds between looks at what other processes do


@dataclass(frozen=True)
class Result:
    """What a call came to.

    Attributes:
        answer: which configuration, and how sure.
        compared: rows of `compare_finals`.
        failed: trials that failed, of the search and of the finalists.
        paths: tables, plots, best.yaml.
    """

    answer: Answer
    compared: pd.DataFrame
    failed: int
    paths: tuple[Path, ...]


def tune(
    tuning: Tuning, settings: Settings, engine: Engine, console: Console, *, trials: int, finalists: int, seeds: int
) -> Result:
    """Do what is missing of a search, and answer.

    Args:
        tuning: the search.
        settings: how trials are run; `folder` is that of `tuning`.
        engine: where they run.
        console: for progress.
        trials: of the search, at most.
        finalists: configurations that are compared with the baseline.
        seeds: trainings of each of them.

    Raises:
        TuneError: the folder holds another search, or no trial of this one is done.
        Stopped: SIGTERM came.
    """
    tuning.check()
    tuning.write()
    _search(tuning, settings, engine, console, trials)
    searched = SearchStudy(tuning).rows()
    paths = [write_trials(searched, tuning.folder), *draw_search(searched, tuning.metric, tuning.folder)]
    if not (searched["state"] == "done").any():
        reasons = [reason for reason in dict.fromkeys(searched["reason"]) if reason]
        raise TuneError(f"no trial of the search is done; the first reason: {reasons[0] if reasons else 'none begun'}")
    finals = plan_finals(tuning, searched, finalists, seeds)
    failed = int((searched["state"] == "failed").sum()) + _train_finals(finals, settings, engine, console)
    compared = compare_finals(tuning, finals)
    found = answer(tuning, finals, compared)
    title = f"{tuning.space.target:g} bits per frame: the best of {len(searched)} trials against the baseline"
    paths += write_tuned(
        compared, title, [*found.sentences, *_notes(tuning, finals, searched)], tuning.folder / "tables"
    )
    paths.append(write_best(tuning, found, compared))
    return Result(found, compared, failed, tuple(paths))


def show(result: Result, tuning: Tuning, console: Console) -> None:
    """Print the table by the metric that was optimised, the answer, and where the rest lies."""
    console.print(show_tuned(result.compared, tuning.metric))
    notes = dict.fromkeys(result.compared.loc[result.compared["note"] != "", "note"])
    lines = [*result.answer.sentences, *(f"note: {note}" for note in notes)]
    if result.failed:
        lines.append(f"failed trials: {result.failed:,}; their reasons are in {tuning.folder / 'trials.csv'} or above")
    for line in [*lines, *(f"  {path}" for path in result.paths)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _search(tuning: Tuning, settings: Settings, engine: Engine, console: Console, trials: int) -> None:
    study = SearchStudy(tuning)
    study.begin()
    total, left = count_trials(tuning, trials), study.left(trials)
    console.print(
        f"search: {total} trials, {left} to run  ->  {tuning.folder}", highlight=False, markup=False, soft_wrap=True
    )
    columns = (
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("search", total=max(total, left), completed=max(0, total - left))
        while left or study.at_work():
            if not left:
                time.sleep(WAIT)  # for what another process has in hand
            elif not _run_some(tuning, settings, engine, trials, left, progress, task) and study.left(trials) >= left:
                raise TuneError(f"{left} trials of the search could not be begun; see {tuning.folder / 'trials'}")
            left = study.left(trials)


def _run_some(
    tuning: Tuning, settings: Settings, engine: Engine, trials: int, count: int, progress: Progress, task: TaskID
) -> int:
    """Run up to `count` trials of the search, tell each, and return how many ended."""
    ended = 0
    work = functools.partial(search_once, tuning, settings, trials)
    with closing(run_jobs(work, range(count), workers=engine.workers, threads=engine.threads)) as jobs:
        for _, found in jobs:
            if found is None or isinstance(found, Lost):  # another process had the last one; its process died
                continue
            ended += 1
            line = f"{found.id}  {found.configuration}: {found.told}"
            progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
            progress.advance(task)
    return ended


def _train_finals(finals: Finals, settings: Settings, engine: Engine, console: Console) -> int:
    """Train and score what is missing of the finalists; how many of their trials failed."""
    finals.write()
    settings = replace(settings, folder=finals.folder)
    todo = missing(finals.trials, settings, only_new=False)
    names = ", ".join(dict.fromkeys(trial.label for trial in finals.trials))
    console.print(
        f"finalists, on the held-out part: {names}; {len(finals.trials)} trials, {len(todo)} to run",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    while todo:
        free = [trial for trial in todo if not is_at_work(trial_folder(settings.folder, trial.id))]
        if free:
            run_trials(free, len(finals.trials), settings, engine, console)
        else:
            time.sleep(WAIT)  # for what another process has in hand
        todo = missing(finals.trials, settings, only_new=True)
    states = (read_state(trial_folder(settings.folder, trial.id)).state for trial in finals.trials)
    return sum(state == "failed" for state in states)


def _notes(tuning: Tuning, finals: Finals, searched: pd.DataFrame) -> Sequence[str]:
    states = ", ".join(f"{count} {state}" for state, count in searched["state"].value_counts().items())
    train = tuning.experiment.train
    notes = [
        f"Search: {len(searched)} of {len(tuning.space.choices)} configurations within half a bit of "
        f"{tuning.space.target:g} bits per frame ({states}), {tuning.steps:,} steps, seed {tuning.seed}, chosen by "
        f"{tuning.metric} on {tuning.num_scored('search')} utterances.",
        f"Finalists: trained anew, {train.steps:,} steps of {train.batch_size} x {train.segment_seconds:g} s, with "
        "seeds that the search had not, and scored on utterances that it had not.",
        f"{tuning.split.describe()[0].capitalize()}.",
    ]
    if tuning.learning_rate is not None:
        tried = searched[(searched["family"] == tuning.baseline.family)]
        own = int((tried["channels"] == tuning.baseline.channels).sum())
        of_baseline = f"Of the baseline there were {own} trials." if own else "The baseline has the experiment's."
        notes.append(f"Learning rates were searched: each is trained with that of its own best trial. {of_baseline}")
    return notes
