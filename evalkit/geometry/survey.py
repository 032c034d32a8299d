"""Every tiling at every level for every source: rows, codes, and gaps at equal rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalkit.geometry.partition import Partition, partition
from evalkit.geometry.second_moment import second_moment
from evalkit.geometry.sources import Coding, Source
from q2d2.errors import UserError, did_you_mean
from q2d2.tilings import TILINGS, build_tiling

LEAST_LEVEL, MOST_LEVEL = 2, 64
CURVE_LEVELS = 24  # that a curve is made of, at most, beside those asked for
REFERENCE = "rectangular"
RATES = ("bits", "entropy")


class GeometryError(UserError, ValueError):
    """A level, tiling or source that cannot be measured."""


@dataclass(frozen=True)
class Survey:
    """What was measured.

    Attributes:
        rows: one a source, tiling and level: source, tiling, level, listed (asked for, or only on the curve), points,
            bits (log2 of the points), second_moment (of the infinite tiling), mse (a channel, in the square [-1, 1]^2),
            snr_db (the source's variance over it), entropy (bits a pair), border_share (of the codes whose cells lie
            at the border), normalized_at_bits and normalized_at_entropy (see `normalized`; empty for recorded latents).
        codes: one a code of the listed: source, tiling, level, code, x, y (in the square), border, probability.
        gaps: one a source, tiling and listed level of the rectangular grid: source, tiling, rate ("bits" or "entropy"),
            level, value (of that rate), gain_db (of mse against the rectangular grid there; empty where the tiling has
            no such rate among its levels).
        sources: in order.
    """

    rows: pd.DataFrame
    codes: pd.DataFrame
    gaps: pd.DataFrame
    sources: tuple[Source, ...]

    @property
    def tilings(self) -> list[str]:
        return list(dict.fromkeys(self.rows["tiling"]))

    @property
    def levels(self) -> list[int]:
        """Those asked for."""
        return sorted(set(self.rows.loc[self.rows["listed"], "level"]))


def survey(tilings: Sequence[str], levels: Sequence[int], sources: Sequence[Source]) -> Survey:
    """Measure `tilings` at `levels` x `levels`, and at the levels between, for all `sources`.

    The rectangular grid is measured in any case, as the one others are compared with; it is listed if asked for.

    Raises:
        GeometryError: an unknown tiling, a level outside 2..64, none at all, or recorded pairs that have been snapped.
    """
    _check(tilings, levels)
    rows: list[dict[str, object]] = []
    codes: list[pd.DataFrame] = []
    asked = set(levels)
    steps = np.geomspace(LEAST_LEVEL, max(levels) + 1, CURVE_LEVELS).round().astype(int).tolist()
    for name in dict.fromkeys([*tilings, REFERENCE]):
        moment = second_moment(name)
        for level in sorted(asked.union(steps)):
            cells = partition(build_tiling(name, level, level))
            for source in sources:
                coding = source.code(cells)
                if not coding.mse:
                    raise GeometryError(
                        f"{source.name}: every pair is a point of {name} {level} x {level}: record latents before they "
                        "are snapped"
                    )
                listed = level in asked and name in tilings
                rows.append(_row(name, level, listed, moment, cells, coding, source))
                if listed:
                    codes.append(_codes(name, level, cells, coding, source))
    table = pd.DataFrame(rows)
    gaps = _gaps(table, sorted(asked))
    return Survey(table[table["tiling"].isin(tilings)].reset_index(drop=True), pd.concat(codes), gaps, tuple(sources))


def normalized(mse: float, rate: float, source: Source) -> float:
    """mse 2^(rate - h), with rate and differential entropy h in bits a pair: what is left of an error without its rate.

    With the entropy as the rate no quantizer of any kind is below 1 / (2 pi e) (Shannon's lower bound), and a fine
    tiling comes to its own second moment (Gish and Pierce 1968), 1/12 or 0.0802. NaN where h is not known.
    """
    h = source.differential_entropy
    return math.nan if h is None else mse * 2 ** (rate - h)


def _check(tilings: Sequence[str], levels: Sequence[int]) -> None:
    if not tilings or not levels:
        raise GeometryError("nothing to measure: name a tiling and a level")
    for name in tilings:
        if name not in TILINGS:
            raise GeometryError(f"unknown tiling {name!r}.{did_you_mean(name, TILINGS)} Known: {', '.join(TILINGS)}.")
    for level in levels:
        if not LEAST_LEVEL <= level <= MOST_LEVEL:
            raise GeometryError(f"level {level}: expected {LEAST_LEVEL} to {MOST_LEVEL}")


def _row(
    name: str, level: int, listed: bool, moment: float, cells: Partition, coding: Coding, source: Source
) -> dict[str, object]:
    bits = cells.tiling.bits
    return {
        "source": source.name,
        "tiling": name,
        "level": level,
        "listed": listed,
        "points": cells.tiling.num_points,
        "bits": bits,
        "second_moment": moment,
        "mse": coding.mse,
        "snr_db": 10 * math.log10(source.variance / coding.mse),
        "entropy": coding.entropy,
        "border_share": float(coding.probability[cells.border].sum()),
        "normalized_at_bits": normalized(coding.mse, bits, source),
        "normalized_at_entropy": normalized(coding.mse, coding.entropy, source),
    }


def _codes(name: str, level: int, cells: Partition, coding: Coding, source: Source) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": source.name,
            "tiling": name,
            "level": level,
            "code": np.arange(len(cells.points)),
            "x": cells.points[:, 0],
            "y": cells.points[:, 1],
            "border": cells.border,
            "probability": coding.probability,
        }
    )


def _gaps(rows: pd.DataFrame, levels: list[int]) -> pd.DataFrame:
    """What other tilings gain over the rectangular grid at its rates."""
    found = []
    for (source, name), own in rows.groupby(["source", "tiling"], sort=False):
        if name == REFERENCE:
            continue
        grid = rows[(rows["source"] == source) & (rows["tiling"] == REFERENCE)].set_index("level")
        for rate in RATES:
            for level in levels:
                value, mse = float(grid[rate][level]), float(grid["mse"][level])
                gain = 10 * math.log10(mse / error_at(own, rate, value))
                found.append(
                    {"source": source, "tiling": name, "rate": rate, "level": level, "value": value, "gain_db": gain}
                )
    return pd.DataFrame(found, columns=["source", "tiling", "rate", "level", "value", "gain_db"])


def error_at(rows: pd.DataFrame, rate: str, value: float) -> float:
    """Mean squared error of one tiling for one source at `value` bits of a rate ("bits" or "entropy").

    Between two levels the logarithm of the error is taken as linear in the rate, as time sharing over many pairs
    nearly is. NaN outside the levels measured.
    """
    ordered = rows.sort_values(rate)
    log_error = np.interp(value, ordered[rate], np.log(ordered["mse"]), left=math.nan, right=math.nan)
    return float(np.exp(log_error))
