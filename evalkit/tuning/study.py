"""The search as an Optuna study in a file: several processes ask it for trials and tell it what became of them.

A trial that was told to begin and whose process is gone is failed there and put back in the queue, with the same
parameters: it has the same id, and its training goes on from its last checkpoint. So of several trials of the study
with one id the last one counts.
"""

from __future__ import annotations

import fcntl
import math
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from evalkit.sweeps.executors import MOST_DEATHS
from evalkit.sweeps.state import HEARTBEAT, LOST_AFTER, Heartbeat, read_file, trial_folder
from evalkit.sweeps.trials import Trial
from evalkit.tuning.sampler import (
    CHANNELS_OF,
    FAMILY,
    LEARNING_RATE,
    UntriedTPE,
    distributions,
    median_pruner,
    untried,
)
from evalkit.tuning.settings import Tuning
from q2d2.files import open_own

JOURNAL, LOCK = "study.log", "study.lock"
RUN_LOCK = ".lock"  # of evalkit.run.store.RunStore, in a run's folder
STATES = {
    TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip
COLUMNS = (
    "number", "id", "configuration", "family", "channels", "levels", "bits_per_frame", "learning_rate", "objective",
    "state", "steps", "seconds", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A trial of the study that this process is to run.

    Attributes:
        optuna: to report to.
        trial: what is trained and scored.
        lock: of the trial's folder, held until it is told what became of it.
    """

    optuna: optuna.Trial
    trial: Trial
    lock: TextIO


class SearchStudy:
    """The study of a search, opened by one process.

    Args:
        tuning: whose folder holds it; made if missing.
    """

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        tuning.folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(tuning.folder / JOURNAL)))
        options: dict[str, Any] = {"storage": storage, "study_name": "tune", "pruner": median_pruner()}
        with self._alone():
            try:
                self.study = optuna.load_study(**options)
            except KeyError:  # it is new
                options["direction"] = "maximize" if tuning.higher_is_better else "minimize"
                self.study = optuna.create_study(**options)

    def begin(self) -> None:
        """Queue what comes first: the baseline, where it is searched at all, or trials that failed before."""
        with self._alone():
            self._adopt()
            rows = self._latest()
            for row in rows:
                if row.state == TrialState.FAIL:
                    self._again(row)
            if not rows and self.tuning.baseline.key in self.tuning.space.by_key:
                self.study.enqueue_trial(self._parameters_of_baseline())

    def left(self, trials: int) -> int:
        """How many are still to be begun, or to be gone on with, until `trials` are there."""
        with self._alone():
            self._adopt()
            rows = self._latest()
            waiting = sum(row.state == TrialState.WAITING for row in rows)
            new = max(0, trials - len(rows))
            if self.tuning.learning_rate is None:
                new = min(new, len(untried(self.study, self.tuning.space)))
            return waiting + new

    def at_work(self) -> int:
        """How many trials other processes have in hand."""
        with self._alone():
            self._adopt()
            return sum(row.state == TrialState.RUNNING for row in self._latest())

    def ask(self, trials: int) -> Asked | None:
        """The next trial, begun; None where `trials` are begun or every point is."""
        with self._alone():
            self._adopt()
            rows = self._latest()
            if not any(row.state == TrialState.WAITING for row in rows):
                none_left = self.tuning.learning_rate is None and not untried(self.study, self.tuning.space)
                if len(rows) >= trials or none_left:
                    return None
            # By what was tried, not by what was asked: a search that was killed draws what it would have drawn.
            seed = self.tuning.seed * 100_003 + len(rows)
            self.study.sampler = UntriedTPE(self.tuning.space, self.tuning.learning_rate, seed)
            asked = self.study.ask(distributions(self.tuning.space, self.tuning.learning_rate))
            choice = self.tuning.space.by_key[asked.params[FAMILY], asked.params[CHANNELS_OF]]
            trial = self.tuning.trial(choice, asked.params.get(LEARNING_RATE))
            asked.set_user_attr("id", trial.id)
            asked.set_user_attr("configuration", trial.label)
            folder = trial_folder(self.tuning.folder, trial.id)
            folder.mkdir(parents=True, exist_ok=True)
            Heartbeat(folder).beat()  # both under the study's lock, so that at no moment it looks abandoned
            lock = open_own(folder / RUN_LOCK, "w")
            with suppress(OSError):  # held by a process that was taken for dead: `run_trial` finds out
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Asked(asked, trial, lock)

    def done(self, asked: Asked, objective: float, steps: int, seconds: float) -> None:
        """Tell what a trial scored."""
        self._tell(asked, TrialState.COMPLETE, objective, steps=steps, seconds=seconds)

    def pruned(self, asked: Asked, steps: int, seconds: float) -> None:
        """Tell that a training was stopped early."""
        self._tell(asked, TrialState.PRUNED, steps=steps, seconds=seconds)

    def failed(self, asked: Asked, reason: str, steps: int, seconds: float) -> None:
        """Tell why a trial has no score."""
        self._tell(asked, TrialState.FAIL, reason=reason, steps=steps, seconds=seconds)

    def give_back(self, asked: Asked) -> None:
        """Put a trial that could not be run to its end back in the queue."""
        with self._alone():
            (frozen,) = (row for row in self.study.get_trials(deepcopy=False) if row.number == asked.optuna.number)
            if frozen.state == TrialState.RUNNING:
                self.study.tell(frozen.number, state=TrialState.FAIL)
                self._again(frozen, frozen.user_attrs.get("deaths", 0))
            asked.lock.close()

    def rows(self) -> pd.DataFrame:
        """COLUMNS, one row a point that was begun, in the order of the search. Objective only where it is done."""
        found = [self._row(frozen) for frozen in self._latest()]
        return pd.DataFrame(found, columns=list(COLUMNS)).assign(number=range(1, len(found) + 1))

    def _row(self, frozen: FrozenTrial) -> dict[str, Any]:
        values = _parameters(frozen)
        choice = self.tuning.space.by_key[values[FAMILY], values[CHANNELS_OF]]
        state = STATES[frozen.state]
        attributes = frozen.user_attrs
        return {
            "id": attributes.get("id", ""), "configuration": attributes.get("configuration", ""),
            "family": choice.family, "channels": choice.channels,
            "levels": " ".join(map(str, choice.bottleneck["levels"])), "bits_per_frame": choice.bits_per_frame,
            "learning_rate": values.get(LEARNING_RATE, self.tuning.experiment.train.learning_rate),
            "objective": frozen.value if state == "done" else math.nan, "state": state,
            "steps": attributes.get("steps", 0), "seconds": attributes.get("seconds", math.nan),
            "reason": attributes.get("reason", ""),
        }  # fmt: skip

    def _tell(self, asked: Asked, state: TrialState, value: float | None = None, **attributes: Any) -> None:
        with self._alone():
            with suppress(optuna.exceptions.UpdateFinishedTrialError):  # taken from us as lost, and told by another
                for name, given in attributes.items():
                    asked.optuna.set_user_attr(name, given)
            self.study.tell(asked.optuna, value, state, skip_if_finished=True)
            asked.lock.close()

    def _latest(self) -> list[FrozenTrial]:
        """The trials that count, by the first time that each was begun."""
        found: dict[Any, FrozenTrial] = {}
        for frozen in self.study.get_trials(deepcopy=False):
            if values := _parameters(frozen):
                found[tuple(sorted(values.items()))] = frozen
        return list(found.values())

    def _adopt(self) -> None:
        """Put back trials whose process is gone; under the lock, so that none is between being asked and its beat."""
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            identifier = frozen.user_attrs.get("id")
            if identifier is None or not is_at_work(trial_folder(self.tuning.folder, identifier)):
                self.study.tell(frozen.number, state=TrialState.FAIL)
                self._again(frozen, frozen.user_attrs.get("deaths", 0) + 1)

    def _again(self, frozen: FrozenTrial, deaths: int = 0) -> None:
        """Queue a trial's parameters anew; failed for good where its process died too often, as for want of memory."""
        kept = {key: value for key, value in frozen.user_attrs.items() if key in ("id", "configuration")}
        values = _parameters(frozen)
        if values and deaths < MOST_DEATHS:
            self.study.enqueue_trial(values, kept | {"deaths": deaths})
        elif values:
            described = distributions(self.tuning.space, self.tuning.learning_rate)
            reason = f"its process died {deaths} times while it ran"
            self.study.add_trial(
                optuna.create_trial(
                    state=TrialState.FAIL, params=values, distributions=described, user_attrs=kept | {"reason": reason}
                )
            )

    def _parameters_of_baseline(self) -> dict[str, Any]:
        values: dict[str, Any] = {FAMILY: self.tuning.baseline.family, CHANNELS_OF: self.tuning.baseline.channels}
        if self.tuning.learning_rate is not None:
            low, high = self.tuning.learning_rate
            values[LEARNING_RATE] = min(max(self.tuning.experiment.train.learning_rate, low), high)
        return values

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time; released by the system where one is killed."""
        with open_own(self.tuning.folder / LOCK, "w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            yield


def _parameters(frozen: FrozenTrial) -> dict[str, Any]:
    """Of a trial, also of one that waits; empty for one that died before it had all."""
    fixed: dict[str, Any] = frozen.system_attrs.get("fixed_params", {})
    values = fixed or frozen.params
    return values if FAMILY in values and CHANNELS_OF in values else {}


def is_at_work(folder: Path) -> bool:
    """Whether another process is at the trial in `folder`: it gave a sign of life of late, and is not gone.

    On one machine a process that is gone is known by its lock, which the system takes back at once; on others by its
    silence. This process itself must not be at the trial.
    """
    if (beat := read_file(folder / HEARTBEAT)) is None:
        return False
    if time.time() - beat["time"] >= LOST_AFTER:
        return False
    if beat["host"] != socket.gethostname():
        return True
    with open_own(folder / RUN_LOCK, "w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
