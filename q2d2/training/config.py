"""Settings of a training run, plain data saved beside the result, and the recipes they start from."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from q2d2.errors import did_you_mean, printable, shown

PRECISIONS = ("32-true", "bf16-mixed")
# Faults of the published training code, by name, for recipes that repeat them.
FAULTS = {
    "frozen_dac_discriminator": "the DAC discriminator is given to no optimizer: it stays as random as it started",
    "two_generator_forwards": "the codec runs anew for each of the two steps of a batch: a codebook learns twice",
}

SPECTRAL_LOSSES = {"mel": 1.0, "stft": 0.3, "complex_stft": 16.0, "waveform": 16.0, "commitment": 1.0}
ADVERSARIAL_LOSSES = {
    "mpd": 0.1, "mpd_features": 0.1, "mrd": 0.1, "mrd_features": 0.1, "dac": 0.02, "dac_features": 0.02,
}  # fmt: skip

# Beyond these a setting is a slip of the keyboard, or an attempt to take all memory.
MOST = {
    "steps": 10**9, "batch_size": 2**16, "accumulate": 2**16, "segment_seconds": 600,
    "checkpoint_every": 10**9, "log_every": 10**9, "warmup_steps": 10**9, "num_workers": 1024, "weight_decay": 1000,
    "final_learning_rate": 1000, "spectral_steps": 10**9, "seed": 2**63 - 1,
}  # fmt: skip
MAX_WEIGHT, MAX_GAIN = 1e9, 200.0


@dataclass(frozen=True)
class TrainConfig:
    """How a codec is trained. The defaults are the recipe `corrected`.

    Attributes:
        recipe: name of the recipe that the other values started from, see RECIPES.
        steps: optimizer steps.
        batch_size: segments per optimizer step, over all processes and accumulated batches: the global batch.
        accumulate: batches of each process whose gradients are added up before a step.
        segment_seconds: length of a segment.
        learning_rate: peak of the cosine schedule, which ends at `final_learning_rate` times the peak. It holds for the
            global batch, for the codec and the discriminators alike.
        warmup_steps: steps of linear rise before it.
        betas, weight_decay: AdamW.
        gradient_clip: largest norm of all gradients together, of the codec and of the discriminators each; None: any.
        losses: {name: weight}, see q2d2.training.losses and q2d2.training.adversarial; `commitment` weighs the
            bottleneck's own loss. Discriminators are built for the adversarial names with a positive weight.
        spectral_steps: first steps, in which the discriminators neither judge nor learn.
        discriminator_width: channels of the discriminators as a fraction of the published ones.
        faults: of the published code that are repeated, names in FAULTS.
        ema_decay: of the averaged weights, which are what is saved at the end; 0 saves the last weights.
        gain_db: range of the random gain on segments.
        init_from: checkpoint whose backbone training starts from (a folder, or a name that ships with the package);
            None starts from scratch.
        checkpoint_every: steps between checkpoints.
        log_every: steps between log rows.
        num_workers: processes that read segments ahead, for each training process.
        precision: Lightning Fabric's "32-true" or "bf16-mixed"; bottlenecks, losses and the ISTFT keep to float32.
        compile: torch.compile the codec and the discriminators.
        seed: decides initialization, data order, dropout and everything else random.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    recipe: str = "corrected"
    steps: int = 2000
    batch_size: int = 16
    accumulate: int = 1
    segment_seconds: float = 1.0
    learning_rate: float = 5e-4
    final_learning_rate: float = 0.02
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    gradient_clip: float | None = 1.0
    losses: dict[str, float] = field(default_factory=lambda: SPECTRAL_LOSSES | ADVERSARIAL_LOSSES)
    spectral_steps: int = 500
    discriminator_width: float = 1.0
    faults: tuple[str, ...] = ()
    ema_decay: float = 0.999
    gain_db: tuple[float, float] = (-6.0, 3.0)
    init_from: str | None = None
    checkpoint_every: int = 500
    log_every: int = 10
    num_workers: int = 1
    precision: str = "32-true"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "faults", tuple(self.faults))
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"train.{name} is {value}: expected a finite number")
        for name, weight in self.losses.items():
            _require(0 <= weight <= MAX_WEIGHT, f"losses.{name}", weight, f"a number in 0..{MAX_WEIGHT:g}")
        for name, most in MOST.items():
            _require(getattr(self, name) <= most, name, getattr(self, name), f"at most {most:,}")
        for name in ("steps", "batch_size", "accumulate", "segment_seconds", "learning_rate", "checkpoint_every",
                     "log_every"):  # fmt: skip
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        for name in ("warmup_steps", "num_workers", "weight_decay", "final_learning_rate", "spectral_steps", "seed"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 <= ema_decay < 1")
        clip = self.gradient_clip
        _require(clip is None or clip > 0, "gradient_clip", clip, "a positive number, or null for none")
        _require(all(0 <= beta < 1 for beta in self.betas), "betas", list(self.betas), "0 <= beta < 1")
        low, high = self.gain_db
        _require(-MAX_GAIN <= low <= high <= MAX_GAIN, "gain_db", list(self.gain_db), "the lower end first")
        _require(
            0 < self.discriminator_width <= 1, "discriminator_width", self.discriminator_width, "a number in (0, 1]"
        )
        _require(self.precision in PRECISIONS, "precision", shown(self.precision), f"one of {', '.join(PRECISIONS)}")
        _require(self.recipe in RECIPES, "recipe", shown(self.recipe), f"one of {', '.join(RECIPES)}")
        for fault in self.faults:
            _require(fault in FAULTS, "faults", shown(fault), f"names among {', '.join(FAULTS)}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of `step` (counted from 0): linear warm-up, then a cosine down to the final fraction."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * (self.final_learning_rate + (1 - self.final_learning_rate) * cosine)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"betas": list(self.betas), "gain_db": list(self.gain_db), "faults": list(self.faults)}


def _require(condition: bool, name: str, value: Any, expected: str) -> None:
    if not condition:
        text = value if isinstance(value, str) else shown(value)
        raise ValueError(f"train.{printable(name)} is {text}: expected {expected}")


# Values that differ from TrainConfig's defaults, and always the losses. A further recipe is a line here.
RECIPES: dict[str, dict[str, Any]] = {
    "corrected": {"losses": SPECTRAL_LOSSES | ADVERSARIAL_LOSSES},
    # The same training without discriminators.
    "spectral": {"losses": SPECTRAL_LOSSES, "spectral_steps": 0},
    # What the published code of Q2D2 does (docs/training.md says from where, and what is left out).
    "published": {
        "batch_size": 32,
        "segment_seconds": 3.0,
        "learning_rate": 8e-5,
        "final_learning_rate": 0.0,
        "warmup_steps": 0,
        "betas": (0.9, 0.999),
        "gradient_clip": None,
        "losses": {
            "mpd": 1.0, "mrd": 1.0, "mpd_features": 1.0, "mrd_features": 1.0, "mel_1024": 45.0, "commitment": 1000.0,
            "dac": 1.0, "dac_features": 1.0,
        },
        "spectral_steps": 0,
        "faults": tuple(FAULTS),
        "ema_decay": 0.0,
        "gain_db": (-6.0, -1.0),
        "seed": 3407,
    },
}  # fmt: skip


def recipe_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe that `given["recipe"]` names (default: corrected) with the other values of `given` over it.

    Raises:
        ValueError: an unknown recipe.
    """
    name = given.get("recipe", "corrected")
    if not isinstance(name, str) or name not in RECIPES:
        hint = did_you_mean(str(name), RECIPES)
        raise ValueError(f"train.recipe is {shown(name)}: no such recipe.{hint} Known: {', '.join(RECIPES)}.")
    return copy.deepcopy(RECIPES[name]) | dict(given)


def train_config(recipe: str = "corrected", **changes: Any) -> TrainConfig:
    """The settings of a recipe with single values changed, such as `train_config("published", steps=1000)`.

    Raises:
        ValueError: an unknown recipe or setting, or a value out of range.
    """
    if unknown := set(changes) - {each.name for each in fields(TrainConfig)}:
        raise ValueError(f"no setting {', '.join(sorted(unknown))} of a training")
    return TrainConfig(**recipe_values({**changes, "recipe": recipe}))
