"""Numbers and sentences that several formats print."""

from __future__ import annotations

from evalkit.gate.verdict import Comparison
from evalkit.tables import metric_format
from evalkit.tables.cells import MISSING, format_number, probability, signed

OUTCOMES = {
    "regression": "worse",
    "improvement": "better",
    "moved": "moved",
    "below threshold": "sure, below threshold",
    "not significant": "not sure",
    "no difference": "no difference",
    "equal": "equal",
    "too few": "too few",
    "unavailable": "unavailable",
}
MARKS = {"regression": "▼", "improvement": "▲", "moved": "△"}


def decimals(one: Comparison) -> int:
    """Of a difference: it is smaller than what it is between."""
    return metric_format(one.metric).decimals + 1


def shown(value: float | None, digits: int, with_sign: bool = False) -> str:
    """A number with `digits` decimals, no negative zero; "-" where there is none."""
    if value is None:
        return MISSING
    return signed(value, digits) if with_sign else format_number(value, digits)


def shown_p(p: float | None) -> str:
    return MISSING if p is None else probability(p)


def interval(one: Comparison) -> str:
    """ "[-0.120, -0.080]", or "-"."""
    if one.low is None or one.high is None:
        return MISSING
    return f"[{shown(one.low, decimals(one), True)}, {shown(one.high, decimals(one), True)}]"


def difference_text(one: Comparison) -> str:
    """ "PESQ 2.310 -> 2.210: -0.100 [-0.120, -0.080], p < 0.001, threshold 0.05 (57 utterances, 27 speakers)"."""
    digits, style = decimals(one), metric_format(one.key)
    units = f", {one.units} speakers" if one.unit == "speakers" else ""
    p = (
        ""
        if one.p_holm is None
        else f", p {'' if one.p_holm < 0.001 else '= '}{shown_p(one.p_holm).replace('<', '< ')}"
    )
    return (
        f"{style.heading} {shown(one.baseline_mean, digits)} -> {shown(one.candidate_mean, digits)}: "
        f"{shown(one.difference, digits, True)} {interval(one)}{p}, threshold {one.threshold:g} "
        f"({one.n:,} utterances{units})"
    )
