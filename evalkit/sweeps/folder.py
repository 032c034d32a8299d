"""The folder of a sweep: which trials it has, and what their folders say of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.environment import describe_environment
from evalkit.sweeps.schema import Sweep, SweepError
from evalkit.sweeps.state import TrialState, read_state, trial_folder
from evalkit.sweeps.trials import Trial
from q2d2.checkpoints import write_atomically

SCHEMA_VERSION = 1
DESCRIPTION = "sweep.json"


def write_sweep(folder: Path, sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Note in `folder` what the sweep is, for `evalkit sweep status` and `report`."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "schema_version": SCHEMA_VERSION,
        "sweep": sweep.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        **describe_environment(),
        "trials": [trial.describe() for trial in trials],
    }
    write_atomically(folder / DESCRIPTION, json.dumps(values, ensure_ascii=False, indent=1) + "\n")


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder, read.

    Attributes:
        folder: where it is.
        sweep: its file.
        trials: what `Trial.describe` gives of each.
    """

    folder: Path
    sweep: Sweep
    trials: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, folder: Path) -> SweepFolder:
        """Read sweep.json.

        Raises:
            SweepError: there is none, or it is of another version.
        """
        path = folder / DESCRIPTION
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SweepError(f"{folder} holds no sweep: {path} is missing") from error
        except (OSError, ValueError) as error:
            raise SweepError(f"{path} cannot be read: {error}") from error
        if values.get("schema_version") != SCHEMA_VERSION:
            raise SweepError(
                f"{path} has schema version {values.get('schema_version')!r}, this version reads {SCHEMA_VERSION}: "
                "run the sweep again with the same --out, trials that are done are kept"
            )
        return cls(folder, Sweep.model_validate(values["sweep"]), tuple(values["trials"]))

    def states(self) -> Iterator[tuple[dict[str, Any], TrialState]]:
        """Each trial with its state now."""
        for trial in self.trials:
            yield trial, read_state(trial_folder(self.folder, trial["id"]))


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
        counts: state -> trials.
        seconds_left: expected, at as many at a time as are running now (one if none is); None while none is done.
        at_a_time: trials running now.
    """

    counts: Counter[str]
    seconds_left: float | None
    at_a_time: int

    @classmethod
    def of(cls, states: Sequence[TrialState]) -> Progress:
        """From the states of all trials: those to come take as long as those done did on average."""
        counts = Counter(state.state for state in states)
        done = [state.seconds for state in states if state.state == "done"]
        left = None
        if done:
            each = sum(done) / len(done)
            begun = [state.seconds for state in states if state.state in ("running", "interrupted")]
            left = (counts["waiting"] * each + sum(max(0.0, each - seconds) for seconds in begun)) / max(
                1, counts["running"]
            )
        return cls(counts, left, counts["running"])
