"""One trial of the search in a worker: asked for, trained under the eye of the pruner, scored, told."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna

from evalkit.run.frames import read_parquet
from evalkit.run.store import RunInUse
from evalkit.sweeps.attempts import Busy
from evalkit.sweeps.state import read_state, trial_folder
from evalkit.sweeps.work import PrunedTraining, Settings, run_trial
from evalkit.tuning.sampler import RUNGS
from evalkit.tuning.settings import Tuning
from evalkit.tuning.study import Asked, SearchStudy
from q2d2.training.adversarial import ADVERSARIAL
from q2d2.training.log import DISCRIMINATOR

# What the codec lowers beside the reconstruction: not comparable between bottlenecks and discriminators.
NOT_RECONSTRUCTION = {"commitment", *ADVERSARIAL}


@dataclass(frozen=True)
class Searched:
    """What became of one trial.

    Attributes:
        id, configuration: of the trial.
        told: its score, or why it has none.
        state: "done", "pruned" or "failed".
    """

    id: str
    configuration: str
    told: str
    state: str


class Rungs:
    """Watches a training: reports the mean reconstruction loss over each rung, and ends it where the pruner says so.

    Rows of an earlier process of the same training are read from its log.

    Args:
        trial: of the study, to report to.
        log: the training's log.csv.
        steps: of the whole training.
        sign: -1 where the study maximizes, else 1.
    """

    def __init__(self, trial: optuna.Trial, log: Path, steps: int, sign: int) -> None:
        self._trial = trial
        self._log = log
        self._ends = [math.ceil(steps * rung / RUNGS) for rung in range(RUNGS + 1)]
        self._sign = sign
        self._rows: dict[int, float] = {}
        self._reported: set[int] = set()

    @property
    def last_step(self) -> int:
        """Of the rows seen so far; 0 for none."""
        return max(self._rows, default=0)

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        """As `q2d2.training.loop.Watch`.

        Raises:
            PrunedTraining: the training is worse than others were at this point.
        """
        if not self._rows:
            self._rows = _read_log(self._log)
        self._rows[step] = _reconstruction(losses)
        if self._report() and step < self._ends[-1] and self._trial.should_prune():
            raise PrunedTraining(f"pruned after step {step}")

    def finish(self) -> None:
        """Report what the log of a finished training has beyond what was seen, for the pruning of others."""
        self._rows |= _read_log(self._log)
        self._report()

    def _report(self) -> bool:
        """Report every rung that is over; whether there was a new one."""
        before = len(self._reported)
        for rung in range(1, RUNGS + 1):
            inside = [loss for step, loss in self._rows.items() if self._ends[rung - 1] < step <= self._ends[rung]]
            if rung not in self._reported and inside and self.last_step >= self._ends[rung]:
                self._trial.report(self._sign * math.fsum(inside) / len(inside), rung)
                self._reported.add(rung)
        return len(self._reported) > before


def search_once(tuning: Tuning, settings: Settings, trials: int, slot: int) -> Searched | None:
    """Run one trial of the search, or go on with one; None where `trials` are begun.

    Args:
        tuning: the search.
        settings: how trials are run.
        trials: of the whole search.
        slot: which of the calls this is; has no influence.

    Raises:
        Busy: another process is at the trial; the executor comes back later.
        Stopped: SIGTERM came; the trial is back in the queue.
    """
    study = SearchStudy(tuning)
    asked = study.ask(trials)
    if asked is None:
        return None
    folder = trial_folder(settings.folder, asked.trial.id)
    log = folder / "checkpoints" / asked.trial.label / "log.csv"
    rungs = Rungs(asked.optuna, log, tuning.steps, -1 if tuning.higher_is_better else 1)
    seconds, started = read_state(folder).seconds, time.monotonic()
    try:
        outcome = run_trial(settings, asked.trial, rungs)
    except PrunedTraining:
        study.pruned(asked, rungs.last_step, round(seconds + time.monotonic() - started, 1))
        return _searched(asked, f"pruned after step {rungs.last_step:,} of {tuning.steps:,}", "pruned")
    except RunInUse as error:
        study.give_back(asked)
        raise Busy(str(error)) from error
    except BaseException:  # SIGTERM among them
        study.give_back(asked)
        raise
    rungs.finish()
    objective = objective_of(folder, tuning.metric) if outcome.status == "done" else None
    if objective is None:
        reason = outcome.reason or f"no utterance could be scored by {tuning.metric}"
        study.failed(asked, reason, rungs.last_step, outcome.seconds)
        return _searched(asked, f"FAILED: {reason}", "failed")
    study.done(asked, objective, tuning.steps, outcome.seconds)
    return _searched(asked, f"{tuning.metric} {objective:.4f} in {outcome.seconds:,.0f} s", "done")


def objective_of(folder: Path, metric: str) -> float | None:
    """Mean score of a trial without failures, over the utterances of the part that the search chooses by; None for
    none."""
    rows = read_parquet(folder / "utterances.parquet")
    values = rows.loc[(rows["metric"] == metric) & (rows["status"] == "ok"), "value"]
    return math.fsum(values) / len(values) if len(values) else None


def _searched(asked: Asked, told: str, state: str) -> Searched:
    return Searched(asked.trial.id, asked.trial.label, told, state)


def _reconstruction(losses: Mapping[str, float]) -> float:
    return math.fsum(loss for name, loss in losses.items() if name not in NOT_RECONSTRUCTION)


def _read_log(path: Path) -> dict[int, float]:
    """Step -> reconstruction loss; empty without a log. A line that a kill has cut off is passed over."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        whole = [line for line in file if line.endswith("\n")]
    others = {"step", "total", "learning_rate", "seconds"}
    found = {}
    for row in csv.DictReader(whole):
        named = {name: float(text) for name, text in row.items() if name not in others and text}
        found[int(row["step"])] = _reconstruction(
            {name: loss for name, loss in named.items() if not name.startswith(DISCRIMINATOR.format(""))}
        )
    return found
