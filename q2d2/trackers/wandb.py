"""Weights & Biases (extra `wandb`); its own environment variables (WANDB_MODE, WANDB_ENTITY, WANDB_DIR) hold."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import wandb
from numpy.typing import NDArray

from q2d2.trackers import TrackedRun
from q2d2.trackers.notes import Identity

STEP = "step"


class WeightsAndBiases:
    """A run of W&B, resumed by the id in `run.folder`; its files lie there too unless WANDB_DIR says where.

    Steps are a column of their own: W&B drops what comes at a smaller step of its own than it has seen, and results
    may come again.

    Raises:
        wandb.Error: not logged in, or no answer.
        OSError: the folder cannot be written.
    """

    def __init__(self, run: TrackedRun) -> None:
        self._identity = Identity(run, "wandb")
        self._run = wandb.init(
            project=run.project,
            name=run.name,
            id=self._identity.id,
            resume="allow",
            dir=None if "WANDB_DIR" in os.environ else str(run.folder),
            config=dict(run.settings),
            allow_val_change=True,
            reinit="create_new",  # a run of the caller's own stays as it is
            settings=wandb.Settings(console="off", quiet=True),  # it would take the progress bar line by line
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if not self._identity.was_sent(step):
            self._run.log({**values, STEP: step})
            self._identity.sent(step)

    def audio(self, name: str, samples: NDArray[np.float32], sample_rate: int, step: int) -> None:
        self._run.log({name: wandb.Audio(samples, sample_rate=sample_rate), STEP: step})

    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        self._run.log({name: wandb.Image(pixels), STEP: step})

    def close(self) -> None:
        self._run.finish()
