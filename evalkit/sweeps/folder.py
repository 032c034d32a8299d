"""The folder of a sweep: which trials it has, and what their folders say of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.run.descriptions import read_description
from evalkit.sweeps.state import State, TrialState, read_state, trial_folder
from q2d2.errors import UserError, shown
from q2d2.files import write_atomically

if TYPE_CHECKING:  # they load torch, which looking at a sweep has no need of
    from evalkit.sweeps.schema import Sweep
    from evalkit.sweeps.trials import Trial

SCHEMA_VERSION = 1
DESCRIPTION = "sweep.json"


class NoSweep(UserError, ValueError):
    """A folder that holds no sweep that can be read; the message says why."""


def write_sweep(folder: Path, sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Note in `folder` what the sweep is, for `evalkit sweep status` and `report`."""
    from evalkit.machine import describe_environment
    from evalkit.metrics import packages

    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "schema_version": SCHEMA_VERSION,
        "sweep": sweep.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        **describe_environment(packages()),
        "trials": [trial.describe() for trial in trials],
    }
    write_atomically(folder / DESCRIPTION, json.dumps(values, ensure_ascii=False, indent=1) + "\n")


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder, read.

    Attributes:
        folder: where it is.
        values: its file, in plain values.
        trials: what `Trial.describe` gives of each.
    """

    folder: Path
    values: dict[str, Any]
    trials: tuple[dict[str, Any], ...]

    @property
    def title(self) -> str:
        """Its title, or its name."""
        return str(self.values.get("title") or self.values["name"])

    @cached_property
    def sweep(self) -> Sweep:
        """Its file."""
        from evalkit.schema import validated
        from evalkit.sweeps.schema import Sweep

        return validated(Sweep, self.values, f"{self.folder / DESCRIPTION}: sweep", NoSweep)

    @classmethod
    def read(cls, folder: Path) -> SweepFolder:
        """Read sweep.json.

        Raises:
            NoSweep: there is none, or it is of another version.
        """
        path = folder / DESCRIPTION
        try:
            values = read_description(path, NoSweep)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NoSweep(f"{folder} holds no sweep: {path} is missing") from error
        if values.get("schema_version") != SCHEMA_VERSION:
            found = shown(values.get("schema_version"))
            raise NoSweep(
                f"{path} has schema version {found}, this version reads {SCHEMA_VERSION}: "
                "run the sweep again with the same --out, trials that are done are kept"
            )
        if lacking := [key for key in ("sweep", "trials") if values.get(key) is None]:
            raise NoSweep(f"{path} is damaged: it lacks {lacking[0]}")
        return cls(folder, values["sweep"], tuple(values["trials"]))

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

    counts: Counter[State]
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
