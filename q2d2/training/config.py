"""Settings of a training run: plain data, saved beside the result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainConfig:
    """How a codec is trained.

    Attributes:
        steps: optimizer steps.
        batch_size: segments per step and process.
        segment_seconds: length of a segment.
        learning_rate: peak of the cosine schedule, which ends at `final_learning_rate` times the peak.
        warmup_steps: steps of linear rise before it.
        betas, weight_decay: AdamW.
        gradient_clip: largest norm of all gradients together.
        losses: {name: weight}, see q2d2.training.losses; `commitment` weighs the bottleneck's own loss.
        ema_decay: of the averaged weights, which are what is saved at the end; 0 saves the last weights.
        gain_db: range of the random gain on segments.
        init_from: checkpoint whose backbone training starts from (a folder, or a name that ships with the package);
            None starts from scratch.
        checkpoint_every: steps between checkpoints.
        log_every: steps between log rows.
        num_workers: processes that read segments ahead.
        precision: Lightning Fabric's "32-true" or "bf16-mixed".
        seed: decides initialization, data order, dropout and everything else random.
    """

    steps: int = 2000
    batch_size: int = 16
    segment_seconds: float = 1.0
    learning_rate: float = 5e-4
    final_learning_rate: float = 0.02
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    losses: dict[str, float] = field(
        default_factory=lambda: {"mel": 1.0, "stft": 0.3, "complex_stft": 16.0, "waveform": 16.0, "commitment": 1.0}
    )
    ema_decay: float = 0.999
    gain_db: tuple[float, float] = (-6.0, 3.0)
    init_from: str | None = None
    checkpoint_every: int = 500
    log_every: int = 10
    num_workers: int = 1
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "segment_seconds", "learning_rate", "checkpoint_every", "log_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"train.{name} is {getattr(self, name)}: expected a positive number")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"train.ema_decay is {self.ema_decay}: expected 0 <= ema_decay < 1")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of `step` (counted from 0): linear warm-up, then a cosine down to the final fraction."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * (self.final_learning_rate + (1 - self.final_learning_rate) * cosine)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"betas": list(self.betas), "gain_db": list(self.gain_db)}
