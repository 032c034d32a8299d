"""Command line: parses, calls, prints. Heavy imports happen inside the commands, so that --help is instant."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from evalkit.cli_checkpoints import checkpoints_app
from evalkit.cli_files import cache_app, data_app, weights_app
from evalkit.cli_tokens import tokens_app
from evalkit.cli_training import training_app
from q2d2.errors import Stopped, UserError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from evalkit.evaluation import Evaluation
    from evalkit.outputs import RunResult
    from evalkit.scoring import Scorer


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
app.add_typer(training_app)
app.add_typer(checkpoints_app)
app.add_typer(tokens_app)
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
app.add_typer(cache_app, name="cache")

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Workers = Annotated[
    int | None, typer.Option(help="Scoring processes; default: one per core, on a GPU at most 4.", min=1)
]
TimeLimit = Annotated[
    float, typer.Option(help="Seconds one metric may take for one utterance, loading included.", min=1, max=1e6)
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither use nor fill the cache of scores.")]
AllowFailures = Annotated[int, typer.Option(metavar="N", help="Exit with 0 if at most N scores failed.", min=0)]
Require = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC", help="Stop at once if this metric cannot run here; may be repeated."),
]
DEFAULT_METRICS = "utmos,pesq,stoi,vuv_f1"
MAX_GPU_PROCESSES = 4


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
    device: Device = "auto",
    workers: Workers = None,
    time_limit: TimeLimit = 300,
    no_cache: NoCache = False,
    require: Require = None,
    allow_failures: AllowFailures = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop; nothing is written.")] = False,
) -> None:
    """Train or load every system of EXPERIMENT, score it on the test set, and write tables and plots.

    The plan is printed first. Run the same command again after an interruption: finished work is skipped, and scores
    that failed are tried again. The exit status is 1 if a score failed.
    """
    from rich.console import Console

    from evalkit.experiment import load_experiment
    from evalkit.plan import make_plan, show_plan

    console = Console()
    loaded = load_experiment(experiment, set_ or [])
    plan = make_plan(loaded, out or Path("runs") / loaded.name)
    plan.evaluation.require(require or [])
    show_plan(plan, console)
    if dry_run:
        return

    from evalkit.runner import run as run_plan

    chosen, scorer = _scorer(plan.evaluation, device, workers, time_limit, no_cache)
    result = run_plan(plan, console, chosen, scorer)
    _finish(result, scorer, console, allow_failures, require or [])


@app.command(
    epilog="Examples:  evalkit score originals decoded/codec-a decoded/codec-b  |  "
    "evalkit score originals a=out/a/wav b=out/b/wav --metrics pesq,stoi --protocol paper --out runs/ab  |  "
    "evalkit score originals decoded --pairs pairs.csv --align"
)
def score(
    reference_dir: Annotated[Path, typer.Argument(help="Folder of the originals.")],
    estimate_dirs: Annotated[
        list[str], typer.Argument(metavar="ESTIMATE_DIR...", help="Folders of decoded audio, each DIR or NAME=DIR.")
    ],
    metrics: Annotated[str, typer.Option(help="Metrics with commas between them, or: all.")] = DEFAULT_METRICS,
    protocol: Annotated[str, typer.Option(help="strict or paper.")] = "strict",
    align: Annotated[bool, typer.Option("--align", help="Compensate constant delays.")] = False,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV with columns reference, estimate and, if known, speaker.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="System the others are compared with; default: the first of several.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/score"),
    device: Device = "auto",
    workers: Workers = None,
    time_limit: TimeLimit = 300,
    no_cache: NoCache = False,
    require: Require = None,
    allow_failures: AllowFailures = 0,
) -> None:
    """Score decoded audio, paired with the originals by file name, and write rows, tables and plots.

    Each folder of decoded audio is one system. Files without partner are listed. Run the same command again after an
    interruption: what is scored is kept, scores that failed are tried again. The exit status is 1 if a score failed.
    """
    from rich.console import Console

    from evalkit.evaluation import Evaluation
    from evalkit.folders import pair_folders, score_folders, show_pairing
    from evalkit.metrics import METRICS
    from evalkit.protocol import get_protocol

    console = Console()
    names = METRICS.names() if metrics == "all" else list(dict.fromkeys(metrics.split(",")))
    for name in names:
        METRICS.require(name)
    chosen_protocol = get_protocol(protocol, align)
    pairing = pair_folders(reference_dir, estimate_dirs, pairs, out)
    evaluation = Evaluation(
        folder=out,
        title=f"Decoded audio against {pairing.dataset}",
        notes=pairing.notes,
        dataset=pairing.dataset,
        utterances=pairing.references,
        metrics=tuple(names),
        protocol=chosen_protocol,
        baseline=pairing.baseline(baseline),
        examples=1,
    )
    evaluation.require(require or [])
    show_pairing(pairing, evaluation, console)
    _, scorer = _scorer(evaluation, device, workers, time_limit, no_cache)
    result = score_folders(pairing, evaluation, console, scorer)
    _finish(result, scorer, console, allow_failures, require or [])


def _scorer(
    evaluation: Evaluation, device: str, workers: int | None, time_limit: float, no_cache: bool
) -> tuple[torch.device, Scorer]:
    import joblib

    from evalkit.cache import Cache
    from evalkit.device import select_device
    from evalkit.scoring import Scorer

    chosen = select_device(device)
    cache = None if no_cache else Cache.from_environment()
    # Every process holds the networks: on a GPU there is room for a few.
    usual = joblib.cpu_count() if chosen.type == "cpu" else min(joblib.cpu_count(), MAX_GPU_PROCESSES)
    return chosen, Scorer(evaluation.protocol, cache, workers or usual, chosen.type, time_limit)


def _finish(result: RunResult, scorer: Scorer, console: Console, allow_failures: int, required: Sequence[str]) -> None:
    """Print what a run gave; exit status 1 if too many scores failed, or a required metric could not run."""
    from evalkit.outputs import pair_notes
    from evalkit.tables import compare_with_baseline, render_console, render_differences, render_published, summarize

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    console.print()
    differences = None
    if result.baseline is not None:
        differences = compare_with_baseline(result.utterances, result.systems, result.baseline)
    console.print(render_console(summarize(result.utterances, result.systems, differences), console.width))
    if differences is not None and len(differences):
        console.print(render_differences(differences, console.width))
    if result.paper is not None and result.published is not None:
        console.print(render_published(result.published, result.paper))
    for note in pair_notes(result.utterances):
        line(f"note: {note}")
    for plot, reason in result.plots.skipped.items():
        line(f"not drawn: {plot} ({reason})")
    line("tables:")
    for path in result.tables:
        line(f"  {path}")
    line("plots, each as SVG beside it:")
    for path in result.plots.files:
        if path.suffix == ".png":
            line(f"  {path}")
    if scorer.cache is not None and scorer.cache.problem:
        line(f"note: {scorer.cache.problem}")
    for metric, reason in result.unavailable().items():
        line(f"{metric} is unavailable: {reason.removeprefix(f'{metric}: ')}")
    for system, reason in result.unavailable_systems().items():
        line(f"{system} is unavailable: {reason.removeprefix(f'{system}: ')}")
    if result.num_failed:
        line(f"{result.num_failed:,} of {len(result.utterances):,} scores failed:")
        for failure in result.failures():
            line(f"  {failure}")
    if result.num_failed > allow_failures or set(required) & set(result.unavailable()):
        raise typer.Exit(1)


@app.command()
def experiments() -> None:
    """List the experiments that ship with the package."""
    from evalkit.experiment import built_in_experiments, load_experiment

    for name in built_in_experiments():
        typer.echo(f"{name:14} {load_experiment(name).title}")


def main() -> None:
    """Entry point: what the user can mend is one line and exit status 1, never a traceback."""
    try:
        app()
    except Stopped as error:
        if os.environ.get("RANK", "0") == "0":  # torchrun's other processes stopped at the same step
            typer.echo(f"evalkit: {error}", err=True)
        sys.exit(128 + signal.SIGTERM)
    except UserError as error:
        sys.exit(f"evalkit: {error}")
    except OSError as error:  # a full disk, a folder that may not be written, a lost connection
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = "; make room and run the same command again, finished work is kept" if full else ""
        sys.exit(f"evalkit: {where}{error.strerror or error}{hint}")
