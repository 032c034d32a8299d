"""What a measurement of a trap returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        value: the number.
        unit: its unit; empty for a pure number.
        what: what was measured, in a few words.
        timed: whether it is a time or a ratio of times, which changes from run to run and machine to machine.
    """

    value: float
    unit: str
    what: str
    timed: bool = False


@dataclass(frozen=True)
class Trap:
    """A trap and its size.

    Attributes:
        name: "section.trap"; figures are called NAME.KEY.
        statement: what the published code does.
        instead: what this repository does.
        figures: key -> figure; empty where it could not be measured.
        n: number of things measured.
        of: what these are ("random frames").
        missing: why figures are missing, or over fewer than expected; empty otherwise.
    """

    name: str
    statement: str
    instead: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    n: int = 0
    of: str = ""
    missing: str = ""

    @property
    def named(self) -> dict[str, Figure]:
        """Full name -> figure."""
        return {f"{self.name}.{key}": figure for key, figure in self.figures.items()}

    def to_json(self) -> dict[str, Any]:
        """All of it in plain values; a number that is none (NaN) is None."""
        figures = {
            name: {
                "value": figure.value if math.isfinite(figure.value) else None,
                "unit": figure.unit,
                "what": figure.what,
                "timed": figure.timed,
            }
            for name, figure in self.named.items()
        }
        return {
            "name": self.name,
            "statement": self.statement,
            "instead": self.instead,
            "figures": figures,
            "n": self.n,
            "of": self.of,
            "missing": self.missing,
        }
