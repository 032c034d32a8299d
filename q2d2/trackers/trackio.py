"""trackio (extra `trackio`): on this machine, for `trackio show`; its environment variables (TRACKIO_DIR) hold."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping

import numpy as np
import trackio
from numpy.typing import NDArray

from q2d2.trackers import TrackedRun
from q2d2.trackers.notes import Identity


class Trackio:
    """A run of trackio, named NAME-ID: it finds runs by name alone, and another folder may hold one of the same name.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, run: TrackedRun) -> None:
        self._identity = Identity(run, "trackio")
        with _words_to_stderr():
            self._run = trackio.init(
                project=run.project,
                name=f"{run.name}-{self._identity.id}",
                config=dict(run.settings),
                resume="allow",
                embed=False,
            )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if not self._identity.was_sent(step):
            self._run.log(dict(values), step=step)
            self._identity.sent(step)

    def audio(self, name: str, samples: NDArray[np.float32], sample_rate: int, step: int) -> None:
        # Of floats it would raise each to full scale, and a level that a codec got wrong would be gone.
        pcm = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        self._run.log({name: trackio.Audio(pcm, sample_rate=sample_rate)}, step=step)

    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        self._run.log({name: trackio.Image(pixels)}, step=step)

    def close(self) -> None:
        with _words_to_stderr():
            trackio.finish()


def _words_to_stderr() -> contextlib.redirect_stdout:
    """What trackio prints is no output of the command."""
    return contextlib.redirect_stdout(sys.stderr)
