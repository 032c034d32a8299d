"""Numbers of whole systems: rates and code usage, held against limits, and speed, compared on equal hardware only."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.gate.counterparts import Pair
from evalkit.gate.rows import Rows, number
from evalkit.gate.settings import QUANTITIES, Gate
from evalkit.gate.verdict import Finding, Quantity, Speed

SPEEDS = ("rtf_encode", "rtf_decode")
# As floating-point sums may differ in their last digits on another machine.
ROUNDING = 1e-9


def compare_quantities(
    before: Rows, after: Rows, pairs: Sequence[Pair], gate: Gate
) -> tuple[list[Quantity], list[str]]:
    """The quantities that at least one side of a pair has, and reasons where a limit cannot be held against any."""
    found = [
        _quantity(before, after, pair, name, gate)
        for pair in pairs
        for name in QUANTITIES
        if before.systems[pair.system].get(name) is not None or after.systems[pair.candidate].get(name) is not None
    ]
    found = [one for one in found if one.before is not None or one.after is not None]
    reasons = []
    for name in gate.limits:
        of_limit = [one for one in found if one.name == name]
        if not of_limit:
            reasons.append(f"limits names {name}, which no compared system has in either run")
        reasons += [
            f"limits names {name}: {one.system} has it in the {'candidate' if one.before is None else 'baseline'} only"
            for one in of_limit
            if one.change is None
        ]
    return found, reasons


def _quantity(before: Rows, after: Rows, pair: Pair, name: str, gate: Gate) -> Quantity:
    old, new = number(before.systems[pair.system].get(name)), number(after.systems[pair.candidate].get(name))
    limit = gate.limits.get(name)
    exceeded = False
    if limit is not None and old is not None and new is not None:
        slack = ROUNDING * max(1.0, abs(old), abs(new))
        rises = limit.max_increase is not None and new - old > limit.max_increase + slack
        falls = limit.max_decrease is not None and old - new > limit.max_decrease + slack
        exceeded = rises or falls
    return Quantity(pair.system, pair.candidate, name, old, new, limit, exceeded)


def limit_findings(quantities: Sequence[Quantity]) -> list[Finding]:
    """A regression a quantity that is beyond its limit."""
    found = []
    for one in quantities:
        if not one.exceeded or one.change is None or one.limit is None:
            continue
        kind, limit = (
            ("max_increase", one.limit.max_increase) if one.change > 0 else ("max_decrease", one.limit.max_decrease)
        )
        text = f"{one.name} {one.before:.6g} -> {one.after:.6g} ({one.change:+.4g}), beyond {kind} {limit:g}"
        found.append(Finding("limit", "regression", one.system, one.name, "", text))
    return found


def compare_speeds(before: Rows, after: Rows, pairs: Sequence[Pair]) -> tuple[list[Speed], list[str]]:
    """Real-time factors that were measured alike on equal hardware; notes on what is not compared, and why."""
    measured = [
        (pair, name, old, new)
        for pair in pairs
        for name in SPEEDS
        if (old := number(before.systems[pair.system].get(name)))
        and (new := number(after.systems[pair.candidate].get(name)))
    ]
    if not measured:
        return [], []
    ours, theirs = (rows.run.description.get("hardware") for rows in (before, after))
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return [], ["speed is not compared: run.json does not say on which hardware it was measured"]
    if ours != theirs:
        names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        differing = ", ".join(f"{name} {ours.get(name)} / {theirs.get(name)}" for name in names)
        return [], [f"speed is not compared: other hardware ({differing})"]
    speeds, unlike = [], []
    for pair, name, old, new in measured:
        details = (before.systems[pair.system].get("rtf_detail"), after.systems[pair.candidate].get("rtf_detail"))
        if details[0] != details[1]:
            unlike.append(f"speed of {pair.label} is not compared: measured as {details[0]} / {details[1]}")
        else:
            speeds.append(Speed(pair.system, pair.candidate, name, old, new))
    return speeds, list(dict.fromkeys(unlike))


def speed_findings(speeds: Sequence[Speed], gate: Gate) -> list[Finding]:
    """Warnings beyond `speed.warn`, regressions beyond `speed.fail`."""
    found = []
    for one in speeds:
        if one.ratio <= gate.speed.warn:
            continue
        fails = gate.speed.fail is not None and one.ratio > gate.speed.fail
        text = f"{one.name} {one.before:.4g} -> {one.after:.4g}: {one.ratio:.2f} times as slow, beyond "
        text += f"fail {gate.speed.fail:g}" if fails else f"warn {gate.speed.warn:g}"
        found.append(Finding("speed", "regression" if fails else "warning", one.system, one.name, "", text))
    return found
