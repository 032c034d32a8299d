"""How the published inference script counts the use of codes."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from evalkit.stats.code_usage import CodeUsage, entropy_bits
from q2d2.quantizer import Q2D2
from q2d2.tilings import build_tiling
from studies.forensics.geometry import PUBLISHED_LEVELS
from studies.forensics.quantizer import SEED, decoded_index, random_codes
from studies.forensics.trap import Figure, Trap

FRAMES = 100_000


def published_rhombic_size(level: int) -> int:
    """Number of rhombic points that the script's table gives for `level`: that of the level below."""
    return (level - 1) ** 2 + (level - 2) ** 2


def set_entropy(codes: NDArray[np.int64]) -> float:
    """Entropy in bits over the set of `codes` (frames,): each code that occurred counts once."""
    return entropy_bits(np.bincount(np.unique(codes)))


def entropy_over_set() -> Trap:
    """Normalized entropy of skewed codes: over the set of codes in use, and from counts."""
    size = build_tiling("rhombic", 7, 7).num_points
    rng = np.random.default_rng(SEED)
    figures = {}
    for name, power in (("even", 0.0), ("zipf", 1.0), ("steep", 2.0)):
        weights = np.arange(1, size + 1, dtype=np.float64) ** -power
        codes = rng.choice(size, FRAMES, p=weights / weights.sum())
        usage = CodeUsage((size,))
        usage.add(codes[None])
        assert usage.normalized_entropy is not None
        published, true = set_entropy(codes) / math.log2(size), float(usage.normalized_entropy[0])
        how = f"probability of the k-th code ~ 1 / k^{power:g}" if power else "all codes alike"
        figures[f"published_{name}"] = Figure(100 * published, "%", f"entropy / log2({size}), published; {how}")
        figures[f"true_{name}"] = Figure(100 * true, "%", "the same from counts")
    return Trap(
        "usage.entropy",
        "'Entropy utilization' is taken over the set of codes that occurred: uniform, whatever the usage.",
        "entropy from counts (`evalkit.stats.code_usage.CodeUsage`)",
        figures,
        FRAMES,
        "random codes of 85",
    )


def grid_table() -> Trap:
    """Pair codes taken from frame indices by the script's table of rhombic grid sizes, which is that of level - 1."""
    figures = {}
    for level in (7, 9):
        figures[f"table_{level}"] = Figure(published_rhombic_size(level), "points", f"in the table for level {level}")
        figures[f"grid_{level}"] = Figure(build_tiling("rhombic", level, level).num_points, "points", "of the grid")
    quantizer = Q2D2(8, "rhombic", PUBLISHED_LEVELS)
    sizes = quantizer.codebook_sizes
    table = tuple(published_rhombic_size(level) for level in PUBLISHED_LEVELS[::2])
    codes = random_codes(sizes, FRAMES)
    figures["wrong"] = Figure(
        100 * _misread(quantizer, codes, table)[0], "%", "of pair codes read wrongly, levels 9, 9, 7, 7, 7, 7"
    )
    for share in (1.0, 0.5, 0.25):
        # A codec that uses only the first codes of each pair.
        part = random_codes(tuple(round(share * size) for size in sizes), FRAMES)
        usage = CodeUsage(sizes)
        usage.add(part.numpy())
        assert usage.utilization is not None
        key = f"{round(100 * share)}"
        figures[f"published_{key}"] = Figure(
            100 * _misread(quantizer, part, table)[1], "%", f"utilization, published, with {key} % of the codes in use"
        )
        figures[f"true_{key}"] = Figure(100 * float(usage.utilization.mean()), "%", "the same, counted from the codes")
    return Trap(
        "usage.grid_table",
        "Pair codes are taken from frame indices with a table of rhombic sizes that is one level off.",
        "codes are counted as the quantizer gives them, sizes come from the tiling, a code outside is an error",
        figures,
        FRAMES,
        "random frames of 3 pairs",
    )


def _misread(quantizer: Q2D2, codes: torch.Tensor, table: tuple[int, ...]) -> tuple[float, float]:
    """Share of `codes` (pairs, frames) that the sizes `table` read wrongly, and the utilization they give."""
    read = decoded_index(quantizer.frame_index(codes[None])[0], table)
    used = [len(torch.unique(row)) / size for row, size in zip(read, table, strict=True)]
    return (read != codes).double().mean().item(), sum(used) / len(used)
