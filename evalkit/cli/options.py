"""What the commands that score share: their options, the scorer, and what is printed at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from evalkit.run.evaluation import Evaluation
    from evalkit.run.outputs import RunResult
    from evalkit.scoring.workers import Scorer
    from q2d2.trackers import Tracking

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
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Follow the run in this tracker: tensorboard, wandb, trackio or an installed one; may be repeated. "
        "Default: tensorboard.",
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help='Import classes named as "package.module:Class", also from the working directory. That runs their code: '
        "read it first.",
    ),
]
MAX_GPU_PROCESSES = 4


def make_tracking(project: str, names: Sequence[str] | None) -> Tracking:
    """The trackers of --track, refused here where one is unknown or not installed."""
    from q2d2.trackers import Tracking

    tracking = Tracking(project, tuple(dict.fromkeys(names))) if names else Tracking(project)
    tracking.require()
    return tracking


def make_scorer(
    evaluation: Evaluation, device: str, workers: int | None, time_limit: float, no_cache: bool
) -> tuple[torch.device, Scorer]:
    import joblib

    from evalkit.machine import select_device
    from evalkit.scoring.cache import Cache
    from evalkit.scoring.workers import Scorer

    chosen = select_device(device)
    cache = None if no_cache else Cache.from_environment()
    # Every process holds the networks: on a GPU there is room for a few.
    usual = joblib.cpu_count() if chosen.type == "cpu" else min(joblib.cpu_count(), MAX_GPU_PROCESSES)
    return chosen, Scorer(evaluation.protocol, cache, workers or usual, chosen.type, time_limit)


def finish(result: RunResult, scorer: Scorer, console: Console, allow_failures: int, required: Sequence[str]) -> None:
    """Print what a run gave; exit status 1 if too many scores failed, or a required metric could not run."""
    from evalkit.tables import compare_with_baseline, render_console, render_differences, render_published, summarize
    from evalkit.tables.notes import pair_notes

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    console.print()
    differences = None
    if result.baseline is not None:
        differences = compare_with_baseline(result.utterances, result.systems, result.baseline)
    console.print(render_console(summarize(result.utterances, result.systems, differences), console.width))
    if differences is not None and len(differences):
        console.print(render_differences(differences, result.systems, console.width))
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
    line(f"to look at all of it and listen: evalkit report {result.folder}")
    if scorer.cache is not None and scorer.cache.problem:
        line(f"note: {scorer.cache.problem}")
    for metric, reason in result.unavailable().items():
        line(f"{metric} is unavailable: {reason.removeprefix(f'{metric}: ')}")
    if lost := result.unavailable_systems():
        line(f"unavailable: {', '.join(lost)}; what to get is said above, under the tables, and by evalkit doctor")
    if result.num_failed:
        line(f"{result.num_failed:,} of {len(result.utterances):,} scores failed:")
        for failure in result.failures():
            line(f"  {failure}")
    if result.num_failed > allow_failures or set(required) & set(result.unavailable()):
        raise typer.Exit(1)
