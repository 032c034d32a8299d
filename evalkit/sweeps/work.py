"""What a worker does: one trial in its folder, resumed where an earlier worker left it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from evalkit.machine import select_device
from evalkit.run.outputs import write_rows
from evalkit.run.plan import make_plan
from evalkit.run.runner import score_systems
from evalkit.run.store import RunInUse, RunStore
from evalkit.scoring.cache import Cache
from evalkit.scoring.workers import Scorer
from evalkit.sweeps.attempts import Busy
from evalkit.sweeps.state import Heartbeat, Outcome, trial_folder
from evalkit.sweeps.trials import Trial
from q2d2.errors import Stopped, UserError
from q2d2.files import write_atomically
from q2d2.training.loop import Watch

ERROR = "error.txt"


class PrunedTraining(Exception):
    """Raised by a `watch` that has seen enough: the trial ends where it is, without an outcome."""


@dataclass(frozen=True)
class Settings:
    """How trials are run.

    Attributes:
        folder: of the sweep.
        device: "auto", "cpu" or "cuda".
        time_limit: seconds that one metric may take for one utterance.
        use_cache: keep scores in the cache of all runs.
        trust_code: whether classes that an experiment names may be imported.
    """

    folder: Path
    device: str = "auto"
    time_limit: float = 300.0
    use_cache: bool = True
    trust_code: bool = False


def run_trial(settings: Settings, trial: Trial, watch: Watch | None = None) -> Outcome:
    """Train and score one trial, or go on with it; whatever fails in it is its outcome.

    Args:
        settings: of the sweep.
        trial: to run.
        watch: as in `q2d2.training.loop.train`.

    Raises:
        RunInUse: another worker is at it.
        Stopped: SIGTERM came; what was trained is saved.
        PrunedTraining: `watch` raised it.
    """
    folder = trial_folder(settings.folder, trial.id)
    beat = Heartbeat(folder)
    try:
        with RunStore(folder) as store, beat.beating():
            write_atomically(folder / "trial.json", json.dumps(trial.describe(), indent=2) + "\n")
            reason = _train_and_score(settings, trial, store, watch or _ignore)
    except (RunInUse, Stopped, PrunedTraining):
        raise
    except (UserError, OSError) as error:
        reason = " ".join(str(error).split())
    except Exception as error:  # a defect in one trial must not take the others along
        write_atomically(folder / ERROR, traceback.format_exc())
        text = " ".join(f"{type(error).__name__}: {error}".split())
        reason = f"{text} ({ERROR} in its folder has the traceback)"
    outcome = Outcome.now(reason, beat.seconds)
    outcome.write(folder)
    return outcome


def try_trial(settings: Settings, trial: Trial) -> Outcome:
    """`run_trial` for an executor.

    Raises:
        Busy: another worker is at it; the executor comes back later.
        Stopped: SIGTERM came.
    """
    try:
        return run_trial(settings, trial)
    except RunInUse as error:
        raise Busy(str(error)) from error


def _train_and_score(settings: Settings, trial: Trial, store: RunStore, watch: Watch) -> str:
    """Leave the trial's rows in its folder; why it is not done, empty where it is."""
    if trial.experiment is None:
        return trial.problem
    device = select_device(settings.device)
    plan = make_plan(trial.experiment, store.folder, trust_code=settings.trust_code)
    cache = Cache.from_environment() if settings.use_cache else None
    scorer = Scorer(plan.evaluation.protocol, cache, 1, device.type, settings.time_limit)
    scored = score_systems(plan, store, plan.systems, Console(quiet=True), device, scorer, watch)
    rows, _, _ = write_rows(store, scored)
    lost = rows[rows["status"] == "failed"]
    if lost.empty:
        return ""
    first = lost.iloc[0]
    of = f"{first['metric']} of {first['utterance']}: {first['detail']}"
    return f"{len(lost):,} of {len(rows):,} scores failed, the first: {of}"


def _ignore(step: int, losses: Mapping[str, float]) -> None:
    """Watch without a word: the sweep's own progress bar is enough."""
