"""What is remembered of each tracker in a run's folder, so that a later call goes on in the same place."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from q2d2.files import write_atomically
from q2d2.plain_values import read_json
from q2d2.trackers import TrackedRun

NOTES = "tracking.json"


def read_notes(folder: Path, tracker: str) -> dict[str, Any]:
    """What is noted for `tracker`; empty where nothing is.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    return dict(_read(folder).get(tracker, {}))


def write_notes(folder: Path, tracker: str, **notes: Any) -> None:
    """Replace what is noted for `tracker`; raises as `read_notes`, and OSError where it cannot be written."""
    everything = _read(folder) | {tracker: notes}
    write_atomically(folder / NOTES, json.dumps(everything, indent=2) + "\n")


def _read(folder: Path) -> dict[str, Any]:
    path = folder / NOTES
    try:
        values = read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged, delete it to begin new tracked runs: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged, delete it to begin new tracked runs")
    return values


class Identity:
    """Under which id a service knows a run, and up to which step it was sent its scalars.

    A training that begins anew is another run; one that goes on, or is added to, keeps its id. What is added may come
    again and is sent each time.

    Args:
        run: what the tracker was told.
        tracker: its registered name.

    Attributes:
        id: eight hexadecimal digits.
        resumed: the service may know it already.
    """

    def __init__(self, run: TrackedRun, tracker: str) -> None:
        self._folder, self._tracker = run.folder, tracker
        self._training = run.first_step is not None
        run.folder.mkdir(parents=True, exist_ok=True)
        self._notes = read_notes(run.folder, tracker) if run.first_step != 0 else {}
        self.resumed = "id" in self._notes
        if not self.resumed:
            self._note(id=uuid.uuid4().hex[:8])
        self.id = str(self._notes["id"])

    def was_sent(self, step: int) -> bool:
        """Whether the scalars of `step` were sent before; a training that goes on computes the same ones again."""
        return self._training and step <= int(self._notes.get("step", -1))

    def sent(self, step: int) -> None:
        """Note that the scalars of `step` are sent."""
        if self._training:
            self._note(step=step)

    def _note(self, **notes: Any) -> None:
        self._notes |= notes
        write_notes(self._folder, self._tracker, **self._notes)
