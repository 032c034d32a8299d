"""The training loop: readable top to bottom, resumable to the bit, on one process or many.

Every random draw of step k is a function of (seed, k, rank): the step's segments by `SegmentDataset`, everything inside
the model by reseeding before the step. A checkpoint therefore holds no random state, and a run that was killed and
started again computes exactly what an undisturbed one would have.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import CONFIG, find_checkpoint, load_backbone, read_description, save_codec
from q2d2.codec import Codec, CodecConfig
from q2d2.denormals import denormals_flushed
from q2d2.errors import Stopped
from q2d2.files import remove_leftovers
from q2d2.trackers import Tracking
from q2d2.training.adversarial import AdversarialLosses
from q2d2.training.config import TrainConfig
from q2d2.training.log import TrainingLog
from q2d2.training.losses import ReconstructionLosses
from q2d2.training.manifest import Manifest
from q2d2.training.preemption import Preemption
from q2d2.training.processes import gather, launch, others_may_fail, require_equal, state_tensors
from q2d2.training.segments import SegmentDataset, StepSampler, segment_loader
from q2d2.training.state import STATE, TrainingError, check_same, load_state, save_state
from q2d2.training.steps import StepLosses, Stepper

# Called after each logged row with the number of steps done and the codec's losses.
Watch = Callable[[int, Mapping[str, float]], None]


@denormals_flushed()
def train(
    backbone: CodecConfig,
    bottleneck: dict[str, Any],
    corpus: Manifest,
    config: TrainConfig,
    folder: Path,
    *,
    name: str = "codec",
    device: str = "auto",
    metadata: dict[str, Any] | None = None,
    watch: Watch | None = None,
    tracking: Tracking | None = None,
) -> Path:
    """Train a codec, or go on where an earlier call in the same folder stopped.

    Under torchrun every process calls this alike; the folder must then lie where all of them see it.

    Args:
        backbone: sizes of encoder and decoder.
        bottleneck: {"name": registered name, **options}.
        corpus: files to draw segments from.
        config: steps, losses, schedule and the rest.
        folder: receives state.pt while training, log.csv, what trackers keep (tensorboard/) and, at the end, the
            checkpoint.
        name: shown in the progress bar, and of the tracked run.
        device: "auto", "cpu", "cuda".
        metadata: noted in the checkpoint beside the settings.
        watch: told of each logged row in place of a progress bar; what it raises ends the training, which a later call
            goes on with.
        tracking: which trackers follow the losses, of no influence on what is trained; None for TensorBoard.

    Returns:
        The folder, which holds a checkpoint for `q2d2.checkpoints.load_codec`.

    Raises:
        Stopped: SIGTERM came; what was trained is saved.
        TrainingError: a loss or a weight is not finite, or the folder holds a run with other settings or data, or a
            damaged state; another process is gone, or holds other weights.
        UnreadableCorpus: too many files in a row cannot be read.
        CheckpointError: `config.init_from` cannot be used.
        ValueError: a setting is out of range, or there are no files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    settings: dict[str, Any] = {
        "backbone": backbone.to_dict(),
        "bottleneck": bottleneck,
        "train": config.to_dict(),
        "corpus": {"files": len(corpus), "audio_seconds": round(corpus.seconds, 1), "digest": corpus.digest},
    }
    if config.init_from:
        source = find_checkpoint(config.init_from)
        settings["init_weights_sha256"] = read_description(source)["weights_sha256"]
    if (folder / CONFIG).is_file():
        check_same(folder, read_description(folder)["metadata"].get("settings", {}), settings)
        (folder / STATE).unlink(missing_ok=True)
        return folder

    fabric = launch(device, config.precision)
    samples = round(config.segment_seconds * backbone.sample_rate)
    dataset = SegmentDataset(corpus, backbone.sample_rate, samples, config.gain_db, config.seed)
    _seed_everything(config.seed)
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
    judges = build_judges(config)
    averaged = AveragedModel(codec, multi_avg_fn=_moving_average(config.ema_decay))
    fabric.to_device(averaged)
    averaged.n_averaged = averaged.n_averaged.cpu()  # asked for in every step, where a GPU would be waited for
    stepper, parts = _set_up(fabric, config, backbone, codec, judges)
    parts["averaged"] = averaged

    first_step, seconds_before = load_state(folder, settings, parts)
    if len(gather(fabric, torch.tensor(first_step)).unique()) > 1:
        raise TrainingError(f"{folder} is not the same for all processes: use storage that all machines share")
    sampler = StepSampler(
        config.batch_size, first_step, config.steps, fabric.global_rank, fabric.world_size, config.accumulate
    )
    kept = f"What was saved last is kept in {folder}; run the same command again to go on."
    started = time.monotonic()
    finite = torch.ones((), dtype=torch.bool, device=fabric.device)
    with (
        others_may_fail(fabric, kept),
        TrainingLog(
            folder,
            name,
            _columns(config, judges),
            first_step,
            config.steps,
            fabric.is_global_zero,
            quiet=watch is not None,
            tracking=tracking,
            settings=settings,
        ) as log,
        Preemption() as preemption,
    ):
        on_gpu = fabric.device.type == "cuda"
        batches = iter(segment_loader(dataset, sampler, config.num_workers, pin_memory=on_gpu))
        for step in range(first_step, config.steps):
            audio = []
            for _ in range(config.accumulate):
                batch = next(batches)
                for problem in batch.problems:
                    log.problem(problem)
                audio.append(batch.audio.to(fabric.device, non_blocking=True))
            _seed_everything(config.seed, step, fabric.global_rank)
            learning_rate = config.learning_rate_at(step)
            for optimizer in (stepper.codec_optimizer, stepper.judges_optimizer):
                for group in optimizer.param_groups if optimizer else ():
                    group["lr"] = learning_rate
            losses = stepper.step(step, audio)
            averaged.update_parameters(codec)
            # Gathered on the device and looked at only when logging or saving, so that a GPU is never waited for.
            finite &= torch.stack([*losses.codec.values(), *losses.discriminators.values()]).isfinite().all()

            done = step + 1
            stopping = preemption.due() and done < config.steps
            saving = done % config.checkpoint_every == 0 or done == config.steps or stopping
            if saving:  # the gradient of a finite loss need not be finite, and what is saved must be good
                weights = (*codec.parameters(), *judges.parameters())
                finite &= torch.stack([weight.isfinite().all() for weight in weights]).all()
            if saving or done % config.log_every == 0:
                values = _everybodys_mean(fabric, losses)
                if not gather(fabric, finite).all():
                    raise TrainingError(_non_finite_message(name, done, values, folder))
                seconds = seconds_before + time.monotonic() - started
                rate = (done - first_step) / (seconds - seconds_before)
                if done % config.log_every == 0 or done == config.steps:
                    log.row(done, values, learning_rate, seconds, rate)
                    if watch is not None and fabric.is_global_zero:
                        watch(done, values.codec)
                if saving:
                    require_equal(fabric, state_tensors(codec), f"{name}: weights and codebooks after step {done}")
                    if fabric.is_global_zero:
                        save_state(folder, settings, done, seconds, parts)
            if stopping:
                raise Stopped(f"{name}: stopped by SIGTERM after step {done:,} of {config.steps:,}. {kept}")

        if fabric.is_global_zero:
            final = averaged.module if config.ema_decay else codec
            assert isinstance(final, Codec)
            save_codec(final, folder, {"settings": settings, **settings["corpus"], **(metadata or {})})
            (folder / STATE).unlink(missing_ok=True)
        fabric.barrier()
    return folder


def build_judges(config: TrainConfig) -> AdversarialLosses:
    """The adversarial losses of a training, with the discriminators they need."""
    frozen = ("dac",) if "frozen_dac_discriminator" in config.faults else ()
    return AdversarialLosses(config.losses, config.discriminator_width, frozen)


def _set_up(
    fabric: Fabric, config: TrainConfig, backbone: CodecConfig, codec: Codec, judges: AdversarialLosses
) -> tuple[Stepper, dict[str, Any]]:
    """What makes steps, and the parts of it that a checkpoint holds."""
    objective = ReconstructionLosses(backbone.sample_rate, config.losses)
    fabric.to_device(objective)
    fabric.to_device(judges)
    if config.compile:  # not the bottleneck: codebooks have a start, and processes talk to each other in them
        for module in (codec.encoder, codec.decoder, codec.head, *judges.discriminators.values()):
            module.compile()
    model, codec_optimizer = fabric.setup(codec, _optimizer(codec, config))
    parts: dict[str, Any] = {"codec": codec, "optimizer": codec_optimizer}
    taught, judges_optimizer = None, None
    if judges.learning:
        taught, judges_optimizer = fabric.setup(judges, _optimizer(judges, config))
        parts["discriminator_optimizer"] = judges_optimizer
    if judges.weights:
        parts["discriminators"] = judges.discriminators
    return Stepper(fabric, config, model, codec_optimizer, objective, judges, taught, judges_optimizer), parts


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW of what learns in `module`."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        learning, config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )


def _columns(config: TrainConfig, judges: AdversarialLosses) -> StepLosses[None]:
    """The names of all losses that some step of a training has."""
    codec = {name: None for name, weight in config.losses.items() if weight > 0}
    return StepLosses(codec, dict.fromkeys(judges.learning))


def _everybodys_mean(fabric: Fabric, losses: StepLosses) -> StepLosses[float]:
    """The losses as numbers, each a mean over the processes."""
    values = torch.stack([loss for part in losses for loss in part.values()])
    means = iter(fabric.all_reduce(values, reduce_op="mean").tolist())  # type: ignore[union-attr]
    return StepLosses(*({name: next(means) for name in part} for part in losses))


def _moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average whose decay rises from 0 to `decay`, so that a short run forgets its first weights."""

    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor) -> None:
        count = int(num_averaged)
        torch._foreach_lerp_(list(averages), list(current), 1 - min(decay, (1 + count) / (10 + count)))

    return update


def _seed_everything(seed: int, step: int = -1, rank: int = 0) -> None:
    # SeedSequence spreads neighbouring steps and ranks over unrelated seeds.
    value = int(np.random.SeedSequence((seed, step + 1, rank)).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def _non_finite_message(name: str, step: int, values: StepLosses[float], folder: Path) -> str:
    shown = ", ".join(f"{key} {value:.4g}" for part in values for key, value in part.items())
    kept = (
        f"The last good checkpoint is kept in {folder / STATE}."
        if (folder / STATE).exists()
        else ("No checkpoint had been written yet.")
    )
    return (
        f"{name}: a loss or weight was not finite at or shortly before step {step} ({shown}). {kept} "
        "Lower train.learning_rate or train.gradient_clip and use a new output folder."
    )
