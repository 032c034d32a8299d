"""A verdict on the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evalkit.gate.phrases import MARKS, MISSING, OUTCOMES, decimals, interval, shown, shown_p
from evalkit.gate.verdict import Comparison, Finding, Quantity, Verdict
from evalkit.tables import metric_format
from evalkit.tables.console import terminal_grid
from evalkit.text import printable

STYLES = {"regression": "bold red", "not comparable": "bold red", "better": "bold green", "same": "bold"}
HEADINGS = {"regression": "worse", "warning": "warning", "improvement": "better"}
QUIET = ("equal", "no difference", "unavailable")
MAX_ROWS = 40  # of comparisons; beyond it only those with something to say


def to_text(verdict: Verdict) -> str:
    """The report as plain text, 80 characters wide."""
    out = io.StringIO()
    Console(file=out, width=80, no_color=True, highlight=False).print(render_text(verdict))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def render_text(verdict: Verdict) -> RenderableType:
    """Decision first, then reasons, findings, the table, rates and speed that moved, notes."""
    return Group(*_parts(verdict))


def _parts(verdict: Verdict) -> Iterator[RenderableType]:
    yield Text(verdict.headline, style=STYLES[verdict.decision])
    for name, side in (("baseline", verdict.baseline), ("candidate", verdict.candidate)):
        about = ", ".join(part for part in (side.version, side.finished) if part)
        yield Text(f"{name:<10} {printable(str(side.folder))}{f' ({printable(about)})' if about else ''}", style="dim")
    if verdict.reasons:
        yield Text("")
        yield from (_item(reason) for reason in verdict.reasons)
    for outcome, heading in HEADINGS.items():
        if found := verdict.found(outcome):
            yield Text(f"\n{heading}")
            yield from (_finding(finding) for finding in found)
    if verdict.comparisons and not verdict.reasons:
        yield Text("")
        yield from _tables(verdict)
    if moved := [one for one in verdict.quantities if one.change]:
        yield Text("\nmoved, not tested")
        for system, of_system in groupby(moved, key=lambda one: one.system):
            yield _item(f"{system}: {', '.join(map(_quantity, of_system))}")
    if verdict.notes:
        yield Text("\nnotes")
        yield from (_item(note) for note in verdict.notes)


def _item(text: str) -> RenderableType:
    return Padding(Text(f"- {printable(text)}"), (0, 0, 0, 2), expand=False)


def _finding(finding: Finding) -> RenderableType:
    metric = "" if finding.kind in ("difference", "limit", "speed") else f"{finding.metric} "
    return _item(f"{finding.system}: {metric}{finding.text}")


def _quantity(one: Quantity) -> str:
    old, new = (MISSING if value is None else f"{value:.6g}" for value in (one.before, one.after))
    return f"{one.name} {old} -> {new}"


def _tables(verdict: Verdict) -> Iterator[RenderableType]:
    rows = list(verdict.comparisons)
    left_out = 0
    if len(rows) > MAX_ROWS:
        rows = [one for one in rows if one.outcome not in QUIET]
        left_out = len(verdict.comparisons) - len(rows)
    for (dataset, system, candidate), group in groupby(rows, key=lambda one: (one.dataset, one.system, one.candidate)):
        name = system if system == candidate else f"{system} -> {candidate}"
        yield Text(printable(f"{name}, {dataset}"), style="bold")
        yield _table(list(group))
    if left_out:
        yield Text(f"{left_out:,} more: {', '.join(QUIET)}", style="dim")
    level = 100 * (1 - verdict.gate.alpha)
    yield Text(
        f"difference: candidate minus baseline, with its {level:g} % interval; worse, better: beyond the threshold and "
        f"p < {verdict.gate.alpha:g}, corrected by Holm for all comparisons",
        style="dim",
    )


def _table(rows: list[Comparison]) -> Table:
    table = terminal_grid()
    table.add_column("metric", max_width=20, overflow="fold")
    for heading in ("difference", "interval", "beyond", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for one in rows:
        digits = decimals(one)
        style = metric_format(one.key)
        table.add_row(
            Text(printable(f"{style.label} {style.arrow}".strip())),
            shown(one.difference, digits, True),
            Text(interval(one)),
            f"{one.threshold:g}",
            shown_p(one.p_holm),
            f"{MARKS.get(one.outcome, '')} {OUTCOMES[one.outcome]}".strip(),
            style="" if one.outcome in MARKS else "dim",
        )
    return table
