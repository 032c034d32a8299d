"""Claims of a paper as data: what it says, and which comparisons of a sweep's configurations test it."""

from __future__ import annotations

from collections.abc import Collection
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from evalkit.schema import Strict, YamlSources, validated
from q2d2.errors import UserError, did_you_mean, shown

# What a trial is measured by, beside metrics: column of trials.parquet -> its name in text.
QUANTITIES = {"utilization": "utilization", "normalized_entropy": "normalized entropy"}


class ClaimsError(UserError, ValueError):
    """A file of claims that is missing or not valid; the message names the file, the key, the way out."""


SOURCES = YamlSources("claims", files("evalkit") / "papers", ClaimsError, "-claims.yaml")


class Levels(Strict):
    """All levels of a configuration lie within these, ends included.

    Attributes:
        at_least, at_most: one of them may be missing.
    """

    at_least: int | None = Field(default=None, ge=1)
    at_most: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _some(self) -> Levels:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is above at_most {self.at_most}: no level is within")
        return self


class Selector(Strict):
    """Which configurations: those for which all that is given holds.

    Attributes:
        family: a tiling, a lattice or the name of a bottleneck (`evalkit.sweeps.families.family_of`).
        bottleneck: name of the bottleneck, such as q2d2 for all of its tilings.
        channels: number of channels (the paper's d).
        levels: range of all its levels; a configuration without levels, as RVQ, is not selected.
    """

    family: str | None = None
    bottleneck: str | None = None
    channels: int | None = Field(default=None, ge=1)
    levels: Levels | None = None

    @field_validator("family", "bottleneck")
    @classmethod
    def _known(cls, name: str | None, info: Any) -> str | None:
        from evalkit.sweeps.families import family_names
        from q2d2.bottleneck import BOTTLENECKS

        known = family_names() if info.field_name == "family" else BOTTLENECKS.names()
        if name is not None and name not in known:
            raise ValueError(
                f"no {info.field_name} {shown(name)}.{did_you_mean(name, known)} Known: {', '.join(known)}"
            )
        return name

    @model_validator(mode="after")
    def _some(self) -> Selector:
        if not self.model_fields_set:
            raise ValueError(f"it selects everything: give some of {', '.join(type(self).model_fields)}")
        return self

    def selects(
        self, family: str, bottleneck: str | None, channels: int | None, levels: Collection[int] | None
    ) -> bool:
        """Whether a configuration with these is one of them; `bottleneck` is its name, None where it is not known."""
        if self.family not in (None, family) or self.channels not in (None, channels):
            return False
        if self.bottleneck not in (None, bottleneck):
            return False
        if self.levels is None:
            return True
        low, high = self.levels.at_least, self.levels.at_most
        return bool(levels) and all((low or 1) <= level <= (high or level) for level in levels or ())

    def __str__(self) -> str:
        parts = [part for part in (self.family, self.bottleneck) if part]
        parts += [f"d={self.channels}"] if self.channels is not None else []
        if self.levels is not None:
            low, high = self.levels.at_least, self.levels.at_most
            span = f"{low} to {high}" if low and high else f"from {low}" if low else f"up to {high}"
            parts.append(f"with levels {span}")
        return " ".join(parts)


class Better(Strict):
    """Quality of some configurations is better than that of others at equal rate.

    Attributes:
        better, worse: the two sides; where a side is several series (families, numbers of channels), each of them is
            compared with each of the other side.
        bits_per_frame: nominal rates at which they are compared.
        tolerance: bits per frame: how far from these a side may be, and the most by which the rates of two sides that
            cannot be read off at one rate may differ.
        metrics: by which; None for those of the file.
    """

    kind: Literal["better"]
    better: Selector
    worse: Selector
    bits_per_frame: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    tolerance: float = Field(default=0.5, ge=0)
    metrics: list[str] | None = None


class AtLeast(Strict):
    """A measured quantity of every selected configuration, mean over seeds, is at least `threshold`.

    Attributes:
        quantity: one of QUANTITIES, in 0..1.
        threshold: in 0..1.
        of: the configurations.
    """

    kind: Literal["at_least"]
    quantity: Literal["utilization", "normalized_entropy"]
    threshold: float = Field(ge=0, le=1)
    of: Selector


class Claim(Strict):
    """One claim.

    Attributes:
        id: short name.
        text: what is claimed.
        source: where.
        test: how it is tested here, where that is our reading of it.
        comparisons: all must hold.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    text: str
    source: str
    test: str = ""
    comparisons: list[Annotated[Better | AtLeast, Field(discriminator="kind")]] = Field(min_length=1)


class Claims(Strict):
    """The claims of a paper.

    Attributes:
        title, source: of the paper.
        metrics: those that it reports quality by; a sweep tests by the ones it scored, and the others are named.
        remarks: sentences under the table.
        claims: at least one.
    """

    title: str
    source: str
    metrics: list[str] = Field(min_length=1)
    remarks: list[str] = Field(default_factory=list)
    claims: list[Claim] = Field(min_length=1)

    @field_validator("claims")
    @classmethod
    def _ids_differ(cls, claims: list[Claim]) -> list[Claim]:
        ids = [claim.id for claim in claims]
        if len(set(ids)) < len(ids):
            raise ValueError(f"two claims are called {next(name for name in ids if ids.count(name) > 1)!r}")
        return claims

    @model_validator(mode="after")
    def _metrics_known(self) -> Claims:
        from evalkit.metrics import METRICS

        own = [
            comparison.metrics or []
            for claim in self.claims
            for comparison in claim.comparisons
            if isinstance(comparison, Better)
        ]
        for name in [*self.metrics, *(name for names in own for name in names)]:
            METRICS.require(name)
        return self


def load_claims(source: str) -> Claims:
    """Read claims.

    Args:
        source: a built-in name ("q2d2-claims"), or the path of a YAML file.

    Raises:
        ClaimsError: not found, not YAML, an unknown key or name, or a value out of range.
    """
    return validated(Claims, SOURCES.read(source), f"claims {source}", ClaimsError)
