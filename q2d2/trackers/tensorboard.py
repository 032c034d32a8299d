"""TensorBoard: event files in the run's own folder, for `tensorboard --logdir`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from q2d2.trackers import TrackedRun

EVENTS = "tensorboard"
ADDED = ".results"


class TensorBoard:
    """Events in `run.folder`/tensorboard; those added to a trained run are files of their own.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, run: TrackedRun) -> None:
        folder = run.folder / EVENTS
        if run.first_step is None:
            # Two points at one step would both be shown.
            for path in folder.glob(f"events.out.tfevents.*{ADDED}"):
                path.unlink()
            self._writer = SummaryWriter(str(folder), filename_suffix=ADDED)
        else:
            # TensorBoard hides what earlier files hold of this step and later ones; the row of `first_step` is good.
            self._writer = SummaryWriter(str(folder), purge_step=run.first_step and run.first_step + 1)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def audio(self, name: str, samples: NDArray[np.float32], sample_rate: int, step: int) -> None:
        self._writer.add_audio(name, torch.from_numpy(np.ascontiguousarray(samples))[None], step, sample_rate)

    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()
