"""Normalized second moments: of tilings and lattices without a border, and what bounds them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from evalkit.figures.cells import bounding_box, clipped_cells
from evalkit.geometry.partition import moments
from q2d2.lattices import LATTICES, Lattice
from q2d2.tilings import build_tiling

# No point set of the plane is below A2 (Fejes Toth 1959); no quantizer of any dimension below a sphere's limit
# (Zador 1982). See Conway and Sloane, "Sphere Packings, Lattices and Groups", chapter 2.
OPTIMUM_2D = 5 / (36 * math.sqrt(3))
SPHERE_BOUND = 1 / (2 * math.pi * math.e)
LEVELS = 21  # columns and rows of the grid from which interior cells are taken
DRAWS = 2**17
# Of a lattice's cell as q2d2.lattices scales it (Conway and Sloane, chapter 4). All have 2 as a period of every channel
# but the second of a2, where it is sqrt(3).
VOLUMES = {"a2": math.sqrt(3) / 2, "d4": 2.0, "e8": 1.0}


class Moment(NamedTuple):
    """A normalized second moment and its standard error; 0 where it is exact."""

    value: float
    standard_error: float


def second_moment(name: str) -> float:
    """Normalized second moment of the infinite tiling called `name`, from closed forms over its interior cells.

    Mean squared error per dimension at one point per unit of area: 1/12 for the square lattice and 5 / (36 sqrt 3) =
    0.0802 for A2. Cells of the inner half of a wide grid are taken. In a lattice they are all alike; a tiling with
    cells of several shapes gets their average there.

    Raises:
        UnknownName: no such tiling.
    """
    tiling = build_tiling(name, LEVELS, LEVELS).double()
    points = tiling.points.cpu().numpy()
    cells = clipped_cells(points, bounding_box(points))
    inner = (np.abs(points) <= np.asarray(tiling.half_span) / 2).all(axis=1)
    areas, integrals = moments(points[inner], [cell for cell, on in zip(cells, inner, strict=True) if on])
    return float(integrals.mean() / 2 / areas.mean() ** 2)


def lattice_moment(name: str, seed: int = 0) -> Moment:
    """Normalized second moment of a lattice of `q2d2.lattices`, by Monte Carlo over one of its periods, seeded.

    Raises:
        UnknownName: no such lattice.
    """
    lattice = Lattice(name, LEVELS)
    period = torch.full((lattice.channels,), 2.0, dtype=torch.float64)
    if name == "a2":
        period[1] = math.sqrt(3)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(DRAWS, lattice.channels, dtype=torch.float64, generator=generator) * period
    errors = (drawn - lattice.nearest(drawn)[0]).square().mean(dim=1) / VOLUMES[name] ** (2 / lattice.channels)
    return Moment(errors.mean().item(), errors.std().item() / math.sqrt(DRAWS))


def second_moments(tilings: list[str]) -> pd.DataFrame:
    """One row each of `tilings` and of all lattices, and the sphere bound last.

    Columns: name, channels, second_moment, standard_error (0: exact), gain_db over the square lattice.
    """
    rows = [(name, 2.0, *Moment(second_moment(name), 0.0)) for name in tilings]
    rows += [(f"lattice {name}", Lattice(name, LEVELS).channels, *lattice_moment(name)) for name in LATTICES]
    rows.append(("sphere bound", math.inf, SPHERE_BOUND, 0.0))
    table = pd.DataFrame(rows, columns=["name", "channels", "second_moment", "standard_error"])
    return table.assign(gain_db=0.0 - (10 * np.log10(12 * table["second_moment"])).round(12))
