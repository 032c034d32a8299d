"""One small instance of every bottleneck, and latents to put through it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from q2d2.bottleneck import Bottleneck, build_bottleneck

DIM = 12
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "unquantized": ("unquantized", {}),
    "q2d2": ("q2d2", {"tiling": "rhombic", "levels": [7, 7, 7, 7]}),
    "lattice-a2": ("lattice", {"lattice": "a2", "levels": [7, 6, 5]}),
    "lattice-d4": ("lattice", {"lattice": "d4", "levels": [6, 5]}),
    "lattice-e8": ("lattice", {"lattice": "e8", "levels": [7]}),
    "fsq": ("fsq", {"levels": [8, 5, 5, 4]}),
    "vq": ("vq", {"codebook_size": 37}),
    "vq-projected": ("vq", {"codebook_size": 37, "codebook_dim": 5}),
    "rvq": ("rvq", {"codebook_size": 19, "num_quantizers": 3}),
    "rvq-mixed": ("rvq", {"codebook_size": [19, 11, 7], "num_quantizers": 3, "codebook_dim": 5}),
}
LEARNED = {name: case for name, case in CASES.items() if case[0] in ("vq", "rvq")}


def latents_of(seed: int, batch: int = 4, frames: int = 25) -> Tensor:
    return torch.randn(batch, DIM, frames, generator=torch.Generator().manual_seed(seed))


def build(case: str) -> Bottleneck:
    torch.manual_seed(0)
    name, options = CASES[case]
    return build_bottleneck(name, DIM, **options)


def trained(case: str) -> Bottleneck:
    bottleneck = build(case).train()
    for seed in range(3):
        bottleneck(latents_of(seed))
    return bottleneck.eval()
