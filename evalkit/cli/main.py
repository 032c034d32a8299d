"""Command line: parses, calls, prints. Heavy imports happen inside the commands, so that --help is instant."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from evalkit.cli.checkpoints import checkpoints_app
from evalkit.cli.compare import compare_app
from evalkit.cli.files import cache_app, data_app, doctor_app, weights_app
from evalkit.cli.geometry import geometry_app
from evalkit.cli.history import history_app
from evalkit.cli.report import report_app
from evalkit.cli.runs import runs_app
from evalkit.cli.score import score_app
from evalkit.cli.sweeps import sweeps_app
from evalkit.cli.tokens import tokens_app
from evalkit.cli.training import training_app
from evalkit.cli.tune import tune_app
from evalkit.text import shown
from q2d2.errors import Stopped, UserError
from q2d2.registry import leave_out_working_directory


class _Interruptible(TyperGroup):
    """Says how to go on where Ctrl-C would only say "Aborted"."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted; run the same command again to go on", err=True)
            sys.exit(130)


app = typer.Typer(
    cls=_Interruptible,
    help="Honest comparison of neural speech-codec bottlenecks: train or load, reconstruct, score, compare.",
    epilog="Start with: evalkit run quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(runs_app)
app.add_typer(score_app)
app.add_typer(report_app)
app.add_typer(compare_app)
app.add_typer(training_app)
app.add_typer(tune_app)
app.add_typer(checkpoints_app)
app.add_typer(tokens_app)
app.add_typer(doctor_app)
app.add_typer(geometry_app)
app.add_typer(history_app)
app.add_typer(sweeps_app, name="sweep")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Entry point: what the user can mend is one line and exit status 1, never a traceback."""
    leave_out_working_directory()
    try:
        app()
    except Stopped as error:
        if os.environ.get("RANK", "0") == "0":  # torchrun's other processes stopped at the same step
            typer.echo(f"evalkit: {error}", err=True)
        sys.exit(128 + signal.SIGTERM)
    except UserError as error:
        sys.exit(shown(f"evalkit: {error}"))
    except OSError as error:  # a full disk, a folder that may not be written, a lost connection
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = "; make room and run the same command again, finished work is kept" if full else ""
        sys.exit(shown(f"evalkit: {where}{error.strerror or error}{hint}"))
