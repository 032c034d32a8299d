"""The training loop: readable top to bottom, resumable to the bit.

Every random draw of step k is a function of (seed, k): the step's batch by `SegmentDataset`, everything inside the
model by reseeding before the step. A checkpoint therefore holds no random state, and a run that was killed and
started again computes exactly what an undisturbed one would have.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricModule
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import CONFIG, find_checkpoint, load_backbone, read_description, save_codec
from q2d2.codec import Codec, CodecConfig
from q2d2.errors import UserError
from q2d2.training.config import TrainConfig
from q2d2.training.log import TrainingLog
from q2d2.training.losses import GeneratorLosses
from q2d2.training.segments import AudioFile, SegmentDataset, StepSampler, segment_loader

STATE = "state.pt"
# What may change between a run and its continuation, as no weight depends on it.
WITHOUT_EFFECT = {"train.checkpoint_every", "train.log_every", "train.num_workers"}


class TrainingError(UserError, RuntimeError):
    """Training cannot go on; the message says what happened, where, and what is kept."""


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers below the smallest normal float as zero while inside, as the CPU is many times slower with them.

    Gradients of near-silent speech are that small.
    """
    before = bool(torch.tensor(1e-40) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@denormals_flushed()
def train(
    backbone: CodecConfig,
    bottleneck: dict[str, Any],
    files: Sequence[AudioFile],
    config: TrainConfig,
    folder: Path,
    *,
    name: str = "codec",
    device: str = "auto",
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Train a codec, or go on where an earlier call in the same folder stopped.

    Args:
        backbone: sizes of encoder and decoder.
        bottleneck: {"name": registered name, **options}.
        files: training corpus.
        config: steps, losses, schedule and the rest.
        folder: receives state.pt while training, log.csv, tensorboard/ and, at the end, the checkpoint.
        name: shown in the progress bar.
        device: "auto", "cpu", "cuda".
        metadata: noted in the checkpoint beside the settings.

    Returns:
        The folder, which holds a checkpoint for `q2d2.checkpoints.load_codec`.

    Raises:
        TrainingError: a loss or a weight is not finite, or the folder holds a run with other settings or data, or a
            damaged state.
        UnreadableCorpus: too many files in a row cannot be read.
        CheckpointError: `config.init_from` cannot be used.
        ValueError: a setting is out of range, or there are no files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    audio_seconds = round(sum(file.frames / file.sample_rate for file in files), 1)
    settings: dict[str, Any] = {
        "backbone": backbone.to_dict(),
        "bottleneck": bottleneck,
        "train": config.to_dict(),
        "corpus": {"files": len(files), "audio_seconds": audio_seconds},
    }
    if config.init_from:
        source = find_checkpoint(config.init_from)
        settings["init_weights_sha256"] = read_description(source)["weights_sha256"]
    if (folder / CONFIG).is_file():
        _check_same(folder, read_description(folder)["metadata"].get("settings", {}), settings)
        (folder / STATE).unlink(missing_ok=True)
        return folder

    fabric = Fabric(accelerator=_accelerator(device), devices=1, precision=config.precision)  # type: ignore[arg-type]
    samples = round(config.segment_seconds * backbone.sample_rate)
    dataset = SegmentDataset(files, backbone.sample_rate, samples, config.gain_db, config.seed)
    _seed_everything(config.seed, step=-1)
    options = dict(bottleneck)
    codec = Codec(backbone, build_bottleneck(options.pop("name"), backbone.dimension, **options))
    if config.init_from:
        load_backbone(codec, source)
        first_batch = torch.stack([dataset[index].audio for index in range(config.batch_size)])
        try:
            with torch.no_grad():
                codec.bottleneck.fit(codec.eval().latents(first_batch))
        except ValueError as error:
            raise TrainingError(f"{name} cannot start from {config.init_from}: {error}") from error
        codec.train()
    averaged = AveragedModel(codec, multi_avg_fn=_moving_average(config.ema_decay))
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(
        codec.parameters(), config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    objective = GeneratorLosses(backbone.sample_rate, config.losses)
    fabric.to_device(objective)
    fabric.to_device(averaged)
    averaged.n_averaged = averaged.n_averaged.cpu()  # asked for in every step, where a GPU would be waited for
    model, optimizer = fabric.setup(codec, optimizer)

    first_step, seconds_before = _resume(folder, settings, codec, averaged, optimizer)
    sampler = StepSampler(config.batch_size, first_step, config.steps, fabric.global_rank, fabric.world_size)
    batches = iter(segment_loader(dataset, sampler, config.num_workers))

    def save(step: int, seconds: float) -> None:
        state = {
            "settings": settings, "step": step, "seconds": seconds, "codec": codec.state_dict(),
            "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict(),
        }  # fmt: skip
        part = folder / (STATE + ".part")
        contents = io.BytesIO()  # torch's own writer hides a full disk behind an error of its own
        torch.save(state, contents)
        part.write_bytes(contents.getbuffer())
        os.replace(part, folder / STATE)

    started = time.monotonic()
    finite = torch.ones((), dtype=torch.bool, device=fabric.device)
    with TrainingLog(folder, name, first_step, config.steps, fabric.is_global_zero) as log:
        for step in range(first_step, config.steps):
            batch = next(batches)
            for problem in batch.problems:
                log.problem(problem)
            _seed_everything(config.seed, step)
            learning_rate = config.learning_rate_at(step)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            losses = _step(fabric, model, optimizer, objective, fabric.to_device(batch.audio), config)
            averaged.update_parameters(codec)
            # Gathered on the device and looked at only when logging or saving, so that a GPU is never waited for.
            finite &= torch.stack([loss.detach() for loss in losses.values()]).isfinite().all()

            done = step + 1
            saving = done % config.checkpoint_every == 0 or done == config.steps
            if saving:  # the gradient of a finite loss need not be finite, and what is saved must be good
                finite &= torch.stack([weight.isfinite().all() for weight in codec.parameters()]).all()
            if saving or done % config.log_every == 0:
                values = {key: loss.item() for key, loss in losses.items()}
                if not finite:
                    raise TrainingError(_non_finite_message(name, done, values, folder))
                seconds = seconds_before + time.monotonic() - started
                rate = (done - first_step) / (seconds - seconds_before)
                if done % config.log_every == 0 or done == config.steps:
                    log.row(done, values, learning_rate, seconds, rate)
                if saving:
                    save(done, seconds)

    final = averaged.module if config.ema_decay else codec
    assert isinstance(final, Codec)
    save_codec(final, folder, {"settings": settings, **settings["corpus"], **(metadata or {})})
    (folder / STATE).unlink(missing_ok=True)
    return folder


def _step(
    fabric: Fabric,
    model: _FabricModule,
    optimizer: torch.optim.Optimizer,
    objective: GeneratorLosses,
    audio: Tensor,
    config: TrainConfig,
) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = objective(model(audio), audio)
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(torch.stack(list(losses.values())).sum())
    fabric.clip_gradients(model, optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False)
    optimizer.step()
    return losses


def _moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average whose decay rises from 0 to `decay`, so that a short run forgets its first weights."""

    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor) -> None:
        count = int(num_averaged)
        torch._foreach_lerp_(list(averages), list(current), 1 - min(decay, (1 + count) / (10 + count)))

    return update


def _accelerator(device: str) -> str:
    """Fabric's name of a device; "auto" is a CUDA device or the CPU, as everywhere in the harness."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _seed_everything(seed: int, step: int) -> None:
    # SeedSequence spreads neighbouring steps over unrelated seeds.
    value = int(np.random.SeedSequence((seed, step + 1)).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def _resume(
    folder: Path, settings: dict[str, Any], codec: Codec, averaged: AveragedModel, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load state.pt into the three, if there is one; returns the finished steps and the seconds they took."""
    path = folder / STATE
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(f"{path} is damaged: it holds no training state. Delete it to train anew.") from error
    _check_same(folder, state["settings"], settings)
    codec.load_state_dict(state["codec"])
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]


def _check_same(folder: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise TrainingError naming every difference between what a folder's run was made with and what is wanted now."""
    there, now = _flat(stored), _flat(wanted)
    different = [
        f"{key}: {there.get(key)!r} there, {now.get(key)!r} wanted"
        for key in {**now, **there}
        if there.get(key) != now.get(key) and key not in WITHOUT_EFFECT
    ]
    if different:
        raise TrainingError(
            f"{folder} holds a run with other settings ({'; '.join(different)}). "
            "Use another output folder, or delete this one to train anew."
        )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """{"train": {"steps": 5}} -> {"train.steps": 5}, with values as they come back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    flat: dict[str, Any] = {}
    for part, value in plain.items():
        flat |= {f"{part}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {part: value}
    return flat


def _non_finite_message(name: str, step: int, values: dict[str, float], folder: Path) -> str:
    shown = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
    kept = (
        f"The last good checkpoint is kept in {folder / STATE}."
        if (folder / STATE).exists()
        else ("No checkpoint had been written yet.")
    )
    return (
        f"{name}: a loss or weight was not finite at or shortly before step {step} ({shown}). {kept} "
        "Lower train.learning_rate or train.gradient_clip and use a new output folder."
    )
