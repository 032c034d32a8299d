"""Nearest lattice point in closed form against torch.cdist and argmin on the same groups, one thread, float32."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks.timing import hardware, interleaved_medians, peak_bytes, print_figure
from q2d2.lattices import LATTICES, Lattice

# Levels of about 12 bits a group, and where a table is still possible at all the next larger one.
LEVELS = {"a2": (9, 61), "d4": (5, 9), "e8": (2, 3)}
# Distances of brute force held at a time: 64 MB in float32.
CHUNK = 2**24


def brute_force(groups: Tensor, points: Tensor) -> Tensor:
    """Index of the nearest of points (n, channels) to each of groups (m, channels): all distances, chunk by chunk."""
    chunks = groups.split(max(1, CHUNK // len(points)))
    return torch.cat([torch.cdist(chunk, points).argmin(dim=-1) for chunk in chunks])


def check_agreement(lattice: Lattice, groups: Tensor, points: Tensor) -> int:
    """Number of groups (m, channels) where both ways differ, after checking that ours is never the farther point.

    Raises:
        SystemExit: ours is farther by more than 1e-6, computed in float64.
    """
    codes, expected = lattice.nearest(groups)[1], brute_force(groups, points)
    ours, theirs = (
        torch.linalg.vector_norm(groups.double() - lattice.points(each, torch.float64), dim=-1)
        for each in (codes, expected)
    )
    if (ours - theirs).max() > 1e-6:
        raise SystemExit(f"{lattice.name}, {lattice.levels} levels: nearest() is off by {(ours - theirs).max():.3g}")
    return int((codes != expected).sum())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lattices", description=__doc__)
    parser.add_argument("--groups", type=int, default=50_000, help="groups of channels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds counted, after one to warm up (default: 5)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    print(hardware())
    print(f"{options.groups:,} groups, float32; CPU ms, medians of {options.rounds} rounds (nearest: 3 calls in each)")
    print("brute: cdist + argmin over a table of all points, in chunks of 64 MB; memory: peak MB of one call")
    print("differ: groups where brute force picks another point; checked in float64, it is never nearer than ours")
    print(f"{'lattice':<8}{'levels':>7}{'points':>9}{'brute':>10}{'nearest':>9}{'speedup':>9}{'ns/group':>10}", end="")
    print(f"{'brute MB':>10}{'ours MB':>9}{'ratio':>7}{'differ':>8}")
    figures: dict[str, float] = {}
    for name in LATTICES:
        for levels in LEVELS[name]:
            lattice = Lattice(name, levels)
            points = lattice.points(torch.arange(lattice.num_points))
            # What the bottleneck hands over: tanh of its projection, scaled to just beyond the box.
            groups = torch.tanh(torch.randn(options.groups, lattice.channels)) * (levels - 1) / 2 * 1.001
            differing = check_agreement(lattice, groups, points)
            seconds = interleaved_medians(
                {
                    "brute": lambda groups=groups, points=points: brute_force(groups, points),
                    "nearest": lambda groups=groups, lattice=lattice: lattice.nearest(groups),
                },
                rounds=options.rounds,
                repeats={"nearest": 3},
            )
            brute_bytes = peak_bytes(lambda groups=groups, points=points: brute_force(groups, points))
            our_bytes = peak_bytes(lambda groups=groups, lattice=lattice: lattice.nearest(groups))
            speedup, ratio = seconds["brute"] / seconds["nearest"], our_bytes / brute_bytes
            figures[f"lattices.speedup.{name}.{levels}"] = speedup
            figures[f"lattices.memory_ratio.{name}.{levels}"] = ratio
            print(
                f"{name:<8}{levels:>7}{lattice.num_points:>9,}{1e3 * seconds['brute']:>10.2f}"
                f"{1e3 * seconds['nearest']:>9.2f}{speedup:>9.1f}{1e9 * seconds['nearest'] / options.groups:>10.0f}"
                f"{brute_bytes / 1e6:>10.1f}{our_bytes / 1e6:>9.1f}{ratio:>7.3f}{differing:>8}",
                flush=True,
            )
    for figure, value in figures.items():
        print_figure(figure, value)


if __name__ == "__main__":
    assert set(LEVELS) == set(LATTICES), "a lattice is not measured"
    main()
