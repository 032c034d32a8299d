"""Training a planned system: into the run's folder, with what a checkpoint is to say of its data and code."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from evalkit.machine import code_version
from evalkit.run.plan import Plan
from evalkit.run.planned import PlannedBottleneck
from evalkit.speed import hardware_fingerprint
from q2d2.trackers import Tracking
from q2d2.training.loop import Watch, train
from q2d2.training.memory import machine_bytes
from q2d2.training.state import TrainingError

# A step on less audio than this, in seconds, fits into any machine that runs the harness.
SMALL_BATCH_SECONDS = 4.0
# The estimate was off by up to 25 % where it was compared with what trainings took (tests/test_memory.py).
MARGIN = 1.3


def memory_needed(plan: Plan, processes: int = 1) -> int:
    """Bytes that one process of a training of `plan` needs at its peak, about; 0 where that is no question."""
    settings = plan.experiment.train
    waiting = [each for each in plan.trained if each.state(plan.folder) != "trained already"]
    if not waiting or settings.batch_size * settings.segment_seconds <= SMALL_BATCH_SECONDS:
        return 0
    from q2d2.training.memory import training_bytes

    return training_bytes(waiting[0].backbone, settings, processes)


def memory_note(needed: int, processes: int = 1) -> str:
    """What `memory_needed` says of this machine, in a line of the plan; empty for 0."""
    if not needed:
        return ""
    there = machine_bytes()
    line = f"memory    about {needed / 2**30:.1f} GiB a training"
    line += f" and process, {processes} of them" if processes > 1 else ""
    line += f" (float32); this machine has {there / 2**30:.1f} GiB beside its GPUs"
    return line if needed * processes <= there else f"{line}: too little to train on the CPU"


def check_memory(needed: int, device: torch.device, processes: int = 1) -> None:
    """Refuse what would end in the system killing the process.

    Raises:
        TrainingError: a training on the CPU that needs more memory than this machine has.
    """
    there = machine_bytes()
    if device.type == "cpu" and needed * processes > MARGIN * there:
        raise TrainingError(
            f"a training would take about {needed * processes / 2**30:.0f} GiB, this machine has "
            f"{there / 2**30:.0f} GiB: train on a GPU (--device cuda), or with smaller steps, such as "
            "--set train.batch_size=1 or --set train.accumulate=8"
        )


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
        system.folder(plan.folder), name=system.name, device=device, watch=watch,
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
