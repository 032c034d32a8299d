"""Which codes a system uses: on the cells of its tilings, or as shares sorted by rank."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from q2d2.grids import GRIDS, Grid


@dataclass(frozen=True)
class QuantizerUsage:
    """How often each code of a quantizer occurred, (codebook size,), at least one of them; its points if it has any."""

    counts: NDArray[np.float64]
    grid: Grid | None = None

    @property
    def size(self) -> int:
        return len(self.counts)

    @property
    def used(self) -> int:
        return int((self.counts > 0).sum())

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of all frames, in the order of the codes."""
        return self.counts / self.counts.sum()

    @property
    def relative(self) -> NDArray[np.float64]:
        """Use relative to uniform use: 1 where a code is as frequent as if all were equally likely."""
        return self.shares * self.size

    @property
    def entropy(self) -> float:
        """Bits."""
        shares = self.shares[self.counts > 0]
        return max(0.0, float(-(shares * np.log2(shares)).sum()))

    @property
    def entropy_text(self) -> str:
        return f"entropy {self.entropy:.2f} of {math.log2(self.size):.2f} bits"


@dataclass(frozen=True)
class SystemUsage:
    """Of one system; `has_grids`: each quantizer has the points of a tiling."""

    system: str
    quantizers: tuple[QuantizerUsage, ...]

    @property
    def has_grids(self) -> bool:
        return all(each.grid is not None for each in self.quantizers)


def code_usage(codes: pd.DataFrame, systems: pd.DataFrame) -> list[SystemUsage]:
    """Of every system of `systems` whose codes were counted; rows of codes.parquet and systems.parquet.

    Quantizer q is pair q of a tiling, and code i its point i. Where the sizes differ, the tiling is left out.
    """
    specs = systems["bottleneck"] if "bottleneck" in systems else [None] * len(systems)
    found = []
    for name, spec in zip(systems["system"], specs, strict=True):
        rows = codes[codes["system"] == name].sort_values(["quantizer", "code"])
        counts = [group["count"].to_numpy(np.float64) for _, group in rows.groupby("quantizer")]
        if not counts or any(values.sum() == 0 for values in counts):
            continue
        grids: list[Grid] | list[None] = grids_of(spec)
        if [len(grid.points) for grid in grids if grid] != [len(values) for values in counts]:
            grids = [None] * len(counts)
        found.append(SystemUsage(str(name), tuple(map(QuantizerUsage, counts, grids))))
    return found


def grids_of(bottleneck: object) -> list[Grid]:
    """The points of the tilings, one a pair, of a `bottleneck` (its spec as JSON); empty for other families."""
    spec = json.loads(bottleneck) if isinstance(bottleneck, str) and bottleneck else {}
    if spec.get("name") != "q2d2":
        return []
    if spec.get("tiling") in GRIDS and spec.get("levels"):
        levels = spec["levels"]
        return [GRIDS[spec["tiling"]](lx, ly) for lx, ly in zip(levels[::2], levels[1::2], strict=True)]
    # Torch, which takes seconds: for options left out, and tilings of other packages.
    from q2d2.bottleneck import build_bottleneck
    from q2d2.tilings import Tiling

    options = {key: value for key, value in spec.items() if key != "name"}
    built = build_bottleneck("q2d2", 2, **options)  # the width of the latents does not matter to the points
    return [module.grid for module in built.modules() if isinstance(module, Tiling)]
