"""Trackers: where a run's curves, sound and pictures are looked at, behind one interface.

A tracker looks on and is no part of an experiment: what is computed is the same with any of them and with none. One
that fails, at any moment, costs one warning and is off from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from q2d2.errors import UserError
from q2d2.registry import Registry

DEFAULT = "tensorboard"
# Each has the extra of its name, but for the default, which is always installed.
TRACKERS = Registry(
    "tracker",
    "q2d2.trackers",
    {
        "tensorboard": "q2d2.trackers.tensorboard:TensorBoard",
        "wandb": "q2d2.trackers.wandb:WeightsAndBiases",
        "trackio": "q2d2.trackers.trackio:Trackio",
    },
)

Warn = Callable[[str], None]


class TrackerError(UserError, RuntimeError):
    """A tracker that cannot be used here; the message says what to install."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run; a registered tracker is called with one and returns a `Tracker`.

    Attributes:
        folder: the run's own, made if missing: a tracker keeps there what it goes on from.
        project: of which it is one run among several.
        name: of the run.
        settings: plain values, to be shown beside it.
        first_step: steps done before; scalars of later steps that an interrupted call has sent are sent again. 0 for a
            new run. None for what is added to a run once it is trained, in place of what was added before.
    """

    folder: Path
    project: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    first_step: int | None = 0


class Tracker(Protocol):
    """One run in one service. Whatever it raises turns it off; it must not draw from any global random generator."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Show numbers by name, at a step (those done so far)."""

    def audio(self, name: str, samples: NDArray[np.float32], sample_rate: int, step: int) -> None:
        """Let hear mono audio, (samples,) in [-1, 1] at `sample_rate` in Hz, at its own level."""

    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Show a picture, (height, width, 3) in 0..255."""

    def close(self) -> None:
        """Send what is waiting; nothing is called afterwards."""


class Trackers:
    """Several trackers as one that never fails: each that does is named in one warning and left out.

    Args:
        names: registered ones.
        run: what they are told.
        warn: called with one line for each that fails.
        off: names of those that have failed, here or in an earlier run, and are not tried again; added to.
    """

    def __init__(self, names: Sequence[str], run: TrackedRun, warn: Warn, off: set[str] | None = None) -> None:
        self._warn = warn
        self._off = set() if off is None else off
        self._open: dict[str, Tracker] = {}
        for name in [name for name in names if name not in self._off]:
            try:
                self._open[name] = TRACKERS.resolve(name)(run)
            except Exception as error:
                self._lost(name, error)

    @property
    def working(self) -> tuple[str, ...]:
        """The names of those that have not failed."""
        return tuple(self._open)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """As `Tracker.scalars`, by all of them."""
        self._each(lambda tracker: tracker.scalars(values, step))

    def audio(self, name: str, samples: NDArray[np.float32], sample_rate: int, step: int) -> None:
        """As `Tracker.audio`, by all of them."""
        self._each(lambda tracker: tracker.audio(name, samples, sample_rate, step))

    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """As `Tracker.image`, by all of them."""
        self._each(lambda tracker: tracker.image(name, pixels, step))

    def close(self) -> None:
        """Close all of them."""
        self._each(lambda tracker: tracker.close())

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                call(tracker)
            except Exception as error:  # anybody's network, disk and code
                del self._open[name]
                self._lost(name, error)

    def _lost(self, name: str, error: Exception) -> None:
        self._off.add(name)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        self._warn(f"{name} is off for the rest of this call ({reason}); the work itself goes on")


@dataclass(frozen=True)
class Tracking:
    """By which trackers runs are followed, in which project.

    Attributes:
        project: names the experiment.
        names: registered trackers.
        off: those that have failed: a service that does not answer is waited for once, not once a run.
    """

    project: str = "codecs"
    names: tuple[str, ...] = (DEFAULT,)
    off: set[str] = field(default_factory=set, compare=False)

    def require(self) -> None:
        """Import the trackers, so that one that is missing is known before anything is computed.

        Raises:
            UnknownName: no such tracker.
            TrackerError: its package is not installed.
        """
        for name in self.names:
            try:
                TRACKERS.resolve(name)
            except ModuleNotFoundError as error:
                missing = str(error.name).partition(".")[0]
                extra = f": pip install 'codec-bottlenecks[{name}]'" if missing == name else ""
                raise TrackerError(f"tracker {name} needs the package {missing}{extra}") from error

    def open(
        self, folder: Path, name: str, settings: Mapping[str, Any], first_step: int | None, warn: Warn
    ) -> Trackers:
        """The trackers of one run, see `TrackedRun`; `warn` is told of those that fail."""
        return Trackers(self.names, TrackedRun(folder, self.project, name, settings, first_step), warn, self.off)
