"""The schema of gate.yaml: what counts as a regression, and which runs may be compared."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from evalkit.metrics import METRICS, thresholds
from evalkit.schema import MAX_COUNT, Strict, YamlSources, validated
from q2d2.errors import UserError, did_you_mean, printable, shown

# Numbers of a whole system that `limits` may name: columns of systems.parquet.
QUANTITIES = (
    "bits_per_frame", "bitrate", "tokens_per_second", "utilization", "frame_utilization", "entropy",
    "normalized_entropy", "entropy_bitrate", "perplexity", "parameters",
)  # fmt: skip
# Keys whose own keys stand over the default's one by one.
MERGED = ("thresholds", "speed")


class GateError(UserError, ValueError):
    """A gate file that cannot be read or is not valid, or an option that fits neither run; says the way out."""


SOURCES = YamlSources("gate", files("evalkit") / "gate", GateError)


Number = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class ExactRule(Strict):
    """Scores that may not move at all.

    Attributes:
        metrics: of single utterances.
        systems: names in the baseline; None for all that are compared.
        tolerance: of each utterance's score, relative for values above 1, absolute below.
        mean_tolerance: of the mean over utterances, which may be much smaller where they scatter; None for none.
    """

    metrics: list[str] = Field(min_length=1)
    systems: list[str] | None = None
    tolerance: Number = 1e-6
    mean_tolerance: Number | None = None


class Limit(Strict):
    """How far a number of a whole system may move, in its own unit; None for any distance."""

    max_increase: Number | None = None
    max_decrease: Number | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Limit:
        if self.max_increase is None and self.max_decrease is None:
            raise ValueError("give max_increase, max_decrease or both")
        return self


class SpeedRule(Strict):
    """Real-time factor of the candidate over the baseline's: beyond `warn` it is told, beyond `fail` a regression."""

    warn: Number = Field(gt=1)
    fail: Number | None = Field(gt=1)

    @model_validator(mode="after")
    def _in_order(self) -> SpeedRule:
        if self.fail is not None and self.fail < self.warn:
            raise ValueError(f"fail ({self.fail:g}) is below warn ({self.warn:g})")
        return self


class Gate(Strict):
    """Everything the gate decides by; defaults are in default.yaml, where each key is explained."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    thresholds: dict[str, Number]
    metrics: Annotated[list[str], Field(min_length=1)] | None
    require: list[str]
    min_utterances: Annotated[Count, Field(ge=1)]
    allow_missing: Count
    intersect: bool
    max_new_failures: Count
    anchor_tolerance: Number
    exact: list[ExactRule]
    limits: dict[str, Limit]
    speed: SpeedRule

    @field_validator("exact", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("limits")
    @classmethod
    def _limits_are_known(cls, limits: dict[str, Limit]) -> dict[str, Limit]:
        for name in limits:
            if name not in QUANTITIES:
                raise ValueError(
                    f"{printable(name)} is no number of a system.{did_you_mean(name, QUANTITIES)} {_known()}"
                )
        return limits

    @model_validator(mode="after")
    def _required_is_compared(self) -> Gate:
        if self.metrics is not None and (lost := [name for name in self.require if name not in self.metrics]):
            raise ValueError(f"require names {lost[0]}, which is not among metrics: {', '.join(self.metrics)}")
        return self

    def threshold(self, metric: str) -> float:
        """Smallest difference of means that counts, in the metric's unit."""
        return self.thresholds.get(metric, 0.0)

    def named_metrics(self) -> list[str]:
        """Every metric that some key names."""
        rules = (name for rule in self.exact for name in rule.metrics)
        return list(dict.fromkeys([*self.thresholds, *(self.metrics or []), *self.require, *rules]))

    def check_names(self, metrics: Iterable[str]) -> None:
        """Refuse a metric that is neither registered nor in `metrics`, those of the runs: a mistyped threshold is 0.

        Raises:
            GateError: with the closest name.
        """
        known = sorted({*METRICS.names(), *metrics})
        for name in self.named_metrics():
            if name not in known:
                raise GateError(
                    f"the gate names {shown(name)}, which is no metric, neither registered nor in the runs."
                    f"{did_you_mean(name, known)}"
                )


def load_gate(source: str | None = None) -> Gate:
    """The default gate, with the keys of a file over it.

    Args:
        source: path of a YAML file; None for the default alone.

    Raises:
        GateError: it cannot be read, has an unknown key, or a value is out of range.
    """
    values = SOURCES.read("default")
    values["thresholds"] = thresholds()
    where = "gate default"
    if source is not None:
        where = f"gate {source}"
        own = SOURCES.read(source)
        merged = {key: values[key] | own[key] for key in MERGED if isinstance(own.get(key), dict)}
        values |= own | merged
    return validated(Gate, values, where, GateError)


def _known() -> str:
    return f"Known: {', '.join(QUANTITIES)}"
