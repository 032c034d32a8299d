"""The published grids as point sets: their quantization error, their symmetry, how many points they have.

All on q2d2.tilings, whose `rectangular`, `rhombic` and `hexagonal` are the published grids point by point.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evalkit.geometry.second_moment import second_moment
from q2d2.quantizer import Q2D2
from q2d2.tilings import Tiling, build_tiling
from studies.forensics.trap import Figure, Trap

# The published configurations of 1 and 3 kbit/s, and the frames per second of that of 1 kbit/s.
PUBLISHED_LEVELS = (9, 9, 7, 7, 7, 7)
FRAME_RATE = 24_000 / 450


def hexagon() -> Trap:
    """The grid called hexagon, against the square lattice and the hexagonal lattice A2."""
    square, published, regular = (second_moment(name) for name in ("rectangular", "hexagonal", "hexagonal-regular"))
    gain = {name: 10 * math.log10(square / moment) for name, moment in (("published", published), ("a2", regular))}
    return Trap(
        "grid.hexagon",
        "The grid `hexagon` has rows 1 apart; the distance sqrt(3)/2 of a hexagonal lattice is computed and not used.",
        "tiling `hexagonal` is the published grid by its name, `hexagonal-regular` is the lattice A2",
        {
            "square": Figure(square, "", "normalized second moment, square lattice"),
            "published": Figure(published, "", "the same, published grid"),
            "a2": Figure(regular, "", "the same, hexagonal lattice A2"),
            "gain_published": Figure(gain["published"], "dB", "what the published grid gains over the square"),
            "gain_a2": Figure(gain["a2"], "dB", "what A2 gains over the square"),
        },
        3,
        "infinite tilings; closed form over a cell",
    )


def off_centre() -> Trap:
    """Mean of the published hexagon, and how far its nearest point is from zero, for odd levels."""
    figures: dict[str, Figure] = {}
    for level in (7, 9):
        published, ours = (build_tiling(name, level, level) for name in ("hexagonal", "hexagonal-regular"))
        figures |= {
            f"mean_{level}": Figure(published.points[:, 0].mean().item(), "columns", f"mean of x, {level} levels"),
            f"nearest_{level}": Figure(_from_zero(published), "columns", f"nearest code to zero, {level} levels"),
            f"nearest_a2_{level}": Figure(_from_zero(ours), "columns", "the same, `hexagonal-regular`"),
        }
    return Trap(
        "grid.off_centre",
        "With odd levels the hexagon's mean is off zero, and no code is zero.",
        "`hexagonal-regular` equals its own negative and has the zero code where both levels are odd",
        figures,
        2,
        "grids (7 x 7, 9 x 9)",
    )


def second_level() -> Trap:
    """The hexagon that [7, 5] and [5, 7] build: square, by the first level alone."""
    figures: dict[str, Figure] = {}
    for lx, ly in ((7, 5), (5, 7)):
        built, asked = build_tiling("hexagonal", lx, lx), build_tiling("hexagonal", lx, ly)
        # Latents span the levels that were asked for.
        pairs = _midpoints(600, 600).sub(0.5) * torch.tensor([lx - 1.0, ly - 1.0], dtype=torch.float64)
        never = 1 - len(torch.unique(built.nearest(pairs)[1])) / built.num_points
        beyond = (pairs[:, 1].abs() > built.half_span[1] + 0.5).double().mean().item()
        figures |= {
            f"built_{lx}x{ly}": Figure(built.num_points, "points", f"built for levels [{lx}, {ly}]"),
            f"asked_{lx}x{ly}": Figure(asked.num_points, "points", "asked for"),
            f"unreachable_{lx}x{ly}": Figure(100 * never, "%", "of the codes built that no latent reaches"),
            f"beyond_{lx}x{ly}": Figure(100 * beyond, "%", "of uniform latents beyond the outermost row's cells"),
        }
    return Trap(
        "grid.second_level",
        "The hexagon ignores the second level of a pair.",
        "every tiling has lx columns and ly rows",
        figures,
        360_000,
        "latents, evenly spread over the range of the levels",
    )


def even_levels() -> Trap:
    """Where the outermost code of a grid with even levels lies, as a fraction of the range of the latents."""
    figures: dict[str, Figure] = {}
    for level in (4, 6, 8):
        tiling = build_tiling("rectangular", level, level)
        outermost = tiling.points.amax().item()
        ours = outermost / tiling.half_span[0]
        figures[f"reach_{level}"] = Figure(outermost / (level // 2), "", f"outermost code, {level} levels (range: 1)")
        figures[f"ours_{level}"] = Figure(ours, "", "the same here")
    return Trap(
        "grid.even_levels",
        "Codes are divided by l // 2, so those of even levels l stop at (l - 1) / l of the range.",
        "codes are divided by (l - 1) / 2, half of what the grid spans; odd levels are not affected",
        figures,
        3,
        "grids (4, 6, 8 levels)",
    )


def unequal_rates() -> Trap:
    """Bits per frame of the tilings at equal levels, and what is left of the rhombic gain at about equal bits."""
    bits = {name: Q2D2(8, name, PUBLISHED_LEVELS).bits_per_frame for name in ("rectangular", "rhombic", "hexagonal")}
    more = bits["rhombic"] - bits["rectangular"]
    rhombic, equal_levels, equal_bits = (
        build_tiling(name, level, level).double()
        for name, level in (("rhombic", 7), ("rectangular", 7), ("rectangular", 9))
    )
    gains = [10 * math.log10(_uniform_error(other) / _uniform_error(rhombic)) for other in (equal_levels, equal_bits)]
    return Trap(
        "grid.unequal_rates",
        "Tilings are compared at equal levels, where the rhombic one has nearly twice the points.",
        "bits are computed from the points in use; `quick` and `tiny` compare at matched rates",
        {
            "rhombic": Figure(bits["rhombic"], "bits/frame", "rhombic, levels 9, 9, 7, 7, 7, 7"),
            "rectangular": Figure(bits["rectangular"], "bits/frame", "rectangular, same levels"),
            "hexagonal": Figure(bits["hexagonal"], "bits/frame", "hexagonal, same levels"),
            "more": Figure(more, "bits/frame", "more for rhombic"),
            "more_percent": Figure(100 * more / bits["rectangular"], "%", "more for rhombic"),
            "kbps_rhombic": Figure(bits["rhombic"] * FRAME_RATE / 1000, "kbit/s", "rhombic at 53.3 frames/s"),
            "kbps_rectangular": Figure(bits["rectangular"] * FRAME_RATE / 1000, "kbit/s", "the others"),
            "gain_equal_levels": Figure(
                gains[0], "dB", f"less squared error, rhombic 7 x 7 ({rhombic.bits:.2f} bits) for rectangular 7 x 7"
            ),
            "gain_equal_bits": Figure(
                gains[1], "dB", f"the same for rectangular 9 x 9 ({equal_bits.bits:.2f} bits instead of 6.41)"
            ),
        },
        3,
        "tilings; errors over a million uniform latents",
    )


def _midpoints(columns: int, rows: int) -> Tensor:
    """(columns * rows, 2) float64: centres of equal cells of the unit square."""
    x, y = ((torch.arange(count, dtype=torch.float64) + 0.5) / count for count in (columns, rows))
    return torch.cartesian_prod(x, y)


def _from_zero(tiling: Tiling) -> float:
    """Distance from the origin to the nearest point, in columns."""
    return torch.linalg.vector_norm(tiling.points, dim=-1).min().item()


def _uniform_error(tiling: Tiling) -> float:
    """Mean squared error per dimension of values spread evenly over [-1, 1]^2, grid scaled to that square."""
    half = torch.tensor(tiling.half_span, dtype=torch.float64)
    pairs = (_midpoints(1000, 1000) * 2 - 1) * half
    return ((pairs - tiling.nearest(pairs)[0]) / half).square().mean().item()
