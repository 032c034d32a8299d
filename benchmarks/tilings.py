"""Nearest tiling point in closed form against torch.cdist and argmin on the same pairs, one thread, float32."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks.timing import hardware, interleaved_medians, peak_bytes, print_figure
from q2d2.tilings import TILINGS, Tiling, build_tiling

SPEEDUP_TARGETS = {"rectangular": 80, "rhombic": 80, "hexagonal": 40, "hexagonal-regular": 40}
MEMORY_TARGET = 1 / 5


def brute_force(pairs: Tensor, points: Tensor) -> Tensor:
    """Index of the nearest of points (n, 2) to each of pairs (..., 2): all distances, then the smallest."""
    return torch.cdist(pairs, points).argmin(dim=-1)


def check_agreement(tiling: Tiling, pairs: Tensor) -> int:
    """Number of pairs (..., 2) where both ways differ, after checking that ours is never the farther point.

    Raises:
        SystemExit: ours is farther by more than 1e-6, computed in float64.
    """
    indices = tiling.nearest(pairs)[1].flatten()
    flat = pairs.reshape(-1, 2).double()
    expected = brute_force(pairs, tiling.points).flatten()
    points = tiling.points.double()
    ours, theirs = (torch.linalg.vector_norm(flat - points[codes], dim=-1) for codes in (indices, expected))
    if (ours - theirs).max() > 1e-6:
        raise SystemExit(f"{tiling.name} {tiling.levels}: nearest() is off by {(ours - theirs).max():.3g}")
    return int((indices != expected).sum())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tilings", description=__doc__)
    parser.add_argument("--frames", type=int, default=200_000, help="frames of 3 pairs each (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds counted, after one to warm up (default: 5)")
    parser.add_argument("--levels", type=int, nargs="+", default=[7, 9], help="levels of both axes (default: 7 9)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    print(hardware())
    print(
        f"{options.frames:,} x 3 pairs, float32; CPU ms, medians of {options.rounds} rounds (nearest: 5 calls in each)"
    )
    print("brute: cdist + argmin on (frames, 3, 2); flat: the same on (3 * frames, 2); memory: peak MB of one call")
    print("differ: pairs where brute force picks another point; checked in float64, it is never nearer than ours")
    print("targets: for 200,000 frames of pairs; smaller inputs leave the cost of the calls themselves")
    header = f"{'tiling':<18}{'levels':>6}{'brute':>9}{'flat':>9}{'nearest':>9}{'speedup':>9}{'vs flat':>9}"
    print(f"{header}{'brute MB':>10}{'ours MB':>9}{'ratio':>7}{'differ':>8}  target")
    figures: dict[str, float] = {}
    for levels in options.levels:
        for name, target in SPEEDUP_TARGETS.items():
            tiling = build_tiling(name, levels, levels)
            # What Q2D2 hands over: tanh of its projection, scaled to just beyond the square.
            pairs = torch.tanh(torch.randn(options.frames, 3, 2)) * (levels - 1) / 2 * 1.001
            flat = pairs.view(-1, 2)
            differing = check_agreement(tiling, pairs)
            seconds = interleaved_medians(
                {
                    "brute": lambda pairs=pairs, tiling=tiling: brute_force(pairs, tiling.points),
                    "flat": lambda flat=flat, tiling=tiling: brute_force(flat, tiling.points),
                    "nearest": lambda pairs=pairs, tiling=tiling: tiling.nearest(pairs),
                },
                rounds=options.rounds,
                repeats={"nearest": 5},
            )
            # The thriftier of the two brute forces.
            brute_bytes = min(peak_bytes(lambda p=p, g=tiling.points: brute_force(p, g)) for p in (pairs, flat))
            our_bytes = peak_bytes(lambda pairs=pairs, tiling=tiling: tiling.nearest(pairs))
            speedup, flat_speedup = (seconds[which] / seconds["nearest"] for which in ("brute", "flat"))
            ratio = our_bytes / brute_bytes
            figures[f"tilings.speedup.{name}.{levels}"] = speedup
            figures[f"tilings.speedup_flat.{name}.{levels}"] = flat_speedup
            figures[f"tilings.memory_ratio.{name}.{levels}"] = ratio
            met = "met" if speedup >= target and ratio < MEMORY_TARGET else "MISSED"
            times = "".join(f"{1e3 * seconds[which]:>9.2f}" for which in ("brute", "flat", "nearest"))
            print(
                f"{name:<18}{levels:>6}{times}{speedup:>9.1f}{flat_speedup:>9.1f}{brute_bytes / 1e6:>10.1f}"
                f"{our_bytes / 1e6:>9.1f}{ratio:>7.3f}{differing:>8}  >= {target}, < {MEMORY_TARGET}: {met}",
                flush=True,
            )
    for figure, value in figures.items():
        print_figure(figure, value)


if __name__ == "__main__":
    assert set(SPEEDUP_TARGETS) == set(TILINGS), "a tiling is not measured"
    main()
