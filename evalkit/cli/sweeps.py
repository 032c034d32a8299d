"""The commands of sweeps: many trainings as one question. Imports as in cli.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from evalkit.cli.options import Device, NoCache, TimeLimit, TrustCode
from q2d2.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.sweeps.folder import SweepFolder
    from evalkit.sweeps.run import Engine
    from evalkit.sweeps.schema import Sweep
    from evalkit.sweeps.state import State
    from evalkit.sweeps.trials import Trial
    from evalkit.sweeps.work import Settings

FILE = "Built-in name (see `evalkit sweep list`) or a YAML file."
MAX_FAILURES = 10
STATES: tuple[State, ...] = ("done", "running", "interrupted", "failed", "waiting")


class _FileOrCommand(TyperGroup):
    """`evalkit sweep FILE` is `evalkit sweep run FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


sweeps_app = typer.Typer(
    cls=_FileOrCommand,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Train and score many points of a space, at equal rate, with seeds: evalkit sweep FILE [OPTIONS]. "
    "Options: evalkit sweep run --help.",
    epilog="Examples:  evalkit sweep tilings --plan  |  evalkit sweep matched-rate --workers 2  |  "
    "evalkit sweep status runs/matched-rate",
)

Seeds = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Seeds of training in place of the file's, such as 0,1,2.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the experiment for all trials; may be repeated."),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the sweep; default: runs/<name of the sweep>.")]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Run every N-th trial from the I-th, in the same folder as the rest."),
]
Executor = Annotated[str, typer.Option(help="local: processes here; ray: a Ray cluster (RAY_ADDRESS, or here).")]
TrialWorkers = Annotated[
    int | None, typer.Option("--workers", help="Trials at a time; default: as many as there are cores.", min=1)
]
Threads = Annotated[int, typer.Option(help="Threads of each trial; other numbers round otherwise.", min=1)]
Gpus = Annotated[float, typer.Option("--gpus-per-trial", help="With ray: GPUs of each trial, such as 0.5.", min=0)]


@sweeps_app.command(
    epilog="Examples:  evalkit sweep levels --plan  |  evalkit sweep mine.yaml --set train.steps=2000 --seeds 0,1  |  "
    "evalkit sweep matched-rate --shard 2/8 --out /shared/matched  |  "
    "evalkit sweep matched-rate --executor ray --gpus-per-trial 0.5"
)
def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help=FILE)],
    set_: Set = None,
    seeds: Seeds = None,
    out: Out = None,
    plan: Annotated[bool, typer.Option("--plan", help="List the trials and stop; nothing is written.")] = False,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Leave trials that failed as they are; default: try them again.")
    ] = False,
    shard: ShardOption = None,
    executor: Executor = "local",
    workers: TrialWorkers = None,
    threads: Threads = 1,
    gpus: Gpus = 0.0,
    device: Device = "auto",
    time_limit: TimeLimit = 300,
    no_cache: NoCache = False,
    trust_code: TrustCode = False,
) -> None:
    """Run what is missing of a sweep, then write its tables and plots.

    Every trial is one training with its scores, under an id that follows from its experiment: the same trial is never
    done twice, and one that was interrupted goes on from its last checkpoint. A trial that fails keeps its row with the
    reason, the others go on, and the exit status is 1.
    """
    loaded = load(file, set_, seeds)
    folder = out or Path("runs") / loaded.name
    if plan:
        show_plan(loaded, folder, shard)
        return

    from evalkit.cli.terminal import Terminal
    from evalkit.sweeps.run import Engine
    from evalkit.sweeps.work import Settings

    settings = Settings(folder.resolve(), device, time_limit, not no_cache, trust_code)
    run_sweep(loaded, settings, Engine(executor, workers, threads, gpus), Terminal(), only_missing, shard)


@sweeps_app.command(epilog="Example:  evalkit sweep status runs/matched-rate")
def status(
    folder: Annotated[Path, typer.Argument(help="Folder (--out) of the sweep.")],
    list_: Annotated[bool, typer.Option("--list", help="One line a trial.")] = False,
) -> None:
    """Say how far a sweep is: trials done, running, failed, and the time left."""
    from evalkit.sweeps.folder import SweepFolder

    _show_status(SweepFolder.read(folder), list_)


@sweeps_app.command(
    epilog="Examples:  evalkit sweep report runs/tilings  |  evalkit sweep report runs/tilings --baseline rectangular"
)
def report(
    folder: Annotated[Path, typer.Argument(help="Folder (--out) of the sweep.")],
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="SERIES", help="What others are compared with, such as fsq or 'rhombic d=8'; default: the first."
        ),
    ] = None,
) -> None:
    """Write tables and plots of what is done so far; the exit status is 1 if a trial failed."""
    from evalkit.cli.terminal import Terminal
    from evalkit.sweeps.folder import SweepFolder

    sweep = SweepFolder.read(folder)
    console = Terminal()
    _report(sweep, console, baseline)
    if any(state.state == "failed" for _, state in sweep.states()):
        raise typer.Exit(1)


@sweeps_app.command(
    epilog="Examples:  evalkit sweep nearest 20  |  evalkit sweep nearest 12 16 --channels 8 --family d4 --family fsq"
)
def nearest(
    bits_per_frame: Annotated[list[float], typer.Argument(help="Target rates in bits per frame.")],
    channels: Annotated[int, typer.Option(help="Channels of the bottleneck, where a family has a choice.", min=1)] = 6,
    family: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="This family; may be repeated. Default: all.")
    ] = None,
) -> None:
    """Print each family's configuration nearest to a rate, and the rate it has exactly."""
    from evalkit.sweeps.families import FamilyError, families
    from evalkit.sweeps.families import nearest as find

    for target in bits_per_frame:
        for name in family or families():
            try:
                found = find(name, target, channels)
            except FamilyError as error:
                if family is not None:
                    raise
                typer.echo(f"{target:6g}  {name:18} -        {error}")
                continue
            options = ", ".join(f"{key}: {value}" for key, value in found.bottleneck.items())
            typer.echo(f"{target:6g}  {name:18} {found.bits_per_frame:7.3f}  {{{options}}}")


@sweeps_app.command("list")
def list_() -> None:
    """List the sweeps that ship with the package."""
    from evalkit.sweeps.schema import built_in_sweeps, load_sweep

    for name in built_in_sweeps():
        typer.echo(f"{name:14} {load_sweep(name).title}")


def load(file: str, set_: Sequence[str] | None, seeds: str | None) -> Sweep:
    """A sweep with the keys and seeds of the command line over its own."""
    from evalkit.run.experiment import parse_override
    from evalkit.schema import validated
    from evalkit.sweeps import SweepError
    from evalkit.sweeps.schema import Sweep, load_sweep

    try:
        chosen = None if seeds is None else tuple(int(seed) for seed in seeds.split(","))
    except ValueError as error:
        raise SweepError(f"--seeds {seeds}: expected integers with commas between, such as 0,1,2") from error
    sweep = load_sweep(file, chosen)
    given = {override.key: override.value for override in map(parse_override, set_ or [])}
    return validated(
        Sweep, sweep.model_dump(by_alias=True) | {"set": {**sweep.set, **given}}, f"sweep {file}", SweepError
    )


def run_sweep(
    sweep: Sweep, settings: Settings, engine: Engine, console: Console, only_missing: bool, shard: str | None
) -> None:
    """Run what is missing of a sweep (or of a shard of it), and report; exit status 1 if a trial of it failed."""
    from evalkit.machine import select_device
    from evalkit.sweeps.claim_files import load_claims
    from evalkit.sweeps.corpora import open_corpora
    from evalkit.sweeps.folder import SweepFolder, write_sweep
    from evalkit.sweeps.run import missing, run_trials
    from evalkit.sweeps.trials import expand

    trials = expand(sweep)
    mine = _share(trials, shard)
    if sweep.claims is not None:
        load_claims(sweep.claims)  # a misspelt one is told before anything is trained
    select_device(settings.device)  # refuses what is not there before anything is computed
    open_corpora(mine)
    write_sweep(settings.folder, sweep, trials)
    todo = missing(mine, settings, only_missing)
    console.print(
        f"{sweep.title or sweep.name}: {len(trials):,} trials"
        + (f", {len(mine):,} of them in shard {shard}" if shard else "")
        + f", {len(todo):,} to run  ->  {settings.folder}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    if todo:
        run_trials(todo, len(mine), settings, engine, console)
    read = SweepFolder.read(settings.folder)
    if shard is None:
        _report(read, console)
    else:
        _show_status(read, False)
        typer.echo(f"when all shards are done: evalkit sweep report {settings.folder}")
    ids = {trial.id for trial in mine}
    if any(trial["id"] in ids and state.state == "failed" for trial, state in read.states()):
        raise typer.Exit(1)


def show_plan(sweep: Sweep, folder: Path, shard: str | None = None, needs_data: bool = False) -> None:
    """Print the trials of a sweep, or of a shard of it, and what their folders say of them.

    Raises:
        DatasetError: `needs_data`, and a corpus is missing; without it the plan says so.
    """
    from evalkit.stats.reach import few_seeds
    from evalkit.sweeps.corpora import open_corpora
    from evalkit.sweeps.state import read_state, trial_folder
    from evalkit.sweeps.trials import expand

    every = expand(sweep)
    trials = _share(every, shard)
    lines = [f"{sweep.title or sweep.name}: {len(trials):,} trials from experiment {sweep.experiment}  ->  {folder}"]
    lines.append(f"{'trial':12}  {'bits/frame':>10}  {'seed':>5}  {'state':11}  configuration")
    for trial in trials:
        bits = "-" if trial.bits_per_frame is None else f"{trial.bits_per_frame:.3f}"
        state = read_state(trial_folder(folder, trial.id)).state if folder.is_dir() else "waiting"
        told = f"{trial.label}  NOT VALID: {trial.problem}" if trial.problem else trial.label
        lines.append(f"{trial.id}  {bits:>10}  {trial.seed:>5}  {state:11}  {told}")
    families, seeds = {trial.family for trial in every}, {trial.seed for trial in every}
    if len({trial.configuration for trial in every}) > 1 and (note := few_seeds(len(seeds), max(1, len(families) - 1))):
        lines.append(note)
    typer.echo("\n".join(lines))  # rich takes seconds for thousands of lines
    try:
        open_corpora(trials)
    except UserError as error:
        if needs_data:
            raise
        typer.echo(f"data missing: {error}")


def _share(trials: list[Trial], shard: str | None) -> list[Trial]:
    from evalkit.run.shards import Shard

    return trials if shard is None else list(Shard.parse(shard).select(trials))


def _show_status(sweep: SweepFolder, every: bool) -> None:
    from evalkit.sweeps.folder import Progress

    states = list(sweep.states())
    progress = Progress.of([state for _, state in states])
    if every:
        lines = [
            f"{trial['id']}  {state.state:11}  {state.seconds:>8,.0f} s  {trial['label']}, seed {trial['seed']}"
            + (f": {state.reason}" if state.reason else "")
            for trial, state in states
        ]
        typer.echo("\n".join(lines))
    counts = ", ".join(f"{progress.counts[name]:,} {name}" for name in STATES)
    typer.echo(f"{sweep.title}: {len(states):,} trials, {counts}")
    if progress.seconds_left:
        at_a_time = max(1, progress.at_a_time)
        typer.echo(f"time left: about {_duration(progress.seconds_left)} with {at_a_time} at a time")
    failed = [(trial, state) for trial, state in states if state.state == "failed"]
    for trial, state in failed[: 0 if every else MAX_FAILURES]:
        typer.echo(f"failed  {trial['id']}  {trial['label']}, seed {trial['seed']}: {state.reason}")
    if not every and len(failed) > MAX_FAILURES:
        typer.echo(f"and {len(failed) - MAX_FAILURES:,} more: evalkit sweep status {sweep.folder} --list")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _report(sweep: SweepFolder, console: Console, baseline: str | None = None) -> None:
    from evalkit.sweeps.report import show_report, write_report
    from evalkit.sweeps.results import known_rows

    show_report(write_report(sweep, known_rows(sweep), baseline), console)
