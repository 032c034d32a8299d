"""Training a planned system: into the run's folder, with what a checkpoint is to say of its data and code."""

from __future__ import annotations

import shutil
from pathlib import Path

from evalkit.environment import code_version
from evalkit.plan import Plan
from evalkit.planned import PlannedBottleneck
from evalkit.speed import hardware_fingerprint
from q2d2.trackers import Tracking
from q2d2.training.loop import Watch, train


def train_system(
    plan: Plan,
    system: PlannedBottleneck,
    device: str,
    watch: Watch | None = None,
    tracking: Tracking | None = None,
) -> Path:
    """Train `system`, or go on with it; returns the folder of its checkpoint.

    Its log is copied to training/NAME.csv of the run.

    Args:
        plan: of the run.
        system: one without a checkpoint.
        device: "auto", "cpu" or "cuda".
        watch: as in q2d2.training.loop.train.
        tracking: likewise; None for the default.

    Raises:
        Stopped, TrainingError, UnreadableCorpus, CheckpointError: as q2d2.training.loop.train.
    """
    folder = train(
        system.backbone, system.bottleneck, plan.train_manifest, plan.experiment.train,
        plan.folder / "checkpoints" / system.name, name=system.name, device=device, watch=watch,
        tracking=tracking or Tracking(plan.experiment.name),
        metadata={
            "corpora": [f"{corpus.name}/{corpus.part}: {corpus.coverage}" for corpus in plan.train],
            "version": code_version(),
            "hardware": hardware_fingerprint(),
        },
    )  # fmt: skip
    if (folder / "log.csv").is_file():  # a short training may end before its first row
        (plan.folder / "training").mkdir(exist_ok=True)
        shutil.copyfile(folder / "log.csv", plan.folder / "training" / f"{system.name}.csv")
    return folder
