"""`evalkit report`: finished runs as one page to look at and listen to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.options import TrustCode

report_app = typer.Typer(rich_markup_mode=None)


@report_app.command(
    epilog="Examples:  evalkit report runs/quick  |  evalkit report results/tiny --out tiny.html --listen 0  |  "
    "evalkit report runs/a runs/b --out a-and-b.html"
)
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs or sweeps.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The page; default: RUN/report.html, of several: report.html."
        ),
    ] = None,
    listen: Annotated[
        int, typer.Option(metavar="N", help="Utterances whose audio is put into the page; 0: none.", min=0)
    ] = 6,
    trust_code: TrustCode = False,
) -> None:
    """Write one page about finished runs: tables, charts, audio, protocol. It opens from the disk, without a server.

    Systems of several runs share one table as "run: system", compared with the baseline of the first.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from evalkit.report.page import write_report
    from evalkit.run.saved_run import load_run

    loaded = [load_run(run) for run in runs]
    columns = (TextColumn("audio made again, systems"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Bar(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task("")

    def seen(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()  # not before there is something to wait for

    try:
        path = write_report(loaded, out, listen, seen, trust_code)
    finally:
        bar.stop()
    typer.echo(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
