"""What the published quantizer does to gradients, indices and time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from q2d2.quantizer import Q2D2, Gradient
from q2d2.tilings import Tiling, build_tiling
from studies.forensics.geometry import PUBLISHED_LEVELS
from studies.forensics.trap import Figure, Trap

SEED = 0
INT32 = 2**32
NUM_PAIRS = 30_000
SHORT_CALLS = 9  # calls of a millisecond in each round


def gradient_factors(levels: tuple[int, ...], gradient: Gradient, frames: int = 1000) -> Tensor:
    """Derivative of each channel's code with respect to tanh of its latent, (levels,), by autograd on random latents.

    The projections are the identity, so that latents are what tanh sees and outputs are the codes.

    Raises:
        ArithmeticError: the derivative differs between frames.
    """
    num_channels = len(levels)
    quantizer = Q2D2(num_channels, "rectangular", levels, gradient=gradient)
    with torch.no_grad():
        for layer in (quantizer.project_in, quantizer.project_out):
            layer.weight.copy_(torch.eye(num_channels))
            layer.bias.zero_()
    latents = torch.randn(1, num_channels, frames, generator=torch.Generator().manual_seed(SEED)).requires_grad_()
    quantizer(latents).quantized.sum().backward()
    assert latents.grad is not None
    factors = (latents.grad / (1 - torch.tanh(latents.detach()) ** 2))[0].double()
    if (factors.amax(1) - factors.amin(1)).max() > 1e-3:
        raise ArithmeticError(f"the gradient of {gradient!r} is no constant factor")
    return factors.median(dim=1).values


def gradient() -> Trap:
    """Factor that the straight-through estimate puts before the gradient of each channel."""
    frames = 1000
    published, unit = (gradient_factors(PUBLISHED_LEVELS, which, frames) for which in ("published", "unit"))
    return Trap(
        "quantizer.gradient",
        "The straight-through estimate is taken on the value before scaling and then divided by l // 2.",
        "it is taken on the scaled value (`gradient: unit`); `gradient: published` trains as the paper did",
        {
            "published_9": Figure(published[0].item(), "", "factor of the gradient, 9-level channels"),
            "published_7": Figure(published[2].item(), "", "factor of the gradient, 7-level channels"),
            "ratio": Figure((published[0] / published[2]).item(), "", "9-level for 7-level channels, published"),
            "unit_9": Figure(unit[0].item(), "", "9-level channels, here"),
            "unit_7": Figure(unit[2].item(), "", "7-level channels, here"),
        },
        frames * len(PUBLISHED_LEVELS),
        "random latents, autograd",
    )


def decoded_index(index: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Codes (len(sizes), frames) of the frame indices (frames,) for codebooks of `sizes`, as the published code has it.

    Floor division by the product of the sizes before, modulo the own size; negative indices included.
    """
    steps = [math.prod(sizes[:j]) for j in range(len(sizes))]
    codes = [torch.div(index, step, rounding_mode="floor") % size for step, size in zip(steps, sizes, strict=True)]
    return torch.stack(codes)


def overflow() -> Trap:
    """Frame indices of six rhombic pairs of 7 levels in 32 bits."""
    frames = 100_000
    quantizer = Q2D2(12, "rhombic", (7,) * 12)
    codes = random_codes(quantizer.codebook_sizes, frames)
    wrapped = quantizer.frame_index(codes[None])[0].to(torch.int32).long()
    wrong = (decoded_index(wrapped, quantizer.codebook_sizes) != codes).any(0).double().mean().item()
    total, size = math.prod(quantizer.codebook_sizes), quantizer.codebook_sizes[0]
    return Trap(
        "quantizer.overflow",
        "The index of a frame is cast to 32 bits, too few for five pairs of 7 levels; no error is raised.",
        "codes stay one a pair; `Q2D2.frame_index` has 64 bits or refuses; the published settings fit in 32",
        {
            "pairs": Figure(next(n for n in range(1, 9) if size**n > INT32 // 2), "pairs", "fewest that overflow"),
            "codes_per_index": Figure(total / INT32, "", "frames (of six pairs) for each 32-bit index"),
            "own_index": Figure(100 * min(1.0, INT32 / total), "%", "of frames can have an own index, at most"),
            "wrong": Figure(100 * wrong, "%", "of random frames that decode to other codes"),
            "fit_3": Figure(100 * size**3 / (INT32 // 2), "%", "of the range that three pairs of 7 levels use"),
        },
        frames,
        "random frames of 6 pairs",
    )


def all_distances() -> Trap:
    """Time and memory of the nearest point by all distances, and in closed form, on one thread."""
    pairs = torch.tanh(torch.randn(NUM_PAIRS, 2, generator=torch.Generator().manual_seed(SEED))) * 3
    figures = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in ("rectangular", "rhombic", "hexagonal"):
            times = _times(pairs, build_tiling(name, 7, 7))
            for key, what in (("published", "published shape"), ("flat", "one flat matrix")):
                ratio = times[key] / times["closed"]
                figures[f"{key}_{name}"] = Figure(ratio, "", f"times as long, {name} 7 x 7, {what}", timed=True)
    finally:
        torch.set_num_threads(threads)
    held = _all_distances(pairs, build_tiling("rhombic", 7, 7).points).nbytes
    figures["bytes"] = Figure(held / NUM_PAIRS, "bytes/pair", "the distances alone, rhombic 7 x 7")
    figures["bytes_result"] = Figure(pairs.element_size() * 2 + 8, "bytes/pair", "what is asked for: a point, its code")
    return Trap(
        "quantizer.all_distances",
        "All distances from every pair to every point are computed.",
        "the nearest point in closed form, equal codes; peaks of memory: `python -m benchmarks.tilings`",
        figures,
        NUM_PAIRS,
        "random pairs, CPU time, medians of 5 rounds in turns, one thread",
    )


def random_codes(sizes: tuple[int, ...], frames: int) -> Tensor:
    """Uniform random codes (len(sizes), frames) int64, the same in every call."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.stack([torch.randint(size, (frames,), generator=generator) for size in sizes])


def _all_distances(pairs: Tensor, points: Tensor) -> Tensor:
    """Distances (pairs, 1, points), in the shape that the published code has them."""
    return torch.cdist(pairs[:, None], points[None])


def _times(pairs: Tensor, tiling: Tiling, rounds: int = 5) -> dict[str, float]:
    """Median CPU seconds of this thread for the nearest points of `pairs`, in turns, after one round to warm up."""
    calls: dict[str, Callable[[], object]] = {
        "published": lambda: _all_distances(pairs, tiling.points).argmin(dim=-1),
        "flat": lambda: torch.cdist(pairs, tiling.points).argmin(dim=-1),
        "closed": lambda: tiling.nearest(pairs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            for _ in range(1 if name == "published" else SHORT_CALLS):
                start = time.thread_time()
                call()
                stop = time.thread_time()
                if turn:
                    seconds[name].append(stop - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
