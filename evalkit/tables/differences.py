"""The differences to a baseline as Markdown, as LaTeX and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from evalkit.stats.differences import ALPHA, MARKS, marked
from evalkit.tables import table as tables
from evalkit.tables.cells import MISSING, format_number, mark_legend, probability, signed
from evalkit.tables.console import terminal_grid
from evalkit.tables.markup import PACKAGES, latex_float, latex_tabular, markdown_heading, markdown_page, markdown_table
from evalkit.tables.notes import METHOD, ONE_TRAINING, out_of_reach, trained_once
from evalkit.tables.summary import MetricFormat, metric_format, metric_keys
from evalkit.text import printable

NAME_WIDTH = 24
HEAD = ("System", "n", "units", "difference", "95 % interval", "p", "p (Holm)", "d_z", "r", "verdict")


def differences_markdown(differences: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """Markdown: one table a metric (and data set), `notes` below. Rows without a shared utterance are left out."""
    parts = []
    for name, style, rows in _families(differences):
        parts += [markdown_heading(name, 3), markdown_table(_table(rows, style))]
    return markdown_page(title, parts, notes)


def differences_latex(differences: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """LaTeX: one `table*` a metric (and data set), `notes` under the last."""
    families = list(_families(differences))
    lines = [PACKAGES]
    for position, (name, style, rows) in enumerate(families):
        body = latex_tabular(_table(rows, style))
        below = notes if position == len(families) - 1 else []
        lines += [*latex_float(f"{title}: {name}", body, below, f"{title} {name}"), ""]
    return "\n".join(lines)


def _table(rows: Sequence[Mapping[Any, Any]], style: MetricFormat) -> tables.Table:
    return tables.Table(HEAD, [difference_texts(row, style) for row in rows])


def method_notes(differences: pd.DataFrame, units: str, systems: pd.DataFrame) -> list[str]:
    """How the differences were computed, as sentences; `units` such as "27 speakers", `systems` rows of systems."""
    baseline = str(differences["baseline"].iloc[0])
    once = trained_once(systems)
    legend = mark_legend(differences["verdict"], baseline, once)
    notes = [
        "difference: mean of system minus baseline over the n utterances that both scored, with its 95 % "
        f"interval over {units}.",
        f"{legend}: {METHOD.format(units=units)}{out_of_reach(differences)}" + (f" {ONE_TRAINING}" if once else ""),
        "p (Holm): corrected for all systems compared on one metric but the known answers, which have none. d_z: "
        "mean over standard deviation of the units' mean differences. r: matched-pairs rank-biserial correlation, "
        "from -1 (every unit lower) to 1 (every higher).",
    ]
    untouched = [name for name, _, rows in _families(differences, everything=True) if not rows]
    if untouched:
        notes.append(f"No utterance was scored of both: {', '.join(untouched)}.")
    return notes


def render_differences(differences: pd.DataFrame, systems: pd.DataFrame, width: int = 100) -> Table:
    """A table of at most about `width` characters (65 at least): metric, system, difference, p, effect; legend below.

    Rows without a shared utterance are left out.
    """
    outer = Table.grid()
    families = list(_families(differences))
    if not families:
        scored = "no utterance was scored of both a system and the baseline"
        outer.add_row(Text("no system beside the baseline" if differences.empty else scored, style="dim"))
        return outer
    table = terminal_grid()
    baseline = str(differences["baseline"].iloc[0])
    name_width = min(NAME_WIDTH, max(12, (width - 45) // 2))
    for heading in ("metric", "system"):
        table.add_column(heading, max_width=name_width, overflow="fold")
    table.add_column(Text("difference", justify="right"))
    for heading in ("p (Holm)", "d_z"):
        table.add_column(heading, justify="right")
    widest = max(len(_difference(row, style)) for _, style, rows in families for row in rows)
    for name, style, rows in families:
        for position, row in enumerate(rows):
            # Padded here: rich would strip the blank of a missing mark, and numbers would not stand below numbers.
            number = f"{_difference(row, style).rjust(widest)} {MARKS.get(row['verdict'], ' ')}"
            found = "bold" if row["verdict"] else "dim"
            table.add_row(
                Text(name if position == 0 else ""),
                Text(printable(str(row["system"])), style=found),
                Text(number, style=found),
                Text(probability(row["p_holm"])),
                Text(signed(row["effect_dz"], 2)),
                end_section=position == len(rows) - 1,
            )
    outer.add_row(table)
    outer.add_row("")
    marks = mark_legend(differences["verdict"], baseline, trained_once(systems))
    legend = (
        f"a ± b: mean difference to {baseline}, half of its 95 % interval; {marks} (p < {ALPHA:g}); d_z: effect size."
    )
    outer.add_row(Text(legend + out_of_reach(differences), style="dim"))
    return outer


def _families(
    differences: pd.DataFrame, everything: bool = False
) -> Iterator[tuple[str, MetricFormat, list[dict[Any, Any]]]]:
    """(heading, format, rows with a shared utterance) of each metric, protocol and data set in order."""
    several = differences["dataset"].nunique() > 1
    keyed = differences.assign(key=metric_keys(differences))
    for (dataset, key), rows in keyed.groupby(["dataset", "key"], sort=False):
        style = metric_format(str(key))
        heading = f"{style.heading} {style.arrow}".strip() + (f", {dataset}" if several else "")
        shared = rows[rows["n"] > 0].to_dict("records")
        if shared or everything:
            yield heading, style, shared


def difference_texts(row: Mapping[Any, Any], style: MetricFormat) -> list[str]:
    """A row of the differences as printed, in the order of HEAD."""
    decimals = style.decimals + 1
    interval = (
        MISSING if math.isnan(row["low"]) else f"[{signed(row['low'], decimals)}, {signed(row['high'], decimals)}]"
    )
    return [
        str(row["system"]),
        f"{row['n']:,}",
        f"{row['units']:,}",
        signed(row["difference"], decimals),
        interval,
        probability(row["p"]),
        probability(row["p_holm"]),
        signed(row["effect_dz"], 2),
        signed(row["effect_rank"], 2),
        marked(row["verdict"]),
    ]


def _difference(row: dict[Any, Any], style: MetricFormat) -> str:
    decimals = style.decimals + 1  # differences are smaller than what they are between
    number = signed(row["difference"], decimals)
    return number if math.isnan(row["low"]) else f"{number} ± {format_number((row['high'] - row['low']) / 2, decimals)}"
