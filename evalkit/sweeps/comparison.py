"""From the configurations of a sweep to numbers: one row a configuration, and every series against a baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from evalkit.stats.code_usage import FRAMES_PER_CODE
from evalkit.stats.crossed import CrossedEstimate, Scores, crossed_estimate
from evalkit.stats.differences import holm_of, verdict_of
from evalkit.stats.rate_curves import compare_curves
from evalkit.sweeps import SweepError
from evalkit.sweeps.configurations import RateSeries, SweptConfiguration, describe_missing
from evalkit.sweeps.equal_rate import Difference, Point, RateKind, equal_rate, points_of, slope_near, surely
from evalkit.tables import metric_format
from q2d2.errors import did_you_mean

KINDS: tuple[RateKind, ...] = ("nominal", "entropy")
# A row in the making, and what its verdict rests on.
Judged = tuple[dict[str, Any], Difference | CrossedEstimate]
# `nearest` finds nothing further than half a bit from a target, so two of its answers are at most this far apart.
NEAR_TARGET = 0.5
MATCHED_COLUMNS = (
    "metric", "measure", "rate", "target", "series", "baseline", "rate_series", "rate_baseline", "range_low",
    "range_high", "difference", "low", "high", "p", "p_holm", "seeds", "utterances", "clusters", "verdict", "note",
)  # fmt: skip


def summarize_configurations(found: Sequence[SweptConfiguration], metrics: Sequence[str]) -> pd.DataFrame:
    """One row a configuration, with or without results.

    Columns: `configuration` (label), `id`, `family`, `channels`, `target`, `bits_per_frame` (nominal),
    `entropy_bits_per_frame`, `utilization` and `normalized_entropy` (0..1; means over seeds), `seeds_done` (with
    scores), `seeds` (planned); for each metric M `M` (mean over seeds and utterances scored in all of them), `M_low`
    and `M_high` (95 % interval, see `evalkit.stats.crossed`), `M_utterances`, `M_note` (such as "over utterances only:
    one seed"); `status`. NaN where a number does not exist.
    """
    table = []
    for each in found:
        row: dict[str, Any] = {
            "configuration": each.label, "id": each.id, "family": each.family, "channels": _or_nan(each.channels),
            "target": _or_nan(each.target), "bits_per_frame": _or_nan(each.bits_per_frame),
            "entropy_bits_per_frame": _or_nan(each.mean("entropy")), "utilization": _or_nan(each.mean("utilization")),
            "normalized_entropy": _or_nan(each.mean("normalized_entropy")), "seeds_done": each.num_scored,
            "seeds": each.num_seeds,
        }  # fmt: skip
        for metric in metrics:
            row |= _mean(metric, each.scores.get(metric))
        table.append(row | {"status": each.status})
    return pd.DataFrame(table)


def _mean(metric: str, scores: Scores | None) -> dict[str, Any]:
    if scores is None:
        numbers: dict[str, Any] = dict.fromkeys((metric, f"{metric}_low", f"{metric}_high"), math.nan)
        return numbers | {f"{metric}_utterances": 0, f"{metric}_note": ""}
    found = crossed_estimate(lambda means: means[0], [scores])
    return {
        metric: _or_nan(found.value), f"{metric}_low": _or_nan(found.low), f"{metric}_high": _or_nan(found.high),
        f"{metric}_utterances": found.n_utterances, f"{metric}_note": found.note,
    }  # fmt: skip


def choose_baseline(series: Sequence[RateSeries], name: str | None = None) -> RateSeries:
    """The series that others are compared with: the one called `name`, or the first of that family; else the first.

    Raises:
        SweepError: there is no such series or family.
    """
    if name is None:
        return series[0]
    for each in series:
        if name in (each.name, each.family):
            return each
    known = list(dict.fromkeys([each.name for each in series] + [each.family for each in series]))
    raise SweepError(
        f"baseline {name!r} is in no trial of the sweep.{did_you_mean(name, known)} Known: {', '.join(known)}"
    )


def target_rates(series: Iterable[RateSeries], baseline: RateSeries) -> list[float]:
    """Rates at which series are compared, highest first, in bits per frame: the sweep's targets, or where it has none
    the baseline's own rates."""
    targets = {each.target for one in series for each in one.configurations if each.target is not None}
    own = {each.bits_per_frame for each in baseline.configurations if each.bits_per_frame is not None}
    return sorted(targets or own, reverse=True)


def at_target(found: Iterable[SweptConfiguration], target: float) -> SweptConfiguration | None:
    """The configuration that stands for `target` (bits per frame): asked for it, or, without a target, near it."""

    def belongs(each: SweptConfiguration) -> bool:
        if each.bits_per_frame is None:
            return each.target == target
        near = abs(each.bits_per_frame - target) <= NEAR_TARGET
        return each.target == target or (each.target is None and near)

    candidates = [each for each in found if belongs(each)]
    return min(candidates, key=lambda each: abs((each.bits_per_frame or math.inf) - target), default=None)


def compare_series(series: Sequence[RateSeries], baseline: RateSeries, metrics: Sequence[str]) -> pd.DataFrame:
    """Every series against `baseline`, by each metric, at nominal ("nominal") and entropy-coded ("entropy") rates.

    One row a `metric`, `measure`, `rate`, `target` and `series`. Measures:
    - "difference": quality of the series minus that of the baseline at one rate (`rate_series`, `rate_baseline`: bits
      per frame) near `target`, see `evalkit.sweeps.equal_rate`. At entropy-coded rates the target is the rate of the
      baseline's configuration for it.
    - "mean difference": over the rates (`range_low`, `range_high`) that both have; see `evalkit.stats.rate_curves`.
    - "rate difference": at equal quality, relative; 0.1: the series needs 10 % more bits. `range_low`, `range_high` are
      the qualities that both reach.

    `difference` with its 95 % interval `low`, `high` and `p`; `p_holm`, corrected over all series of one question
    (equal metric, measure, rate and target); numbers of `seeds`, `utterances` and `clusters` (speakers) in use;
    `verdict`: "better", "worse" ("higher", "lower" where a metric has no direction), or "" where it is open, see
    `surely`; `note`: why, and how it was compared.
    """
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        for kind in KINDS:
            tables = [_at_rate(series, baseline, metric, kind, target) for target in target_rates(series, baseline)]
            for table in (*tables, *_along_curves(series, baseline, metric, kind)):
                rows += _judged(table, metric)
    return pd.DataFrame(rows, columns=list(MATCHED_COLUMNS))


def difference_at(
    a: Sequence[Point], b: Sequence[Point], target: float, slopes: Iterable[Sequence[Point]], most_apart: float
) -> Difference:
    """`equal_rate` with a slope from the first of `slopes` (series of points) that has one; none for an empty side."""
    if not a or not b:
        return Difference(None, None, None, None, "nothing scored")
    found = (slope_near(points, target) for points in slopes)
    return equal_rate(a, b, target, most_apart, next((slope for slope in found if slope is not None), None))


def _at_rate(
    series: Sequence[RateSeries], baseline: RateSeries, metric: str, kind: RateKind, target: float
) -> list[Judged]:
    own = at_target(baseline.configurations, target)
    reference = points_of(baseline.configurations, metric, kind)
    found: list[Judged] = []
    for each in series:
        theirs = at_target(each.configurations, target)
        if each is baseline or theirs is None or own is None:
            continue
        points = points_of(each.configurations, metric, kind)
        there = {id(point.configuration): point for point in [*points, *reference]}
        missing = [needed for needed in (theirs, own) if id(needed) not in there]
        if missing:
            difference = Difference(None, None, None, None, _why_missing(missing, metric, kind))
        else:
            rate = there[id(own)].rate if kind == "entropy" else target
            # As measured rates differ by chance, points that miss each other are not compared at all.
            apart = 2 * NEAR_TARGET if kind == "nominal" else 0.0
            difference = difference_at(points, reference, rate, (reference, points), apart)
        row = _row(metric, "difference", kind, each, baseline, difference.estimate, difference.note)
        row |= {
            "target": target,
            "rate_series": _or_nan(difference.rate_a),
            "rate_baseline": _or_nan(difference.rate_b),
        }
        found.append((row, difference))
    return found


def _along_curves(
    series: Sequence[RateSeries], baseline: RateSeries, metric: str, kind: RateKind
) -> tuple[list[Judged], list[Judged]]:
    direction = metric_format(metric).higher_is_better
    reference = points_of(baseline.configurations, metric, kind)
    qualities: list[Judged] = []
    rates: list[Judged] = []
    for each in series:
        if each is baseline:
            continue
        points = points_of(each.configurations, metric, kind)
        if not points or not reference:
            absent = baseline if points else each
            why = _why_missing(absent.configurations, metric, kind)
            nothing = Difference(None, None, None, None, why)
            for measure, rows in (("mean difference", qualities), ("rate difference", rates)):
                rows.append((_row(metric, measure, kind, each, baseline, None, nothing.note), nothing))
            continue
        curves = [
            [(point.rates if kind == "entropy" else point.rate, point.scores) for point in side]
            for side in (points, reference)
        ]
        compared = compare_curves(curves[0], curves[1], direction is not False)
        for measure, estimate, ends, rows in (
            ("mean difference", compared.quality, compared.rates, qualities),
            ("rate difference", compared.rate, compared.qualities, rates),
        ):
            if measure == "rate difference" and direction is None:
                estimate = replace(
                    estimate, value=None, low=None, high=None, p=None, note="no direction of the metric is known"
                )
            row = _row(metric, measure, kind, each, baseline, estimate, estimate.note)
            if estimate.value is not None and ends is not None:
                row |= {"range_low": ends[0], "range_high": ends[1]}
            rows.append((row, estimate))
    return qualities, rates


def _why_missing(missing: Sequence[SweptConfiguration], metric: str, kind: RateKind) -> str:
    if kind == "entropy" and all(metric in each.scores for each in missing):
        names = ", ".join(each.label for each in missing)
        return f"no entropy-coded rate of {names}: fewer than {FRAMES_PER_CODE} frames a code"
    return f"nothing scored of {describe_missing(missing)}"


def _row(
    metric: str, measure: str, kind: RateKind, series: RateSeries, baseline: RateSeries,
    estimate: CrossedEstimate | None, note: str,
) -> dict[str, Any]:  # fmt: skip
    row: dict[str, Any] = dict.fromkeys(MATCHED_COLUMNS, math.nan)
    row |= {"metric": metric, "measure": measure, "rate": kind, "series": series.name, "baseline": baseline.name}
    row |= {"seeds": 0, "utterances": 0, "clusters": 0, "verdict": "", "note": note}
    if estimate is not None:
        row |= {"seeds": estimate.n_seeds, "utterances": estimate.n_utterances, "clusters": estimate.n_clusters}
        numbers = {"difference": estimate.value, "low": estimate.low, "high": estimate.high, "p": estimate.p}
        row |= {key: _or_nan(number) for key, number in numbers.items()}
    return row


def _judged(rows: list[Judged], metric: str) -> list[dict[str, Any]]:
    """The rows with p_holm over all of them, and their verdicts."""
    for place, adjusted in holm_of({place: row["p"] for place, (row, _) in enumerate(rows)}).items():
        rows[place][0]["p_holm"] = adjusted
    for row, found in rows:
        p = None if math.isnan(row["p_holm"]) else row["p_holm"]
        side = found.side(p) if isinstance(found, Difference) else surely(found, p)
        direction = metric_format(metric).higher_is_better if row["measure"] != "rate difference" else False
        row["verdict"] = verdict_of(side, direction)
    return [row for row, _ in rows]


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else float(number)
