"""A training so small that it takes about a second, and what its tests share."""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file

from q2d2.audio import read_header
from q2d2.checkpoints import CONFIG, WEIGHTS
from q2d2.codec import CodecConfig
from q2d2.training.config import SPECTRAL_LOSSES, train_config
from q2d2.training.loop import train
from q2d2.training.manifest import AudioFile, Manifest

RATE = 8000
SMALL = CodecConfig(
    sample_rate=RATE, ratios=(4, 4), num_filters=2, dimension=8, lstm_layers=1, decoder_dim=64,
    decoder_intermediate=32, decoder_layers=1,
)  # fmt: skip
SHORT = train_config(
    steps=24, batch_size=2, segment_seconds=0.2, learning_rate=2e-3, warmup_steps=4, ema_decay=0.9,
    losses=SPECTRAL_LOSSES | {"mpd": 0.1, "mpd_features": 0.1}, spectral_steps=6, discriminator_width=0.02,
    checkpoint_every=8, log_every=2, num_workers=0, seed=3,
)  # fmt: skip
BOTTLENECKS: dict[str, dict[str, Any]] = {
    "q2d2": {"name": "q2d2", "tiling": "rhombic", "levels": [7, 7, 7, 7]},
    "vq": {"name": "vq", "codebook_size": 16},
    "rvq": {"name": "rvq", "codebook_size": 8, "num_quantizers": 3, "codebook_dim": 4, "quantizer_dropout": 0.5},
}


def write_audio(folder: Path) -> None:
    """Harmonics of a gliding pitch, with pauses and a little noise."""
    t = np.arange(2 * RATE) / RATE
    for number, pitch in enumerate((110, 160, 220)):
        phase = 2 * np.pi * np.cumsum(pitch + 20 * np.sin(2 * np.pi * 1.3 * t)) / RATE
        voice = sum(np.sin(h * phase) / h for h in range(1, 12)) * (np.sin(2 * np.pi * 2 * t) > -0.5)
        hiss = np.random.default_rng(number).standard_normal(t.size)
        soundfile.write(folder / f"{number}.wav", 0.15 * voice + 0.003 * hiss, RATE)


def files_of(folder: Path) -> list[AudioFile]:
    headers = [(path, read_header(path)) for path in sorted(folder.glob("*.wav"))]
    return [AudioFile(path, header.frames, header.sample_rate) for path, header in headers]


def corpus(folder: Path) -> Manifest:
    return Manifest.of(files_of(folder))


def train_one(audio: Path, folder: Path, bottleneck: str | dict[str, Any] = "q2d2", **changes: Any) -> Path:
    config = dataclasses.replace(SHORT, **changes)
    described = BOTTLENECKS[bottleneck] if isinstance(bottleneck, str) else bottleneck
    return train(SMALL, described, corpus(audio), config, folder, device="cpu")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def assert_same_run(one: Path, other: Path) -> None:
    """Weights and log rows equal to the bit, and nothing left over."""
    weights, others = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name
    assert rows(one) == rows(other)
    assert sorted(os.listdir(one)) == sorted(os.listdir(other)) == [CONFIG, WEIGHTS, "log.csv", "tensorboard"]
