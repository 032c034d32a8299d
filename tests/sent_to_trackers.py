"""A number, a sound and a picture sent to a tracker."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from q2d2.trackers import TrackedRun, Trackers

SAMPLES = np.array([0.0, 0.25, -0.5, 1.5], np.float32)
PIXELS = np.full((4, 6, 3), (200, 100, 0), np.uint8)


def show(service: str, run: TrackedRun, samples: NDArray[np.float32] = SAMPLES) -> None:
    """Send a number, a sound and a picture."""
    told: list[str] = []
    trackers = Trackers([service], run, told.append)
    trackers.scalars({"total": 0.5}, 7)
    trackers.audio("audio/a", samples, 16_000, 7)
    trackers.image("codes", PIXELS, 7)
    trackers.close()
    assert told == []


def tone() -> NDArray[np.float32]:
    return (0.3 * np.sin(np.arange(1600) / 7)).astype(np.float32)
