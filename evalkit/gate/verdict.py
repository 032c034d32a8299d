"""What a comparison of two runs found, as plain values: every format prints the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evalkit.gate.settings import Gate, Limit

Outcome = Literal[
    "regression", "improvement", "moved", "below threshold", "not significant", "no difference", "equal", "too few",
    "unavailable",
]  # fmt: skip
Decision = Literal["same", "better", "regression", "not comparable"]
EXIT_STATUS: dict[Decision, int] = {"same": 0, "better": 0, "regression": 1, "not comparable": 2}


@dataclass(frozen=True)
class Side:
    """One of the two runs: its folder, the name it was given, the version of the code and the time it was made."""

    folder: Path
    name: str = ""
    version: str = ""
    finished: str = ""


@dataclass(frozen=True)
class Comparison:
    """One system by one metric on one data set, candidate minus baseline, over the utterances that both scored.

    Attributes:
        dataset, metric, protocol: what was compared; `key` is the metric with its protocol where there are several.
        system, candidate: name of the system in the baseline and in the candidate.
        outcome: "regression" and "improvement" need a difference beyond `threshold` and p_holm < alpha; "moved" is
            such a difference of a metric whose better direction is not known; "below threshold" is significant and
            too small to count, "not significant" large enough and not sure, "no difference" neither, "equal" the
            same scores. "too few" and "unavailable" were not tested.
        detail: why there is no test; else empty.
        n, units, unit: utterances; independent units the test ranks, and what they are ("speakers", "utterances").
        baseline_mean, candidate_mean, difference, low, high: in the metric's unit, with the interval of the difference
            at the level 1 - alpha.
        p, p_holm: Wilcoxon's test, and the same corrected over all comparisons of the call.
        threshold: of the gate, in the metric's unit.
        detectable: a difference of this size would more likely than not have been found; None where none would, because
            even the smallest p of so few units is above alpha after correction, or where nothing varies.
        testable: whether any difference could have been significant.
    """

    dataset: str
    metric: str
    protocol: str
    key: str
    system: str
    candidate: str
    outcome: Outcome
    threshold: float
    detail: str = ""
    n: int = 0
    units: int = 0
    unit: str = "utterances"
    baseline_mean: float | None = None
    candidate_mean: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None
    testable: bool = True


@dataclass(frozen=True)
class Quantity:
    """A number of a whole system, such as its bits per frame: reported, and held against a limit where one is set.

    Attributes:
        system, candidate: names in the baseline and in the candidate.
        name: a column of systems.parquet.
        before, after: values, None where there is none.
        limit: of the gate, or None.
        exceeded: whether the change is beyond the limit.
    """

    system: str
    candidate: str
    name: str
    before: float | None
    after: float | None
    limit: Limit | None = None
    exceeded: bool = False

    @property
    def change(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Speed:
    """A real-time factor ("rtf_encode", "rtf_decode") in both runs, on equal hardware."""

    system: str
    candidate: str
    name: str
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """Above 1 is slower than the baseline."""
        return self.after / self.before


@dataclass(frozen=True)
class Finding:
    """Something to act on.

    Attributes:
        kind: "difference", "failures", "exact", "limit" or "speed".
        outcome: a "regression" decides; an "improvement" or a "warning" is told.
        system: name in the baseline.
        metric: key of the metric, of the quantity, or of the real-time factor.
        dataset: empty for what holds for a whole system.
        text: one sentence.
    """

    kind: Literal["difference", "failures", "exact", "limit", "speed"]
    outcome: Literal["regression", "improvement", "warning"]
    system: str
    metric: str
    dataset: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """Of one call.

    Attributes:
        baseline, candidate: the runs.
        gate: what was decided by.
        reasons: why the runs are not comparable; empty where they are.
        findings: regressions first, then warnings, then improvements.
        comparisons: in the order of systems and metrics.
        quantities, speeds: of whole systems.
        notes: what a reader must know.
    """

    baseline: Side
    candidate: Side
    gate: Gate
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    speeds: tuple[Speed, ...] = ()
    notes: tuple[str, ...] = ()

    def found(self, outcome: str) -> list[Finding]:
        """The findings of one outcome."""
        return [finding for finding in self.findings if finding.outcome == outcome]

    @property
    def decision(self) -> Decision:
        if self.reasons:
            return "not comparable"
        if self.found("regression"):
            return "regression"
        return "better" if self.found("improvement") else "same"

    @property
    def exit_status(self) -> int:
        """0 same or better, 1 regression, 2 not comparable."""
        return EXIT_STATUS[self.decision]

    @property
    def headline(self) -> str:
        """The decision and what it rests on, in one sentence."""
        tested = [c for c in self.comparisons if c.p_holm is not None]
        if self.decision == "not comparable":
            return f"not comparable: {len(self.reasons)} reason{'s' if len(self.reasons) > 1 else ''}"
        units = sorted(
            {f"{c.n:,} utterances" + (f" ({c.units} speakers)" if c.unit == "speakers" else "") for c in tested}
        )
        counted = f"{len(tested):,} comparison{'' if len(tested) == 1 else 's'} of {' / '.join(units) or 'none'}"
        regressions, improvements = len(self.found("regression")), len(self.found("improvement"))
        parts = [f"{number} {word}{'s' if number > 1 else ''}" for number, word in
                 ((regressions, "regression"), (improvements, "improvement")) if number]  # fmt: skip
        return f"{self.decision}: {' and '.join(parts) or 'no regression'} in {counted}"
