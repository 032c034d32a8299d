"""A verdict as JUnit XML, which continuous integration shows as tests: one case a system and metric."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from evalkit.gate.phrases import OUTCOMES, difference_text
from evalkit.gate.verdict import Finding, Verdict
from evalkit.text import printable

SUITE = "evalkit compare"


def to_junit(verdict: Verdict) -> str:
    """An XML document. Runs that are not comparable are one case with an error; an unavailable metric is skipped."""
    suite = ElementTree.Element("testsuite", name=SUITE)
    if verdict.reasons:
        case = _case(suite, SUITE, "comparable")
        error = ElementTree.SubElement(case, "error", message=printable(verdict.reasons[0]), type="not comparable")
        error.text = "\n".join(map(printable, verdict.reasons))
    else:
        _cases(suite, verdict)
    ElementTree.SubElement(suite, "system-out").text = "\n".join(map(printable, [verdict.headline, *verdict.notes]))
    counts = {
        "tests": len(suite.findall("testcase")),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    root = ElementTree.Element("testsuites")
    root.append(suite)
    for element in (root, suite):
        for name, count in counts.items():
            element.set(name, str(count))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _cases(suite: ElementTree.Element, verdict: Verdict) -> None:
    left = list(verdict.findings)
    for one in verdict.comparisons:
        own = [
            f for f in left if (f.system, f.dataset) == (one.system, one.dataset) and f.metric in (one.key, one.metric)
        ]
        left = [finding for finding in left if finding not in own]
        case = _case(suite, one.system, f"{one.key} ({one.dataset})")
        if own:
            _told(case, own)
        elif one.outcome in ("unavailable", "too few"):
            ElementTree.SubElement(case, "skipped", message=printable(one.detail))
        else:
            _say(case, f"{OUTCOMES[one.outcome]}: {difference_text(one)}")
    seen = {(finding.system, finding.metric) for finding in left}
    for quantity in verdict.quantities:
        if quantity.limit is not None and (quantity.system, quantity.name) not in seen:
            _say(
                _case(suite, quantity.system, quantity.name), f"{quantity.before} -> {quantity.after}, within its limit"
            )
    for name in dict.fromkeys((finding.system, finding.metric, finding.dataset) for finding in left):
        system, metric, dataset = name
        own = [finding for finding in left if (finding.system, finding.metric, finding.dataset) == name]
        _told(_case(suite, system, f"{metric} ({dataset})" if dataset else metric), own)


def _case(suite: ElementTree.Element, system: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=printable(system), name=printable(name))


def _told(case: ElementTree.Element, findings: Sequence[Finding]) -> None:
    """The regressions among the findings as one failure, anything else as output."""
    worse = [finding for finding in findings if finding.outcome == "regression"]
    if worse:
        message = printable(worse[0].text)
        failure = ElementTree.SubElement(case, "failure", message=message, type=worse[0].kind)
        failure.text = "\n".join(printable(finding.text) for finding in worse)
    rest = [f"{finding.outcome}: {finding.text}" for finding in findings if finding.outcome != "regression"]
    if rest:
        _say(case, "\n".join(rest))


def _say(case: ElementTree.Element, text: str) -> None:
    ElementTree.SubElement(case, "system-out").text = "\n".join(map(printable, text.split("\n")))
