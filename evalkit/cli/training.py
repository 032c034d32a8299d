"""The command that trains without scoring, alone or as one of torchrun's processes. Imports as in cli.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.options import Track, TrustCode, make_tracking

training_app = typer.Typer(rich_markup_mode=None)


@training_app.command(
    epilog="Examples:  evalkit train tiny --system rhombic --set train.recipe=corrected  |  "
    "torchrun --nproc-per-node 8 -m evalkit train librispeech --set train.precision=bf16-mixed --compile  |  "
    "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 -m evalkit train published"
)
def train(
    experiment: Annotated[str, typer.Argument(help="Built-in name (see `evalkit experiments`) or a YAML file.")],
    system: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Train this system; may be repeated. Default: all.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the experiment; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/<name of the experiment>.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    track: Track = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the networks (as train.compile=true).")] = False,
    trust_code: TrustCode = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop; nothing is written.")] = False,
) -> None:
    """Train the systems of EXPERIMENT and stop there; `evalkit run` with the same folder then scores them.

    On several GPUs or machines, start it with torchrun. Run the same command again to go on after an interruption, also
    with another number of processes; SIGTERM saves first.
    """
    from rich.console import Console

    from evalkit.machine import select_device
    from evalkit.run.experiment import ExperimentError, load_experiment
    from evalkit.run.plan import make_plan, show_plan
    from evalkit.run.training import check_memory, memory_needed, memory_note, train_system
    from q2d2.errors import did_you_mean

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    console = Console(quiet=int(os.environ.get("RANK", "0")) > 0)
    loaded = load_experiment(experiment, [*(set_ or []), *(["train.compile=true"] if compile_ else [])])
    tracking = make_tracking(loaded.name, track)
    plan = make_plan(loaded, out or Path("runs") / loaded.name, trust_code=trust_code)
    trained = {each.name: each for each in plan.trained}
    for name in system or []:
        if name not in trained:
            raise ExperimentError(
                f"--system {name}: no system to train.{did_you_mean(name, trained)} There are: {', '.join(trained)}."
            )
    settings = loaded.train
    share, rest = divmod(settings.batch_size, processes * settings.accumulate)
    if rest:
        raise ExperimentError(
            f"train.batch_size {settings.batch_size} is no multiple of {processes} processes x "
            f"{settings.accumulate} accumulated batches"
        )
    show_plan(plan, console)
    console.print(
        f"batch     {settings.batch_size} segments a step = {processes} "
        f"process{'' if processes == 1 else 'es'} x {settings.accumulate} accumulated x {share}, "
        f"learning rate {settings.learning_rate:g}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if note := memory_note(needed := memory_needed(plan, processes), processes):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        return
    check_memory(needed, select_device(device), processes)  # refuses what is not there before anything is computed
    for name in system or trained:
        folder = train_system(plan, trained[name], device, tracking=tracking)
        console.print(f"{name}: {folder}", highlight=False, soft_wrap=True, markup=False)
