"""The command that searches for a bottleneck on the user's own audio. Imports as in cli.py."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.options import Device, NoCache, TimeLimit

tune_app = typer.Typer(rich_markup_mode=None)


@tune_app.command(
    epilog="Examples:  evalkit tune --bits-per-frame 20 --audio ~/recordings --dry-run  |  "
    "evalkit tune --bits-per-frame 20 --audio ~/recordings --steps 300 --out runs/mine  |  "
    "evalkit tune --bits-per-frame 15 --families rhombic,d4,fsq --learning-rate 0.0005,0.005"
)
def tune(
    bits_per_frame: Annotated[float, typer.Option(help="Target rate; configurations are within half a bit of it.")],
    audio: Annotated[
        Path | None,
        typer.Option(help="Folder of audio files, split by speaker (first folder); default: the experiment's corpora."),
    ] = None,
    experiment: Annotated[str, typer.Option(help="Backbone and training: built-in name or a YAML file.")] = "tiny",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the experiment; may be repeated."),
    ] = None,
    families: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Tilings, lattices, fsq; default: all of them.")
    ] = None,
    learning_rate: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Search the learning rate too; default: the experiment's.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials of the search at most.", min=1)] = 40,
    steps: Annotated[
        int | None, typer.Option(help="Steps of a trial of the search; default: the experiment's.", min=1)
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="What is optimised; repeat it for further metrics of the finalists. Default: mel_distance."),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", help="Utterances scored in the search, and as many held out.", min=2)
    ] = 100,
    finalists: Annotated[int, typer.Option(help="Best of the search that are compared on held-out audio.", min=1)] = 3,
    seeds: Annotated[int, typer.Option(help="Trainings of each finalist and of the baseline.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the search.")] = Path("runs/tune"),
    workers: Annotated[
        int | None, typer.Option(help="Trials at a time; default: as many as there are cores.", min=1)
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of each trial.", min=1)] = 1,
    device: Device = "auto",
    time_limit: TimeLimit = 300,
    no_cache: NoCache = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print space, split and expected time; nothing is written to --out.")
    ] = False,
) -> None:
    """Search tilings, lattices and FSQ, levels and channels for a rate, and test the best on held-out audio.

    Every trial is a short training; those that fall behind are stopped early. The best few and the published rhombic
    configuration are then trained with new seeds at the experiment's full steps, and scored on audio that nothing was
    chosen by: the table says whether any surely differs from the baseline, and best.yaml runs the one named.

    Run the same command again after an interruption, or in a second shell to work along.
    """
    from joblib import cpu_count

    from evalkit.cli.terminal import Terminal
    from evalkit.machine import select_device
    from evalkit.tuning.settings import prepare

    settings = prepare(
        out,
        bits_per_frame,
        experiment=experiment,
        overrides=set_ or [],
        audio=audio,
        families=None if families is None else [name.strip() for name in families.split(",") if name.strip()],
        metrics=metric or ["mel_distance"],
        steps=steps,
        learning_rate=None if learning_rate is None else _pair(learning_rate),
        limit=limit,
    )
    select_device(device)  # refuses what is not there before anything is computed
    _require_optuna()

    from evalkit.stats.reach import few_seeds
    from evalkit.sweeps.run import Engine
    from evalkit.sweeps.work import Settings
    from evalkit.tuning.forecast import describe, expected_seconds
    from evalkit.tuning.run import show, tune

    console = Terminal()
    if dry_run:
        for line in describe(settings, trials, finalists, seeds):
            typer.echo(line)
        at_a_time = workers or max(1, cpu_count() // threads)
        seconds = expected_seconds(settings, device, at_a_time, trials, finalists, seeds)
        typer.echo(
            f"training: about {_duration(seconds)} with {at_a_time} at a time, from a few steps measured now; scoring "
            "comes on top, and stopping early takes off"
        )
        if note := few_seeds(seeds, finalists):
            typer.echo(note)
        return
    work = Settings(settings.folder, device, time_limit, not no_cache)
    result = tune(
        settings, work, Engine("local", workers, threads), console, trials=trials, finalists=finalists, seeds=seeds
    )
    show(result, settings, console)
    if result.failed:
        raise typer.Exit(1)


def _require_optuna() -> None:
    from q2d2.errors import UserError

    if find_spec("optuna") is None:
        raise UserError("evalkit tune needs Optuna, which is not installed: pip install 'codec-bottlenecks[tune]'")


def _pair(text: str) -> tuple[float, float]:
    from q2d2.errors import UserError

    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--learning-rate {text}: expected LOW,HIGH, such as 0.0005,0.005") from error
    return low, high


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
