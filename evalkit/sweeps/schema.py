"""The schema of a sweep file: which points of an experiment's keys are tried, with which seeds, on what conditions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from evalkit.run.experiment import built_in_experiments
from evalkit.schema import FILE_NAME, MAX_NAME, Strict, YamlSources, validated
from evalkit.sweeps import SweepError
from evalkit.sweeps.families import families as known_families
from q2d2.errors import did_you_mean, printable, shown
from q2d2.limits import MAX_CHANNELS

# What a constraint may name, and what it is.
QUANTITIES = {"bits_per_frame": "nominal bits of a frame", "bitrate": "nominal bit/s"}
COMPARISONS = {"<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b, ">": lambda a, b: a > b}


SOURCES = YamlSources("sweep", files("evalkit") / "sweeps" / "builtin", SweepError)


MAX_BITS = 1024
# More trainings than anybody has; each is worked out before the first one begins.
MAX_TRIALS = 100_000
Channels = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
Seed = Annotated[int, Field(ge=0)]


class Draw(Strict):
    """How a random block draws one key: exactly one of the four, ends included.

    Attributes:
        uniform, log_uniform: two real numbers, low and high.
        integer: two integers, low and high.
        choice: any values, each as likely.
    """

    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None
    integer: tuple[int, int] | None = None
    choice: list[Any] | None = None

    def model_post_init(self, context: Any) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise ValueError("give one of uniform, log_uniform, integer, choice")
        ((kind, value),) = given.items()
        if kind == "choice":
            if not value:
                raise ValueError("choice needs at least one value")
            return
        low, high = value
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"{kind} {list(value)}: expected two numbers, the lower one first")
        if kind == "log_uniform" and low <= 0:
            raise ValueError(f"log_uniform {list(value)}: expected positive numbers")


class Matched(Strict):
    """For each family the configuration nearest to each rate.

    Attributes:
        families: names, see `evalkit sweep nearest`.
        bits_per_frame: target rates.
        channels: of the bottleneck, where the family has a choice; one number, several, or {family: number}.
        options: family -> further options of its bottleneck.
    """

    families: list[str] = Field(min_length=1)
    bits_per_frame: list[Annotated[float, Field(gt=0, le=MAX_BITS)]] = Field(min_length=1)
    channels: Channels | list[Channels] | dict[str, Channels] = 6
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("families")
    @classmethod
    def _known(cls, families: list[str]) -> list[str]:
        for name in families:
            if name not in (known := known_families()):
                raise ValueError(f"no family {shown(name)}.{did_you_mean(name, known)} Known: {', '.join(known)}")
        return families

    def channels_of(self, family: str) -> list[int]:
        """Numbers of channels to try for `family`."""
        if isinstance(self.channels, dict):
            return [self.channels.get(family, 6)]
        return self.channels if isinstance(self.channels, list) else [self.channels]


class Block(Strict):
    """Some points: exactly one of the first four, each over `set`.

    Attributes:
        grid: key -> values; every combination.
        listed: `list` in a file: the points themselves.
        random: key -> how it is drawn; `samples` points from `seed`.
        matched: families of bottlenecks at equal rates.
        set: keys that all points of the block share.
        seeds: of training; None for the sweep's.
    """

    grid: dict[str, list[Any]] | None = None
    listed: list[dict[str, Any]] | None = Field(default=None, alias="list")
    random: dict[str, Draw] | None = None
    matched: Matched | None = None
    samples: int | None = Field(default=None, ge=1, le=MAX_TRIALS)
    seed: Seed = 0
    set: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[Seed, ...] | None = None

    def model_post_init(self, context: Any) -> None:
        if sum(part is not None for part in (self.grid, self.listed, self.random, self.matched)) != 1:
            raise ValueError("give one of grid, list, random, matched")
        if (self.random is None) != (self.samples is None):
            raise ValueError("samples belongs to random: how many points are drawn")
        for name, part in (("grid", self.grid), ("list", self.listed), ("random", self.random)):
            if part is not None and not part:
                raise ValueError(f"{name} is empty")
        for key, values in (self.grid or {}).items():
            if not values:
                raise ValueError(f"grid.{printable(key)} has no values")

    @property
    def num_points(self) -> int:
        """How many it stands for, before constraints."""
        if self.matched is not None:
            per_rate = sum(len(self.matched.channels_of(family)) for family in self.matched.families)
            return per_rate * len(self.matched.bits_per_frame)
        grid = math.prod(len(values) for values in self.grid.values()) if self.grid is not None else 0
        return grid or len(self.listed or ()) or self.samples or 0


class Sweep(Strict):
    """What is tried.

    Attributes:
        name: also names the sweep's folder.
        title, notes: heading of its tables, and sentences under them.
        experiment: every trial starts from it: a built-in name or a YAML file. Its systems are not used.
        set: keys of the experiment, for all trials.
        points: blocks, one after another. A key is one of the experiment ("train.learning_rate") or of the trial's
            one system ("bottleneck", "bottleneck.levels", "codec.bitrate").
        constraints: a point is left out unless all hold: {bits_per_frame: "20 ± 0.5"} or "<= 20".
        seeds: of training, each for every point.
        claims: claims that its results are held against, one of `evalkit.papers`; None for none.
    """

    name: str = Field(pattern=FILE_NAME, max_length=MAX_NAME)
    title: str = ""
    notes: list[str] = Field(default_factory=list)
    experiment: str
    set: dict[str, Any] = Field(default_factory=dict)
    points: list[Block] = Field(min_length=1)
    constraints: dict[str, str] = Field(default_factory=dict)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    claims: str | None = None

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError(f"expected different integers from 0, got {shown(list(seeds))}")
        return seeds

    @field_validator("constraints", mode="before")
    @classmethod
    def _as_text(cls, constraints: Any) -> Any:
        return {k: str(v) for k, v in constraints.items()} if isinstance(constraints, dict) else constraints

    @field_validator("constraints")
    @classmethod
    def _readable(cls, constraints: dict[str, str]) -> dict[str, str]:
        for quantity, text in constraints.items():
            if quantity not in QUANTITIES:
                hint = did_you_mean(quantity, QUANTITIES)
                raise ValueError(f"{shown(quantity)} cannot be constrained.{hint} Known: {', '.join(QUANTITIES)}")
            Constraint.parse(quantity, text)
        return constraints

    @model_validator(mode="after")
    def _can_be_counted(self) -> Sweep:
        trials = sum(block.num_points * len(block.seeds or self.seeds) for block in self.points)
        if trials > MAX_TRIALS:
            raise ValueError(f"points: {trials:,} trials with all seeds, expected at most {MAX_TRIALS:,}")
        return self

    @property
    def limits(self) -> tuple[Constraint, ...]:
        """The constraints, read."""
        return tuple(Constraint.parse(quantity, text) for quantity, text in self.constraints.items())


@dataclass(frozen=True)
class Constraint:
    """A condition on one of QUANTITIES."""

    quantity: str
    relation: Literal["±", "<=", ">=", "<", ">"]
    value: float
    margin: float = 0.0

    @classmethod
    def parse(cls, quantity: str, text: str) -> Constraint:
        """Of "20 ± 0.5" (also "20 +- 0.5"), "<= 20", ">= 12".

        Raises:
            ValueError: it is none of these.
        """
        number = r"(\d+\.?\d*(?:e[+-]?\d+)?)"
        if match := re.fullmatch(rf"\s*{number}\s*(?:±|\+-|\+/-)\s*{number}\s*", text):
            return cls(quantity, "±", float(match[1]), float(match[2]))
        if match := re.fullmatch(rf"\s*(<=|>=|<|>)\s*{number}\s*", text):
            return cls(quantity, match[1], float(match[2]))  # type: ignore[arg-type]
        raise ValueError(
            f'{quantity}: {shown(text)} is no condition; expected one such as "20 ± 0.5", "<= 20", ">= 12"'
        )

    def holds(self, value: float) -> bool:
        """Whether `value` of its quantity fulfils it; with ±, the ends are inside."""
        if self.relation == "±":
            return abs(value - self.value) <= self.margin + 1e-9
        return bool(COMPARISONS[self.relation](value, self.value))


def built_in_sweeps() -> list[str]:
    """Names of the sweeps that ship with the package."""
    return SOURCES.names()


def is_sweep(source: str) -> bool:
    """Whether `source` is a sweep, built in or a YAML file with points, and not an experiment."""
    if source in built_in_sweeps():
        return True
    return Path(source).is_file() and "points" in SOURCES.read(source)


def load_sweep(source: str, seeds: tuple[int, ...] | None = None) -> Sweep:
    """Read a built-in sweep or a YAML file.

    Args:
        source: a built-in name, or the path of a YAML file.
        seeds: in place of the file's own.

    Raises:
        SweepError: not found, not YAML, an unknown key, or a value out of range.
    """
    values = SOURCES.read(source)
    experiment = values.get("experiment")
    if isinstance(experiment, str) and experiment not in built_in_experiments():
        beside = Path(source).parent / experiment  # a file beside the sweep's own
        if beside.is_file():
            values["experiment"] = str(beside)
    if seeds is not None:
        values["seeds"] = seeds
    return validated(Sweep, values, f"sweep {source}", SweepError)
