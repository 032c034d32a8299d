"""Two runs compared: first whether they may be, then everything that is better or worse."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.gate.audio import check_audio
from evalkit.gate.availability import check_availability, failure_findings
from evalkit.gate.counterparts import Paired, align_datasets, listed, pair_systems
from evalkit.gate.exact import check_exact, check_exact_names, exact_findings
from evalkit.gate.matching import check_anchors, check_protocols, check_utterances
from evalkit.gate.phrases import difference_text
from evalkit.gate.quantities import compare_quantities, compare_speeds, limit_findings, speed_findings
from evalkit.gate.rows import Rows, check_columns, read_rows
from evalkit.gate.scores import compare_scores
from evalkit.gate.settings import Gate
from evalkit.gate.verdict import Comparison, Finding, Side, Verdict
from evalkit.run.saved_run import RunError, SavedRun
from evalkit.tables import metric_format

ORDER = ("regression", "warning", "improvement")


def compare_runs(baseline: SavedRun, candidate: SavedRun, gate: Gate, systems: Sequence[str] = ()) -> Verdict:
    """Compare a candidate with a baseline.

    Args:
        baseline, candidate: finished runs.
        gate: what counts, and which runs are comparable.
        systems: "NAME" or "BASELINE=CANDIDATE" each; none for all of the baseline, by name.

    Raises:
        GateError: `systems` or the gate name something that is in neither run.
    """
    sides = (describe_side(baseline), describe_side(candidate))
    gate.check_names(sorted({str(m) for run in (baseline, candidate) for m in run.utterances.get("metric", ())}))
    try:
        check_columns(baseline)
        check_columns(candidate)
        renamed, reasons, notes = align_datasets(baseline, candidate)
        before, after = read_rows(baseline, gate.metrics), read_rows(candidate, gate.metrics, renamed)
    except RunError as error:
        return Verdict(*sides, gate, (str(error),))
    paired = pair_systems(before, after, systems)
    notes = (*notes, *paired.notes)
    reasons = (*reasons, *paired.reasons)
    if not reasons:
        problems, remarks = _check(before, after, paired, gate)
        reasons, notes = tuple(problems), (*notes, *remarks)
    if reasons:
        return Verdict(*sides, gate, reasons, notes=notes)
    return _judge(sides, before, after, paired, gate, notes)


def describe_side(run: SavedRun) -> Side:
    """A run as reports name it."""
    version, finished = (str(run.description.get(key) or "") for key in ("version", "finished"))
    return Side(run.folder, run.name, version, finished)


def _check(before: Rows, after: Rows, paired: Paired, gate: Gate) -> tuple[list[str], list[str]]:
    """Reasons and notes of everything that must be equal before scores mean anything."""
    check_exact_names(before, gate)
    pairs = paired.pairs
    reasons = list(check_protocols(before, after, pairs))
    found = [check_utterances(before, after, pairs, gate), check_audio(before, after, pairs)]
    if not reasons and not any(problems for problems, _ in found):
        # Only then: what follows from a mixed-up test set would be the same cause told again.
        found += [check_anchors(before, after, gate), check_availability(before, after, pairs, gate)]
        reasons += check_exact(before, after, pairs, gate)
    return (
        reasons + [reason for problems, _ in found for reason in problems],
        [note for _, remarks in found for note in remarks],
    )


def _judge(
    sides: tuple[Side, Side], before: Rows, after: Rows, paired: Paired, gate: Gate, notes: Sequence[str]
) -> Verdict:
    pairs = paired.pairs
    comparisons = compare_scores(before, after, pairs, gate)
    quantities, reasons = compare_quantities(before, after, pairs, gate)
    speeds, remarks = compare_speeds(before, after, pairs)
    findings = [
        *_difference_findings(comparisons),
        *failure_findings(before, after, pairs, gate),
        *exact_findings(before, after, pairs, gate),
        *limit_findings(quantities),
        *speed_findings(speeds, gate),
    ]
    findings.sort(key=lambda finding: ORDER.index(finding.outcome))
    tested = [one for one in comparisons if one.p is not None]
    if not tested and not any(finding.outcome == "regression" for finding in findings):
        reasons.append("nothing to compare: no metric has enough scores in both runs")
    for one in comparisons:
        if one.outcome == "too few" and one.metric in gate.require:
            reasons.append(f"{one.key} of {one.system} is required: {one.detail}")
    if not any(finding.outcome == "regression" for finding in findings):
        reasons += _undecidable(comparisons, len(tested), gate)
    remarks += [*_blind(comparisons, len(tested)), *_insensitive(comparisons)]
    return Verdict(
        *sides, gate, tuple(reasons), tuple(findings), tuple(comparisons), tuple(quantities), tuple(speeds),
        (*notes, *remarks),
    )  # fmt: skip


def _difference_findings(comparisons: Sequence[Comparison]) -> list[Finding]:
    found = []
    for one in comparisons:
        if one.outcome == "regression" or one.outcome == "improvement":
            found.append(Finding("difference", one.outcome, one.system, one.key, one.dataset, difference_text(one)))
        elif one.outcome == "moved":
            text = f"{difference_text(one)}; whether that is better is not known: its metric is not installed here"
            found.append(Finding("difference", "warning", one.system, one.key, one.dataset, text))
    return found


def _undecidable(comparisons: Sequence[Comparison], num_tests: int, gate: Gate) -> list[str]:
    """Scores that are worse by more than the threshold where no test could ever confirm it: no answer, so no pass."""
    lost = []
    for one in comparisons:
        better = metric_format(one.metric).higher_is_better
        if one.outcome == "not significant" and not one.testable and one.difference is not None and better is not None:
            worse = (one.difference < 0) == better
            lost += [one] if worse else []
    if not lost:
        return []
    first = lost[0]
    return [
        f"cannot be decided: {first.key} of {first.system} is worse by {abs(first.difference or 0):.4g}, more than its "
        f"threshold {first.threshold:g}"
        + (f" (and {len(lost) - 1} more like it)" if len(lost) > 1 else "")
        + f", and {first.units} {first.unit} are too few for any of {num_tests} tests to be significant at alpha "
        f"{gate.alpha:g}; score more {first.unit}, name fewer metrics (metrics: [...]) or systems (--system)"
    ]


def _blind(comparisons: Sequence[Comparison], num_tests: int) -> list[str]:
    """What this gate could not have found."""
    blind = [one for one in comparisons if not one.testable]
    if not blind:
        return []
    which = f"none of {num_tests} tests" if len(blind) == num_tests else f"{len(blind)} of {num_tests} tests never"
    return [
        f"{blind[0].units} {blind[0].unit} are too few: {which} could have been significant, "
        "however large the difference"
    ]


def _insensitive(comparisons: Sequence[Comparison]) -> list[str]:
    """Where nothing was found, and a difference has to be larger than the threshold to be found."""
    lost = [
        f"{one.key} of {one.system} from {one.detectable:.2g} (threshold {one.threshold:g})"
        for one in comparisons
        if one.outcome in ("no difference", "not significant")
        and one.detectable is not None
        and one.detectable > one.threshold > 0
    ]
    return [f"smaller differences would probably have been missed: {listed(lost)}"] if lost else []
