"""The commands that do whole experiments: run, reproduce, merge. Imports as in cli.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.options import (
    AllowFailures,
    Device,
    NoCache,
    Require,
    TimeLimit,
    Track,
    TrustCode,
    Workers,
    finish,
    make_scorer,
    make_tracking,
)

if TYPE_CHECKING:
    from evalkit.run.experiment import Experiment

runs_app = typer.Typer(rich_markup_mode=None)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the experiment; may be repeated."),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/<name of the experiment>.")]
WeightsRoot = Annotated[
    Path | None,
    typer.Option(help="Folder with weights of whole codecs, DIR/<codec>/ or a hub's cache; default: this machine's."),
]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Score every N-th utterance from the I-th; join with `evalkit merge`."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop; nothing is written.")]


@runs_app.command(
    epilog="Examples:  evalkit run quick  |  evalkit run librispeech --dry-run  |  "
    "evalkit run tiny --set data.test.root=~/corpora --set train.steps=200 --out runs/short"
)
def run(
    experiment: Annotated[str, typer.Argument(help="Built-in name (see `evalkit experiments`) or a YAML file.")],
    set_: Set = None,
    out: Out = None,
    weights_root: WeightsRoot = None,
    shard: ShardOption = None,
    device: Device = "auto",
    workers: Workers = None,
    time_limit: TimeLimit = 300,
    no_cache: NoCache = False,
    require: Require = None,
    allow_failures: AllowFailures = 0,
    track: Track = None,
    trust_code: TrustCode = False,
    dry_run: DryRun = False,
) -> None:
    """Train or load every system of EXPERIMENT, score it on the test set, and write tables and plots.

    The plan is printed first. Run the same command again after an interruption: finished work is skipped, and scores
    that failed are tried again. The exit status is 1 if a score failed.
    """
    from evalkit.run.experiment import load_experiment

    loaded = load_experiment(experiment, _overrides(set_, weights_root))
    _run(loaded, out, shard, device, workers, time_limit, no_cache, require, allow_failures, dry_run, trust_code, track)


@runs_app.command(
    epilog="Examples:  evalkit reproduce q2d2-table  |  "
    "evalkit reproduce q2d2-table --weights-root ~/codecs --dry-run  |  "
    "evalkit reproduce q2d2-table --decoded encodec=decoded/encodec,originals  |  "
    "evalkit reproduce q2d2-table --shard 2/8 --out /shared/table; evalkit merge /shared/table  |  "
    "evalkit reproduce q2d2-ablation --dry-run"
)
def reproduce(
    experiment: Annotated[
        str,
        typer.Argument(
            help="Experiment with published numbers (q2d2-table), sweep with claims to test (q2d2-ablation), or a YAML "
            "file of either, with the key paper or claims."
        ),
    ],
    decoded: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYSTEM=DIR[,ORIGINALS]",
            help="Score decoded audio too, beside what is published of SYSTEM; with ORIGINALS where it is not of the "
            "test set. May be repeated.",
        ),
    ] = None,
    set_: Set = None,
    out: Out = None,
    weights_root: WeightsRoot = None,
    shard: ShardOption = None,
    device: Device = "auto",
    workers: Workers = None,
    time_limit: TimeLimit = 300,
    no_cache: NoCache = False,
    require: Require = None,
    allow_failures: AllowFailures = 0,
    trust_code: TrustCode = False,
    dry_run: DryRun = False,
) -> None:
    """Score every system of a paper's table and put our means beside the published ones, or test a paper's claims.

    A system whose weights are not here keeps its row, with the reason and how to get them. What makes a comparison with
    the paper an unequal one (part of the test set, other weights, other protocol) is said in the table. Of a sweep's
    claims each gets a verdict, supported, contradicted or undecided, from paired intervals at equal rate; `evalkit
    sweep` has more options for it.
    """
    from evalkit.run.experiment import ExperimentError, load_experiment, with_decoded
    from evalkit.sweeps.schema import is_sweep

    if is_sweep(experiment):
        given_too = {"--decoded": decoded, "--weights-root": weights_root, "--require": require}
        for option, value in given_too.items():
            if value:
                raise ExperimentError(f"{option} is of no use for the sweep {experiment}: its trials are trained here")
        _reproduce_sweep(experiment, set_, out, shard, device, workers, time_limit, no_cache, dry_run, trust_code)
        return

    loaded = load_experiment(experiment, _overrides(set_, weights_root))
    if loaded.paper is None:
        raise ExperimentError(f"experiment {experiment} has no published numbers (key paper): use evalkit run")
    for given in decoded or []:
        loaded = with_decoded(loaded, given)
    _run(loaded, out, shard, device, workers, time_limit, no_cache, require, allow_failures, dry_run, trust_code)


def _reproduce_sweep(
    source: str,
    set_: list[str] | None,
    out: Path | None,
    shard: str | None,
    device: str,
    workers: int | None,
    time_limit: float,
    no_cache: bool,
    dry_run: bool,
    trust_code: bool,
) -> None:
    from evalkit.cli.sweeps import load, run_sweep, show_plan
    from evalkit.cli.terminal import Terminal
    from evalkit.run.experiment import ExperimentError
    from evalkit.sweeps.run import Engine
    from evalkit.sweeps.work import Settings

    sweep = load(source, set_, None)
    if sweep.claims is None:
        raise ExperimentError(f"sweep {source} has no claims to test (key claims): use evalkit sweep")
    folder = out or Path("runs") / sweep.name
    if dry_run:
        show_plan(sweep, folder, shard, needs_data=True)
        return
    settings = Settings(folder.resolve(), device, time_limit, not no_cache, trust_code)
    run_sweep(sweep, settings, Engine(workers=workers), Terminal(), False, shard)


@runs_app.command(epilog="Example:  evalkit merge runs/q2d2-table")
def merge(
    run_folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder (--out) of the run whose shards are done.")
    ],
    weights_root: WeightsRoot = None,
    device: Device = "auto",
    workers: Workers = None,
    time_limit: TimeLimit = 300,
    no_cache: NoCache = False,
    require: Require = None,
    allow_failures: AllowFailures = 0,
    trust_code: TrustCode = False,
) -> None:
    """Join the shards of a run: take over what they scored, do what none of them did, write tables and plots."""
    from evalkit.run.shards import merge_shards

    experiment = merge_shards(run_folder)
    if weights_root is not None:
        experiment = experiment.model_copy(update={"weights_root": weights_root})
    _run(
        experiment, run_folder, None, device, workers, time_limit, no_cache, require, allow_failures, False, trust_code
    )


@runs_app.command()
def experiments() -> None:
    """List the experiments that ship with the package."""
    from evalkit.run.experiment import built_in_experiments, load_experiment

    for name in built_in_experiments():
        typer.echo(f"{name:14} {load_experiment(name).title}")


def _overrides(set_: list[str] | None, weights_root: Path | None) -> list[str]:
    return [*(set_ or []), *([f"weights_root={weights_root}"] if weights_root is not None else [])]


def _run(
    experiment: Experiment,
    out: Path | None,
    shard: str | None,
    device: str,
    workers: int | None,
    time_limit: float,
    no_cache: bool,
    require: list[str] | None,
    allow_failures: int,
    dry_run: bool,
    trust_code: bool,
    track: list[str] | None = None,
) -> None:
    from evalkit.cli.terminal import Terminal
    from evalkit.run.plan import make_plan, reach_note, show_plan
    from evalkit.run.shards import Shard
    from evalkit.run.training import check_memory, memory_needed, memory_note

    console = Terminal()
    tracking = make_tracking(experiment.name, track)
    part = None if shard is None else Shard.parse(shard)
    plan = make_plan(experiment, out or Path("runs") / experiment.name, part, trust_code)
    plan.evaluation.require(require or [])
    show_plan(plan, console)
    if note := memory_note(needed := memory_needed(plan)):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if part is None and (note := reach_note(plan)):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for metric, reason in plan.evaluation.unavailable.items():  # not in show_plan: training loads no metrics
        text = reason if reason.startswith(metric) else f"{metric}: {reason}"
        console.print(f"unavailable {text}", markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        return

    from evalkit.run.runner import run as run_plan

    chosen, scorer = make_scorer(plan.evaluation, device, workers, time_limit, no_cache)
    check_memory(needed, chosen)
    # The scores of a part are nobody's results: merging sends those of the whole.
    result = run_plan(plan, console, chosen, scorer, tracking if part is None else None)
    finish(result, scorer, console, allow_failures, require or [])
