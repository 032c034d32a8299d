"""The command that guards a codec: two runs compared, the decision as exit status. Imports as in cli.py."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from q2d2.errors import UserError

if TYPE_CHECKING:
    from evalkit.gate import Gate, Verdict

compare_app = typer.Typer(rich_markup_mode=None)


class Format(StrEnum):
    """For people, for a comment on a pull request, for programs, for continuous integration."""

    text = "text"
    markdown = "markdown"
    json = "json"
    junit = "junit"


@contextlib.contextmanager
def _broken_is_two() -> Iterator[None]:
    """Exit status 1 means a regression here, so whatever else goes wrong, a defect included, must not give it."""
    try:
        yield
    except UserError as error:
        from evalkit.text import printable

        typer.echo(f"evalkit: {printable(str(error))}", err=True)  # it may name systems of strangers
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"evalkit: {where}{error.strerror or error}", err=True)
    except typer.Exit:
        raise
    except Exception:
        traceback.print_exc()
    else:
        return
    raise typer.Exit(2)


@compare_app.command(
    epilog="Examples:  evalkit compare results/tiny runs/tiny  |  "
    "evalkit compare main/run branch/run --gate gate.yaml --format markdown --out comment.md  |  "
    "evalkit compare results/tiny runs/mine --system rhombic=mine"
)
def compare(
    baseline: Annotated[Path, typer.Argument(help="Folder of the run that is known to be good.")],
    candidate: Annotated[Path, typer.Argument(help="Folder of the run to be judged.")],
    gate: Annotated[
        str | None, typer.Option(metavar="FILE", help="YAML: thresholds, alpha, limits; default: built in.")
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME or BASE=CAND", help="Compare only this system; may be repeated."),
    ] = None,
    format: Annotated[Format, typer.Option(help="How the result is written.")] = Format.text,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there; default: to the terminal.")] = None,
) -> None:
    """Compare two runs utterance by utterance and say whether the candidate is worse, better or the same.

    Worse is a difference beyond its metric's threshold that is significant after Holm's correction over all metrics and
    systems; see docs/gate.md. Exit status: 0 same or better, 1 regression, 2 not comparable or broken.
    """
    with _broken_is_two():
        from evalkit.gate import load_gate

        verdict = _verdict(baseline, candidate, load_gate(gate), system or [])
        _write(verdict, format, out)
        raise typer.Exit(verdict.exit_status)


def _verdict(baseline: Path, candidate: Path, gate: Gate, systems: list[str]) -> Verdict:
    """Runs that cannot be read are a verdict too: whoever reads the report must find the reason there."""
    from evalkit.gate import Side, Verdict, compare_runs
    from evalkit.run.saved_run import RunError, load_run

    runs, reasons = [], []
    for name, folder in (("baseline", baseline), ("candidate", candidate)):
        try:
            runs.append(load_run(folder))
        except RunError as error:
            reasons.append(f"{name}: {error}")
    if reasons:
        return Verdict(Side(baseline), Side(candidate), gate, tuple(reasons))
    return compare_runs(runs[0], runs[1], gate, systems)


def _write(verdict: Verdict, format: Format, out: Path | None) -> None:
    from rich.console import Console

    from evalkit.gate.as_text import render_text
    from evalkit.gate.formats import FORMATS
    from q2d2.files import write_atomically

    if out is not None:
        write_atomically(out, FORMATS[format](verdict))
        typer.echo(f"{verdict.headline}; written to {out}")
    elif format is Format.text:
        Console(highlight=False).print(render_text(verdict))
    else:
        typer.echo(FORMATS[format](verdict), nl=False)
