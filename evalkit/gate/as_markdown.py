"""A verdict for a comment on a pull request: decision first, what moved, the rest folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from evalkit.gate.phrases import MARKS, MISSING, OUTCOMES, decimals, interval, shown, shown_p
from evalkit.gate.verdict import Comparison, Finding, Verdict
from evalkit.tables import metric_format
from evalkit.tables.markup import markdown_table
from evalkit.tables.table import Table
from evalkit.text import markdown_code, markdown_text

SIGNS = {"same": "✅", "better": "✅", "regression": "❌", "not comparable": "⚠️"}
HEADINGS = {"regression": "Worse", "warning": "Warnings", "improvement": "Better"}
# GitHub takes comments of up to 65,536 characters; in bytes, as a variable of a shell must hold it too.
MAX_BYTES = 60_000
HEAD = (
    "system",
    "metric",
    "baseline",
    "candidate",
    "difference",
    "interval",
    "threshold",
    "found from",
    "p (Holm)",
    "n",
    "result",
)


def to_markdown(verdict: Verdict) -> str:
    """GitHub's Markdown, no longer than a comment may be: folded parts that would not fit are left out, and said."""
    text = "\n\n".join(_always(verdict))
    if _size(text) > MAX_BYTES:
        text = text.encode()[:MAX_BYTES].decode(errors="ignore").rpartition("\n")[0]
        text += "\n\nCut here: more than a comment may hold."
    for summary, body in _folded(verdict):
        part = f"\n\n<details><summary>{summary}</summary>\n\n{body}\n\n</details>"
        if _size(text) + _size(part) > MAX_BYTES:
            part = f"\n\n{summary}: left out, more than a comment may hold."
        text += part
    return text + "\n"


def _size(text: str) -> int:
    return len(text.encode())


def _always(verdict: Verdict) -> Iterator[str]:
    yield f"### {SIGNS[verdict.decision]} {markdown_text(verdict.headline)}"
    sides = (("baseline", verdict.baseline), ("candidate", verdict.candidate))
    yield ", ".join(
        f"{name} {markdown_code(str(side.folder))}" + (f" ({markdown_text(side.version)})" if side.version else "")
        for name, side in sides
    )
    if verdict.reasons:
        yield _list(markdown_text(reason) for reason in verdict.reasons)
    for outcome, heading in HEADINGS.items():
        if found := verdict.found(outcome):
            yield f"**{heading}**\n\n" + _list(map(_finding, found))


def _folded(verdict: Verdict) -> Iterator[tuple[str, str]]:
    if verdict.comparisons and not verdict.reasons:
        yield f"All {len(verdict.comparisons):,} comparisons", _table(HEAD, list(map(_comparison, verdict.comparisons)))
    if verdict.quantities:
        rows = [
            [markdown_code(one.system), markdown_text(one.name)]
            + [MISSING if value is None else f"{value:.6g}" for value in (one.before, one.after, one.change)]
            + [_limit(one.limit)]
            for one in verdict.quantities
        ]
        yield "Rates and codes", _table(("system", "", "baseline", "candidate", "change", "limit"), rows)
    if verdict.speeds:
        rows = [
            [
                markdown_code(one.system),
                markdown_text(one.name),
                f"{one.before:.4g}",
                f"{one.after:.4g}",
                f"{one.ratio:.2f}",
            ]
            for one in verdict.speeds
        ]
        yield "Speed", _table(("system", "", "baseline", "candidate", "ratio"), rows)
    if verdict.notes:
        yield "Notes", _list(map(markdown_text, verdict.notes))


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _finding(finding: Finding) -> str:
    metric = "" if finding.kind in ("difference", "limit", "speed") else f"{markdown_text(finding.metric)} "
    return f"{markdown_code(finding.system)}: {metric}{markdown_text(finding.text)}"


def _comparison(one: Comparison) -> list[str]:
    digits, style = decimals(one), metric_format(one.key)
    name = markdown_code(one.system)
    if one.candidate != one.system:
        name += f" → {markdown_code(one.candidate)}"
    return [
        name,
        markdown_text(f"{style.heading} {style.arrow}".strip()),
        shown(one.baseline_mean, digits),
        shown(one.candidate_mean, digits),
        shown(one.difference, digits, True),
        markdown_text(interval(one)),
        f"{one.threshold:g}",
        shown(one.detectable, digits),
        markdown_text(shown_p(one.p_holm)),
        f"{one.n:,}",
        f"{MARKS.get(one.outcome, '')} {OUTCOMES[one.outcome]}".strip(),
    ]


def _limit(limit: object) -> str:
    values = {} if limit is None else {name: value for name, value in vars(limit).items() if value is not None}
    return ", ".join(f"{markdown_text(name)} {value:g}" for name, value in values.items()) or MISSING


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Of cells that are Markdown already; system and metric are names."""
    return markdown_table(Table(head, rows, 2), str)
