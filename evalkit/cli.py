"""Command line: parses, calls, prints. Heavy imports happen inside the commands, so that --help is instant."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from q2d2.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.outputs import RunResult


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
data_app = typer.Typer(help="Download and inspect speech corpora.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")


@app.command(
    epilog="Examples:  evalkit run quick  |  evalkit run librispeech --dry-run  |  "
    "evalkit run tiny --set data.test.root=~/corpora --set train.steps=200 --out runs/short"
)
def run(
    experiment: Annotated[str, typer.Argument(help="Built-in name (see `evalkit experiments`) or a YAML file.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the experiment; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/<name of the experiment>.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Scoring processes; default: one per core.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop; nothing is written.")] = False,
) -> None:
    """Train or load every system of EXPERIMENT, score it on the test set, and write tables and plots.

    The plan is printed first. Run the same command again after an interruption: finished work is skipped, and scores
    that failed are tried again. The exit status is 1 if a score is missing.
    """
    from rich.console import Console

    from evalkit.experiment import load_experiment
    from evalkit.plan import make_plan, show_plan

    console = Console()
    loaded = load_experiment(experiment, set_ or [])
    plan = make_plan(loaded, out or Path("runs") / loaded.name)
    show_plan(plan, console)
    if dry_run:
        return

    from evalkit.runner import run as run_plan

    result = run_plan(plan, console, device, workers)
    _show(result, console)
    if result.num_failed:
        raise typer.Exit(1)


def _show(result: RunResult, console: Console) -> None:
    from evalkit.tables import render_console, summarize

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    console.print()
    console.print(render_console(summarize(result.utterances, result.systems), console.width))
    for plot, reason in result.plots.skipped.items():
        line(f"not drawn: {plot} ({reason})")
    line("tables:")
    for path in result.tables:
        line(f"  {path}")
    line("plots, each as SVG beside it:")
    for path in result.plots.files:
        if path.suffix == ".png":
            line(f"  {path}")
    if result.num_failed:
        line(f"{result.num_failed:,} of {len(result.utterances):,} scores are missing:")
        for failure in result.failures():
            line(f"  {failure}")


@app.command()
def experiments() -> None:
    """List the experiments that ship with the package."""
    from evalkit.experiment import built_in_experiments, load_experiment

    for name in built_in_experiments():
        typer.echo(f"{name:14} {load_experiment(name).title}")


@data_app.command("fetch", epilog="Example:  evalkit data fetch librispeech --part test-clean --to ~/corpora")
def fetch_command(
    dataset: Annotated[str, typer.Argument(help="librispeech, libritts or ljspeech.")],
    part: Annotated[str | None, typer.Option(help="Part of the corpus, such as test-clean.")] = None,
    to: Annotated[Path, typer.Option(help="Folder that receives the corpus.")] = Path("corpora"),
) -> None:
    """Download a corpus, verify its published checksum and unpack it.

    Run the same command again after an interruption: the download goes on where it stopped.
    """
    from evalkit.datasets.fetch import fetch, progress_bar

    with progress_bar() as progress:
        fetched = fetch(dataset, part, to, progress)
    typer.echo(str(fetched))


@data_app.command("check", epilog="Example:  evalkit data check librispeech --part test-clean --root ~/corpora")
def check_command(
    dataset: Annotated[str, typer.Argument(help="A dataset's name.")],
    part: Annotated[str | None, typer.Option(help="Part of the corpus; default: the dataset's own.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the corpus; default: EVALKIT_<DATASET>_ROOT.")] = None,
) -> None:
    """Read every file of a corpus and name those that are damaged, empty, too short or silent."""
    from evalkit.datasets import check_corpus, load_corpus

    corpus = load_corpus(dataset, part, root)
    typer.echo(corpus.describe())
    problems = [problem for problem in check_corpus(corpus) if problem not in corpus.problems]
    typer.echo(f"decoded: {len(corpus.utterances):,}, of which unusable: {len(problems):,}")
    for problem in problems:
        typer.echo(f"  {problem}")
    if problems or corpus.problems:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: what the user can mend is one line and exit status 1, never a traceback."""
    try:
        app()
    except UserError as error:
        sys.exit(f"evalkit: {error}")
    except OSError as error:  # a full disk, a folder that may not be written, a lost connection
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = "; make room and run the same command again, finished work is kept" if full else ""
        sys.exit(f"evalkit: {where}{error.strerror or error}{hint}")
