"""The table that is printed, and the lines behind it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from q2d2.files import write_atomically
from studies.forensics.trap import Figure, Trap

SCHEMA_VERSION = 1
WIDTH = 150


def shown(figure: Figure) -> str:
    """Value with four significant digits, unit, what it is."""
    value = f"{figure.value:.4g}{' ' if figure.unit else ''}{figure.unit}"
    return f"{value}: {figure.what}{' (timed: noisy)' if figure.timed else ''}"


def print_report(traps: Sequence[Trap]) -> None:
    """The table, then `figure NAME VALUE` lines, four significant digits."""
    table = Table(box=box.SIMPLE_HEAD, show_lines=True, expand=True)
    for heading, ratio in (
        ("trap", 4),
        ("what the published code does, and this one", 6),
        ("measured", 8),
        ("over", 3),
    ):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for trap in traps:
        measured = [shown(figure) for figure in trap.figures.values()]
        measured += [f"missing: {trap.missing}"] if trap.missing else []
        over = f"{trap.n:,} {trap.of}" if trap.of else "-"
        cells = (trap.name, f"{trap.statement}\nHere: {trap.instead}.", "\n".join(measured), over)
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    for name, figure in figures(traps).items():
        print(f"figure {name} {figure.value:.4g}")


def figures(traps: Sequence[Trap]) -> dict[str, Figure]:
    """All figures by their full names."""
    return {name: figure for trap in traps for name, figure in trap.named.items()}


def write_json(path: Path, traps: Sequence[Trap], hardware: dict[str, Any]) -> None:
    """All traps in full precision.

    Raises:
        OSError: it cannot be written.
    """
    report = {"schema_version": SCHEMA_VERSION, "hardware": hardware, "traps": [trap.to_json() for trap in traps]}
    write_atomically(path, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
