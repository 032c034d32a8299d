"""Outputs of the published models for weights and a signal that formulas give, so that no weights need to ship.

tests/data/golden_NAME.npz holds excerpts of what the published code computes in eval mode (CPU, float32, condition 0)
with every weight set by `fill` and `wave()` as its input:
    input (samples / 25,): every 25th sample; audio (samples / 4,): every 4th, with audio_peak and audio_length of all;
    encoder_latents, features (32, frames): every 16th channel before and after the bottleneck; codes (1, frames) int64;
    keys: name and shape of each entry of the published state dict.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).resolve().parent / "data"
INPUT_STEP, AUDIO_STEP, CHANNEL_STEP = 25, 4, 16


def excerpt(name: str) -> dict[str, np.ndarray]:
    """The arrays described above."""
    with np.load(DATA / f"golden_{name}.npz") as arrays:
        return dict(arrays)


def keys(name: str) -> dict[str, tuple[int, ...]]:
    """Published names and shapes of all entries of the model `name`."""
    entries = (str(entry).split() for entry in excerpt(name)["keys"])
    return {key: tuple(int(size) for size in shape.split(",")) for key, shape in entries}


def fill(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of the entry `key`, float32: noise seeded by its name, scaled so that signals keep their size.

    Gains of weight norm lie above 1, codebooks are the noise itself, other gains lie around 1, layer scales around 0;
    matrices and kernels get a variance of 1.44 over their inputs, biases a standard deviation of 0.05.
    """
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if key.endswith("weight_g"):
        return 1 + 0.1 * np.abs(noise)
    if key.endswith("_codebook.embed"):
        return noise
    if key.endswith("scale.weight") or (key.endswith("weight") and len(shape) == 1):
        return 1 + 0.1 * noise
    if key.endswith("gamma"):
        return 0.1 * noise
    if len(shape) > 1:
        return noise / math.sqrt(math.prod(shape[1:])) * 1.2
    return 0.05 * noise


def state(name: str) -> dict[str, Tensor]:
    """The whole published state dict of the model `name`; what evaluation never reads is zeros or without memory."""
    tensors = {}
    for key, shape in keys(name).items():
        if ".encodec.decoder." in key or key == "head.istft.window":
            tensors[key] = torch.empty(shape, device="meta")
        elif key.endswith(("cluster_size", "embed_avg")):
            tensors[key] = torch.zeros(shape)
        elif key.endswith("inited"):
            tensors[key] = torch.ones(shape)
        else:
            tensors[key] = torch.from_numpy(np.asarray(fill(key, shape), dtype=np.float32))
    return tensors


def wave() -> np.ndarray:
    """One second at 24 kHz, float32 (24000,): 19 harmonics of a gliding pitch, swelling three times, and noise."""
    t = np.arange(24000) / 24000
    noise = np.random.RandomState(1234).standard_normal(t.size)
    pitch = 120 + 40 * np.sin(2 * np.pi * 1.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / 24000
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)
    harmonics = sum(np.sin(h * phase) / h for h in range(1, 20))
    return (0.1 * (harmonics * swell) + 0.02 * noise).astype(np.float32)
