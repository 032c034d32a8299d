"""Verdicts on a paper's claims from the configurations of a sweep, each for one comparison and metric, and together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from evalkit.stats.crossed import CrossedEstimate, Scores, crossed_estimate
from evalkit.stats.differences import holm_of
from evalkit.sweeps.claim_files import QUANTITIES, AtLeast, Better, Claim, Claims, Selector
from evalkit.sweeps.comparison import difference_at
from evalkit.sweeps.configurations import RateSeries, SweptConfiguration, describe_missing
from evalkit.sweeps.equal_rate import Difference, points_of, surely
from evalkit.tables import metric_format
from evalkit.tables.cells import format_number

Verdict = Literal["supported", "contradicted", "undecided", "untested"]
CLAIM_COLUMNS = (
    "claim", "comparison", "metric", "difference", "low", "high", "p", "p_holm", "rate", "rate_other", "seeds",
    "utterances", "clusters", "verdict", "note",
)  # fmt: skip


@dataclass(frozen=True)
class ClaimVerdict:
    """What all comparisons of a claim say together.

    Attributes:
        claim: which.
        verdict: contradicted where one of them is, supported where all are, untested where all are, else undecided.
        counts: verdicts of its comparisons, such as "3 undecided, 1 untested".
    """

    claim: Claim
    verdict: Verdict
    counts: str


def judge(claims: Claims, series: Sequence[RateSeries], metrics: Sequence[str]) -> pd.DataFrame:
    """Hold claims against a sweep: one row a claim, comparison, pair of series (or configuration) and metric.

    Columns: `claim` (id), `comparison` (in words), `metric` (or quantity); `difference` of the side that is claimed to
    be better minus the other (or of the quantity minus its threshold) with its 95 % interval `low`, `high`, `p`, and
    `p_holm`, corrected over all rows of the table; `rate`, `rate_other`: bits per frame at which the two sides were
    compared; `seeds`, `utterances`, `clusters` in use; `verdict`; `note`.

    Verdicts: "supported", the interval lies wholly on the claimed side and p_holm < 0.05, with two seeds at least, and
    not by a difference of rates alone; "contradicted", likewise on the other side; "undecided", else; "untested" where
    there is nothing to compare, or where sides chosen by their levels differ in channels too: the note says what.

    Args:
        claims: of the paper.
        series: all of the sweep.
        metrics: keys of those that the sweep has scores of; comparisons use the ones among them that they ask for.
    """
    rows: list[_Row] = []
    for claim in claims.claims:
        for comparison in claim.comparisons:
            if isinstance(comparison, AtLeast):
                rows += _threshold(claim, comparison, series)
            else:
                wanted = comparison.metrics or claims.metrics
                used = [metric for metric in metrics if metric.partition("@")[0] in wanted]
                rows += _better(claim, comparison, series, used, wanted)
    for place, adjusted in holm_of({place: row.values["p"] for place, row in enumerate(rows)}).items():
        rows[place].values["p_holm"] = adjusted
    return pd.DataFrame([row.judged() for row in rows], columns=list(CLAIM_COLUMNS))


def verdicts(claims: Claims, judged: pd.DataFrame) -> list[ClaimVerdict]:
    """The verdict on each claim from the rows of `judge`."""
    found = []
    for claim in claims.claims:
        of_claim = judged.loc[judged["claim"] == claim.id, "verdict"]
        counted = of_claim.value_counts()
        verdict: Verdict = "undecided"
        if "contradicted" in counted:
            verdict = "contradicted"
        elif len(counted) == 1:
            verdict = of_claim.iloc[0]
        order = ("supported", "contradicted", "undecided", "untested")
        counts = ", ".join(f"{counted[name]} {name}" for name in order if name in counted)
        found.append(ClaimVerdict(claim, verdict, counts))
    return found


@dataclass
class _Row:
    """A row in the making.

    Attributes:
        values: its cells but the verdict.
        found: what the verdict rests on; None where nothing was tested.
        sign: of the difference where the claim holds.
        decimals: of the smallest effect in the note.
    """

    values: dict[str, Any]
    found: Difference | CrossedEstimate | None
    sign: int = 1
    decimals: int = 4

    def judged(self) -> dict[str, Any]:
        p = None if math.isnan(self.values["p_holm"]) else self.values["p_holm"]
        notes = [self.values["note"]]
        if self.found is None or math.isnan(self.values["difference"]):
            verdict: Verdict = "untested"
        else:
            side = self.found.side(p) if isinstance(self.found, Difference) else surely(self.found, p, of_speech=False)
            verdict = "undecided" if side == 0 else "supported" if side == self.sign else "contradicted"
            half = (self.values["high"] - self.values["low"]) / 2
            if verdict == "undecided" and not math.isnan(half) and self.values["seeds"] > 1:
                notes.append(
                    f"open: the interval is ± {format_number(half, self.decimals)}, smaller effects stay unseen"
                )
        return self.values | {"verdict": verdict, "note": "; ".join(filter(None, notes))}


def _row(
    claim: Claim, comparison: str, metric: str, note: str, estimate: CrossedEstimate | None = None
) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(CLAIM_COLUMNS, math.nan)
    values |= {"claim": claim.id, "comparison": comparison, "metric": metric, "note": note, "verdict": "untested"}
    values |= {"seeds": 0, "utterances": 0, "clusters": 0}
    if estimate is not None:
        numbers = {"difference": estimate.value, "low": estimate.low, "high": estimate.high, "p": estimate.p}
        values |= {key: math.nan if number is None else number for key, number in numbers.items()}
        values |= {"seeds": estimate.n_seeds, "utterances": estimate.n_utterances, "clusters": estimate.n_clusters}
    return values


def _selected(selector: Selector, series: Iterable[RateSeries]) -> list[tuple[RateSeries, list[SweptConfiguration]]]:
    """Series with the configurations that are selected of each; those without any left out."""
    found = []
    for each in series:
        chosen = [
            one
            for one in each.configurations
            if selector.selects(one.family, one.bottleneck.get("name"), one.channels, one.levels)
        ]
        if chosen:
            found.append((each, chosen))
    return found


def _threshold(claim: Claim, comparison: AtLeast, series: Sequence[RateSeries]) -> list[_Row]:
    quantity, threshold = comparison.quantity, comparison.threshold
    named = QUANTITIES[quantity]
    selected = [one for _, chosen in _selected(comparison.of, series) for one in chosen]
    if not selected:
        told = f"{comparison.of}: {named} at least {threshold:g}"
        return [_Row(_row(claim, told, quantity, f"no trial of {comparison.of} in the sweep"), None)]
    rows = []
    for one in selected:
        told = f"{one.label}: {named} at least {threshold:g}"
        measured = one.measured(quantity)
        if not measured:
            rows.append(_Row(_row(claim, told, quantity, f"missing: {describe_missing([one])}"), None))
            continue
        # One utterance of no speaker: the interval is over seeds alone.
        scores = Scores(np.array([*measured.values()])[:, None], list(measured), [named], [None])
        estimate = crossed_estimate(lambda means: means[0] - threshold, [scores])
        others = [key for key in QUANTITIES if key != quantity and one.mean(key) is not None]
        notes = [f"mean {estimate.means[0]:.4f}", *(f"{QUANTITIES[key]} {one.mean(key):.3f}" for key in others)]
        notes += [_few_seeds(estimate.n_seeds, one.num_seeds)]
        row = _Row(_row(claim, told, quantity, "; ".join(filter(None, notes)), estimate), estimate)
        row.values |= {"rate": one.bits_per_frame or math.nan, "utterances": 0, "clusters": 0}
        rows.append(row)
    return rows


def _better(
    claim: Claim, comparison: Better, series: Sequence[RateSeries], metrics: Sequence[str], wanted: Sequence[str]
) -> list[_Row]:
    rows = []
    for rate in comparison.bits_per_frame:
        sides = [
            [
                (each, chosen)
                for each, chosen in _selected(selector, series)
                if _reaches(chosen, rate, comparison.tolerance)
            ]
            for selector in (comparison.better, comparison.worse)
        ]
        missing = [
            f"no trial of {selector} within {comparison.tolerance:g} of {rate:g} bits/frame"
            for selector, side in zip((comparison.better, comparison.worse), sides, strict=True)
            if not side
        ]
        told = f"{comparison.better} better than {comparison.worse} at {rate:g} bits/frame"
        if missing or not metrics:
            reason = "; ".join(missing) or f"none of {', '.join(wanted)} was scored"
            rows += [_Row(_row(claim, told, metric, reason), None) for metric in metrics or wanted]
            continue
        pairs = [(a, b) for a in sides[0] for b in sides[1] if a[0] is not b[0] or not set(a[1]) & set(b[1])]
        if not pairs:
            rows += [
                _Row(_row(claim, told, metric, "both sides are the same configurations"), None) for metric in metrics
            ]
        for better, worse in pairs:
            names = [
                _name(selector, side[0]) for selector, side in ((comparison.better, better), (comparison.worse, worse))
            ]
            told = f"{names[0]} better than {names[1]} at {rate:g} bits/frame"
            if reason := _confounded(comparison, better[1], worse[1]):
                rows += [_Row(_row(claim, told, metric, reason), None) for metric in metrics]
                continue
            rows += [_pair(claim, told, comparison, better, worse, rate, metric) for metric in metrics]
    return rows


def _confounded(comparison: Better, better: Sequence[SweptConfiguration], worse: Sequence[SweptConfiguration]) -> str:
    """Why a comparison of levels is none: at one rate other levels come with other channels; else nothing."""
    if comparison.better.levels is None and comparison.worse.levels is None:
        return ""
    channels = [sorted({str(one.channels) for one in side}) for side in (better, worse)]
    if channels[0] == channels[1]:
        return ""
    return (
        f"not tested by this design: levels and channels differ together ({', '.join(channels[0])} against "
        f"{', '.join(channels[1])} channels)"
    )


def _pair(
    claim: Claim, told: str, comparison: Better, better: tuple[RateSeries, list[SweptConfiguration]],
    worse: tuple[RateSeries, list[SweptConfiguration]], rate: float, metric: str,
) -> _Row:  # fmt: skip
    style = metric_format(metric)
    if style.higher_is_better is None:
        return _Row(_row(claim, told, metric, "it is not known which direction of the metric is better"), None)
    sides = [points_of(chosen, metric, "nominal") for _, chosen in (better, worse)]
    short = [
        describe_missing([one for one in chosen if metric not in one.scores] or chosen)
        for points, (_, chosen) in zip(sides, (better, worse), strict=True)
        if not _reaches([point.configuration for point in points], rate, comparison.tolerance)
    ]
    if short:
        return _Row(_row(claim, told, metric, f"missing: {'; '.join(short)}"), None)
    slopes = [points_of(each.configurations, metric, "nominal") for each, _ in (better, worse)]
    difference = difference_at(sides[0], sides[1], rate, slopes, comparison.tolerance)
    estimate = difference.estimate
    notes = [difference.note]
    if difference.worth:
        worth = format_number(difference.worth, style.decimals + 1)
        notes.append(f"along a curve that is worth {worth}")
    if estimate is not None:
        planned = min(one.num_seeds for _, chosen in (better, worse) for one in chosen)
        notes.append(_few_seeds(estimate.n_seeds, planned))
    row = _row(claim, told, metric, "; ".join(filter(None, notes)), estimate)
    rates = {"rate": difference.rate_a, "rate_other": difference.rate_b}
    row |= {key: math.nan if value is None else value for key, value in rates.items()}
    return _Row(row, difference, 1 if style.higher_is_better else -1, style.decimals + 1)


def _reaches(chosen: Sequence[SweptConfiguration], rate: float, tolerance: float) -> bool:
    """Whether the curve through these comes within `tolerance` of `rate` (bits per frame)."""
    rates = [one.bits_per_frame for one in chosen if one.bits_per_frame is not None]
    return bool(rates) and min(rates) - tolerance <= rate <= max(rates) + tolerance


def _few_seeds(used: int, planned: int) -> str:
    return "" if used == planned else f"{used} of {planned} seeds"


def _name(selector: Selector, series: RateSeries) -> str:
    """A side in words: the series, and which of its levels."""
    return series.name if selector.levels is None else f"{series.name} {Selector(levels=selector.levels)}"
