"""What a sweep compares: configurations with the scores of all their seeds, and series that differ in rate alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.stats.code_usage import CODE_USE, seen_enough
from evalkit.stats.crossed import Scores
from evalkit.sweeps import SweepError
from evalkit.sweeps.folder import SweepFolder
from evalkit.sweeps.results import SweepRows
from evalkit.tables import metric_keys, resampling_unit

# Options of bottlenecks that say which one it is and how large; all others make it another variant of its family.
KIND_OPTIONS = {"name", "tiling", "lattice"}
SIZE_OPTIONS = {"levels", "codebook_size", "num_quantizers"}
MAX_REASONS = 2


@dataclass(frozen=True, eq=False)
class SweptConfiguration:
    """All trials of a sweep that differ by their seed alone.

    Attributes:
        id: of the configuration.
        label: such as "rhombic-8x4-7x2"; unlike that of any other.
        family: see `evalkit.sweeps.families.family_of`.
        target: bits per frame that it was asked to be near; None where it was not.
        bits_per_frame: nominal, exact; None where it is not known (yet).
        bottleneck: {"name": ..., options}, as far as known: all options where a trial is done, else those it varies.
        channels: of the bottleneck (the paper's d); None where its family has none, as RVQ.
        levels: of its groups of channels; None where it has none.
        variant: what else is varied, but the bottleneck's family and size: key -> value as text.
        trials: its rows of `SweepRows.trials`, one a seed.
        scores: metric key -> values of all trials that left some, NaN where one failed.
    """

    id: str
    label: str
    family: str
    target: float | None
    bits_per_frame: float | None
    bottleneck: Mapping[str, Any]
    channels: int | None
    levels: tuple[int, ...] | None
    variant: Mapping[str, str]
    trials: pd.DataFrame
    scores: Mapping[str, Scores]

    @property
    def num_seeds(self) -> int:
        """Planned."""
        return len(self.trials)

    @property
    def num_scored(self) -> int:
        """Seeds with scores."""
        return max((len(scores.seeds) for scores in self.scores.values()), default=0)

    @property
    def status(self) -> str:
        """How far it is, such as "3/3 done" or "1/3 done, 1 waiting, 1 failed: out of memory"."""
        counts = Counter(self.trials["state"])
        parts = [f"{counts.pop('done', 0)}/{self.num_seeds} done"]
        failed = counts.pop("failed", 0)
        parts += [f"{count} {state}" for state, count in sorted(counts.items())]
        if failed:
            reasons = list(dict.fromkeys(self.trials.loc[self.trials["state"] == "failed", "reason"]))
            more = f" (and {len(reasons) - MAX_REASONS} further reasons)" if len(reasons) > MAX_REASONS else ""
            parts.append(f"{failed} failed: {'; '.join(reasons[:MAX_REASONS])}{more}")
        return ", ".join(parts)

    def measured(self, quantity: str) -> dict[int, float]:
        """Seed -> a number of its trial, such as "entropy" (bits per frame) or "utilization" (0..1); those known.

        What the use of codes gives is not known where a codebook was seen too seldom: see `seen_enough`.
        """
        rows = self.trials
        if quantity in CODE_USE:
            rows = rows[[seen_enough(row) for row in rows.to_dict("records")]]
        pairs = zip(rows["seed"], rows[quantity], strict=True)
        return {int(seed): float(value) for seed, value in pairs if value is not None and math.isfinite(value)}

    def mean(self, quantity: str) -> float | None:
        """Of `measured`; None without any."""
        values = list(self.measured(quantity).values())
        return math.fsum(values) / len(values) if values else None


@dataclass(frozen=True, eq=False)
class RateSeries:
    """Configurations of one family that differ in their rate alone, so that they make a curve.

    Attributes:
        name: family, and channels and what else is varied where the family has several.
        family, channels: of all its configurations.
        configurations: by nominal rate, those of unknown rate last.
    """

    name: str
    family: str
    channels: int | None
    configurations: tuple[SweptConfiguration, ...]


def configurations(sweep: SweepFolder, rows: SweepRows) -> list[SweptConfiguration]:
    """The configurations of a sweep in the order of its file, with or without results.

    Raises:
        SweepError: one metric was scored by two versions: no mean may be over both.
    """
    values = {trial["id"]: trial["values"] for trial in sweep.trials}
    scores = _scores(rows)
    found = []
    for identifier, trials in rows.trials.groupby("configuration", sort=False):
        first = trials.iloc[0]
        varied = values.get(first["id"], {})
        bottleneck = _bottleneck(trials, varied, str(first["family"]))
        found.append(
            SweptConfiguration(
                id=str(identifier),
                label=str(first["label"]),
                family=str(first["family"]),
                target=_number(first["target"]),
                bits_per_frame=next(filter(None, map(_number, trials["bits_per_frame"])), None),
                bottleneck=bottleneck,
                channels=_channels(str(first["family"]), bottleneck),
                levels=tuple(bottleneck["levels"]) if isinstance(bottleneck.get("levels"), list) else None,
                variant=_variant(varied),
                trials=trials,
                scores=scores.get(str(identifier), {}),
            )
        )
    labels = Counter(each.label for each in found)
    return [each if labels[each.label] == 1 else replace(each, label=f"{each.label} {each.id[:6]}") for each in found]


def rate_series(found: Iterable[SweptConfiguration]) -> list[RateSeries]:
    """Group configurations by family, channels and variant, in the order in which these first occur."""
    groups: dict[tuple[str, int | None, tuple[tuple[str, str], ...]], list[SweptConfiguration]] = {}
    for each in found:
        groups.setdefault((each.family, each.channels, tuple(sorted(each.variant.items()))), []).append(each)
    series = []
    for (family, channels, variant), members in groups.items():
        alike = [key for key in groups if key[0] == family]
        name = family if len({key[1] for key in alike}) == 1 or channels is None else f"{family} d={channels}"
        if len({key[2] for key in alike}) > 1:
            name = " ".join([name, *(f"{key.rpartition('.')[2]}={value}" for key, value in variant)])
        ordered = sorted(members, key=lambda each: each.bits_per_frame or math.inf)
        series.append(RateSeries(name, family, channels, tuple(ordered)))
    return series


def scored_metrics(rows: SweepRows) -> tuple[list[str], dict[str, str]]:
    """Keys of the metrics with at least one score in order, and of the others each with the reason."""
    keys = metric_keys(rows.utterances)
    ok = rows.utterances["status"] == "ok"
    scored = set(keys[ok])
    without = {}
    for key in keys[~keys.isin(scored)].unique():
        lost = rows.utterances[keys == key].iloc[0]
        without[str(key)] = f"{lost['status']}: {lost['detail'] or 'no reason given'}"
    return [str(key) for key in dict.fromkeys(keys) if key in scored], without


def describe_missing(wanted: Sequence[SweptConfiguration]) -> str:
    """Which of these are not there, and why: "d4-7-6 (0/3 done, 3 waiting)"."""
    return "; ".join(f"{each.label} ({each.status})" for each in wanted)


def _number(value: Any) -> float | None:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else float(value)


def _bottleneck(trials: pd.DataFrame, varied: Mapping[str, Any], family: str) -> dict[str, Any]:
    """What a trial that is done says its bottleneck is; else what the sweep's file varies of it and the family says."""
    for text in trials["bottleneck"]:
        if isinstance(text, str):
            known: dict[str, Any] = json.loads(text)
            return known
    whole = varied.get("bottleneck")
    found: dict[str, Any] = dict(whole) if isinstance(whole, dict) else {}
    for key, value in varied.items():
        root, _, option = key.partition(".")
        if root == "bottleneck" and option:
            found[option] = value
    if found:
        from evalkit.sweeps.families import families  # torch, which reading tables has no need of

        found.setdefault("name", families()[family][0] if family in families() else family)
    return found


def _channels(family: str, bottleneck: Mapping[str, Any]) -> int | None:
    """One a level, but of a lattice as many as its dimension."""
    levels = bottleneck.get("levels")
    if not isinstance(levels, list):
        return None
    from evalkit.sweeps.families import families

    return len(levels) * (families()[family][1].channels_per_level if family in families() else 1)


def _variant(varied: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, value in varied.items():
        root = key.partition(".")[0]
        if key == "bottleneck" and isinstance(value, dict):
            others = {f"bottleneck.{name}": inner for name, inner in value.items()}
        else:
            others = {key: value}
        for name, inner in others.items():
            if root != "bottleneck" or name.partition(".")[2] not in KIND_OPTIONS | SIZE_OPTIONS:
                found[name] = str(inner)
    return found


def _scores(rows: SweepRows) -> dict[str, dict[str, Scores]]:
    """Configuration -> metric key -> scores (seeds, utterances)."""
    utterances = rows.utterances.assign(key=metric_keys(rows.utterances))
    ok = utterances[utterances["status"] == "ok"]
    for key, versions in ok.groupby("key", sort=False)["version"]:
        if versions.fillna("").nunique() > 1:
            raise SweepError(
                f"{key} was scored by versions {', '.join(sorted(versions.fillna('(none)').unique()))}: no mean may be "
                "over both; run the sweep into a new folder (--out)"
            )
    by_speaker = resampling_unit(utterances) == "speakers"
    speakers = dict(zip(utterances["utterance"], utterances["speaker"], strict=True)) if by_speaker else {}
    of_trial = rows.trials.set_index("id")[["configuration", "seed"]]
    joined = utterances.join(of_trial, on="trial")
    found: dict[str, dict[str, Scores]] = {}
    for names_of, part in joined.groupby(["configuration", "key"], sort=False):
        configuration, key = map(str, names_of)
        usable = part.assign(value=part["value"].where(part["status"] == "ok").astype("float64"))
        table = usable.pivot(index="seed", columns="utterance", values="value")
        values: NDArray[np.float64] = table.to_numpy(np.float64)
        kept = np.flatnonzero(np.isfinite(values).any(axis=1))  # a seed of which nothing was scored is not there
        if kept.size:
            names = [str(name) for name in table.columns]
            seeds = [int(seed) for seed in table.index[kept]]
            clusters = [speakers.get(name) for name in names]
            found.setdefault(configuration, {})[key] = Scores(values[kept], seeds, names, clusters)
    return found
