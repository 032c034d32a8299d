"""Trials: one experiment with one system each, under an id that follows from what it is."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from evalkit.run.experiment import (
    Assignment,
    Experiment,
    ExperimentError,
    SystemSpec,
    assign,
    build_experiment,
    read_values,
)
from evalkit.sweeps import SweepError
from evalkit.sweeps.families import family_of
from evalkit.sweeps.points import Point, points
from evalkit.sweeps.schema import Constraint, Sweep
from q2d2.bottleneck import build_bottleneck
from q2d2.codec import CodecConfig, codec_config
from q2d2.registry import UnknownName

# How a trial is called, and where things lie: neither changes its numbers. The seed is added at the end.
NOT_DIGESTED: Any = {
    "name": True, "title": True, "notes": True, "weights_root": True, "train": {"seed"},
    "data": {"train": {"__all__": {"root"}}, "test": {"root"}},
}  # fmt: skip
ID_LENGTH = 12


@dataclass(frozen=True)
class Trial:
    """One training and its scores.

    Attributes:
        id: digest of its resolved experiment, in hexadecimal: same trial, same id, in any sweep, on any machine.
        configuration: likewise without the seed: trials of one configuration differ by their seed alone.
        label: of the configuration, such as "rhombic-7x6", for people; also the name of its system.
        family: tiling, lattice or bottleneck; "codec" for anything else.
        seed: of training.
        values: the keys that its block varies.
        target: bits per frame that it was asked for to be near; None where it was not.
        bits_per_frame, bitrate: nominal; None where they are not known before it runs.
        experiment: all of it; None where it is not valid.
        problem: why it is not.
    """

    id: str
    configuration: str
    label: str
    family: str
    seed: int
    values: Mapping[str, Any]
    target: float | None
    bits_per_frame: float | None
    bitrate: float | None
    experiment: Experiment | None
    problem: str = ""

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON, all but the experiment."""
        return {
            "id": self.id, "configuration": self.configuration, "label": self.label, "family": self.family,
            "seed": self.seed, "values": dict(self.values), "target": self.target,
            "bits_per_frame": self.bits_per_frame, "bitrate": self.bitrate,
        }  # fmt: skip


def expand(sweep: Sweep) -> list[Trial]:
    """All trials of a sweep: the first seed of every point, then the second, so that a part is a whole comparison.

    A point that is not valid, as one with an unknown tiling, is a trial with a problem; one that breaks a constraint is
    left out; one that occurs twice is there once.

    Raises:
        SweepError: nothing valid is left, or a constraint is on a system that has no bottleneck.
        ExperimentError: the experiment that the trials start from cannot be read.
        FamilyError: a family has no configuration near a rate.
    """
    _check_keys(sweep)
    base = read_values(sweep.experiment)
    base.update(systems={}, baseline=None, paper=None, examples=0)
    packed = pickle.dumps(base)  # unpacked for each point: many times faster than copying
    trials: dict[str, tuple[int, Trial]] = {}
    expanded = 0
    for point in points(sweep):
        expanded += 1
        for rank, trial in enumerate(_trials(point, packed, sweep)):
            trials.setdefault(trial.id, (rank, trial))
    if not trials:
        limits = "; ".join(f"{quantity}: {text}" for quantity, text in sweep.constraints.items())
        raise SweepError(f"sweep {sweep.name}: none of {expanded:,} points fulfils its constraints ({limits})")
    if all(trial.problem for _, trial in trials.values()):
        raise SweepError(f"sweep {sweep.name}: no point is valid; the first: {next(iter(trials.values()))[1].problem}")
    return [trial for _, trial in sorted(trials.values(), key=lambda entry: entry[0])]


def _check_keys(sweep: Sweep) -> None:
    """Refuse a key of `set` that the points vary anyway: it would silently have no effect."""
    for point_keys in ({*(block.grid or {}), *(block.random or {})} for block in sweep.points):
        if both := sorted(point_keys & {*sweep.set}):
            raise SweepError(f"sweep {sweep.name}: {both[0]} is both set and varied; take one of them out")


def _trials(point: Point, base: bytes, sweep: Sweep) -> Iterable[Trial]:
    """The trials of a point, one a seed; none where it breaks a constraint."""
    values = pickle.loads(base)
    spec: dict[str, Any] = {}
    assignments: list[Assignment] = []
    problem = ""
    try:
        for key, value in point.values.items():
            assignment = Assignment(key, copy.deepcopy(value), f"sweep {sweep.name}")
            if key.split(".")[0] in SystemSpec.model_fields:
                assign(spec, assignment)
            else:
                assignments.append(assignment)
    except ExperimentError as error:
        problem = str(error)
    bottleneck = spec.get("bottleneck")
    named = isinstance(bottleneck, dict) and isinstance(bottleneck.get("name"), str)
    family = family_of(spec["bottleneck"]) if named else "codec"
    label = _label(spec, point, named)
    values |= {"name": sweep.name, "title": label, "notes": [], "systems": {label: spec}}
    experiment: Experiment | None = None
    rates: tuple[float | None, float | None] = (None, None)
    try:
        experiment = build_experiment(values, assignments, label)
        rates = _rates(experiment, label)
    except (ExperimentError, UnknownName) as error:
        experiment, problem = None, problem or str(error)
    if not problem and not _fulfils(sweep.limits, dict(zip(("bits_per_frame", "bitrate"), rates, strict=True)), label):
        return
    raw = json.dumps([sweep.experiment, dict(point.values)], sort_keys=True, default=str)
    for seed in point.seeds:
        chosen = experiment and _with_seed(experiment, seed)
        configuration, trial = _digests(chosen) if chosen else (_digest(raw), _digest(f"{raw} seed {seed}"))
        yield Trial(
            trial, configuration, label, family, seed, {key: point.values[key] for key in point.varied}, point.target,
            *rates, chosen, problem,
        )  # fmt: skip


def _with_seed(experiment: Experiment, seed: int) -> Experiment:
    return experiment.model_copy(update={"train": replace(experiment.train, seed=seed)})


def _digests(experiment: Experiment) -> tuple[str, str]:
    """Of an experiment without its seed, and with it."""
    plain = experiment.model_dump(mode="json", exclude=NOT_DIGESTED)
    plain["systems"] = list(plain["systems"].values())  # whatever they are called
    text = json.dumps(plain, sort_keys=True)
    return _digest(text), _digest(f"{text} seed {experiment.train.seed}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _rates(experiment: Experiment, label: str) -> tuple[float | None, float | None]:
    """Nominal bits per frame and bit/s of a trial's bottleneck; None for a system of another kind.

    Raises:
        ExperimentError: the backbone or the bottleneck cannot be built.
    """
    bottleneck = experiment.systems[label].bottleneck
    if bottleneck is None:
        return None, None
    try:
        backbone = _backbone(experiment.backbone.size, json.dumps(experiment.backbone.changes, sort_keys=True))
        bits = _bits(json.dumps(bottleneck, sort_keys=True), backbone.dimension)
    except (ValueError, TypeError) as error:
        raise ExperimentError(f"{label}: {error}") from error
    return bits, bits * backbone.frame_rate


@functools.cache
def _backbone(size: str, changes: str) -> CodecConfig:
    return codec_config(size, **json.loads(changes))


@functools.cache
def _bits(bottleneck: str, dimension: int) -> float:
    options = json.loads(bottleneck)
    return build_bottleneck(options.pop("name"), dimension, **options).bits_per_frame


def _fulfils(limits: Sequence[Constraint], rates: Mapping[str, float | None], label: str) -> bool:
    for limit in limits:
        value = rates[limit.quantity]
        if value is None:
            raise SweepError(f"{label}: its {limit.quantity} is not known before it runs, so it cannot be constrained")
        if not limit.holds(value):
            return False
    return True


def _label(spec: Mapping[str, Any], point: Point, named: bool) -> str:
    parts = [bottleneck_label(spec["bottleneck"])] if named else []
    codec = spec.get("codec")
    if isinstance(codec, dict) and "name" in codec:
        parts = [str(codec["name"])]
    for key in point.varied:
        root = key.split(".")[0]
        if (root == "bottleneck" and named) or key in ("codec", "codec.name"):
            continue
        value = point.values[key]
        plain = value.get("name", "system") if isinstance(value, dict) else value
        text = "x".join(map(_short, plain)) if isinstance(plain, list) else _short(plain)
        parts.append(text if root in SystemSpec.model_fields else f"{key.split('.')[-1]}-{text}")
    safe = "_".join(parts) or "trial"
    return (
        "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in safe).lstrip(".-")[:100] or "trial"
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def bottleneck_label(bottleneck: Mapping[str, Any]) -> str:
    """Family and size of a bottleneck, such as "rhombic-7x6", "d4-7-6", "rvq-2x784" or "vq-4096"."""
    family, levels = family_of(bottleneck), bottleneck.get("levels")
    if isinstance(levels, list):
        runs = [(level, len(list(run))) for level, run in groupby(levels)]
        return "-".join([family, *(str(level) if count == 1 else f"{level}x{count}" for level, count in runs)])
    size, stages = bottleneck.get("codebook_size"), bottleneck.get("num_quantizers")
    if size is not None and not isinstance(size, list):
        return f"{family}-{stages}x{size}" if stages is not None else f"{family}-{size}"
    return family
