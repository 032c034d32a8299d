"""The command that scores anyone's decoded audio. Imports as in cli.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.options import AllowFailures, Device, NoCache, Require, TimeLimit, Workers, finish, make_scorer

score_app = typer.Typer(rich_markup_mode=None)
DEFAULT_METRICS = "utmos,pesq,stoi,vuv_f1"


@score_app.command(
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
    as_given: Annotated[
        bool, typer.Option("--as-given", help="Score the folders as they are, though they seem to be exchanged.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/score"),
    device: Device = "auto",
    workers: Workers = None,
    time_limit: TimeLimit = 300,
    no_cache: NoCache = False,
    require: Require = None,
    allow_failures: AllowFailures = 0,
) -> None:
    """Score decoded audio, paired with the originals by file name, and write rows, tables and plots.

    Each folder of decoded audio is one system. Files without partner are listed, and an original without an estimate is
    a failed score. Run the same command again after an
    interruption: what is scored is kept, scores that failed are tried again. The exit status is 1 if a score failed.
    """
    from evalkit.cli.terminal import Terminal
    from evalkit.metrics import METRICS
    from evalkit.run.evaluation import Evaluation
    from evalkit.run.folders import pair_folders, score_folders, show_pairing
    from evalkit.scoring.protocol import get_protocol

    console = Terminal()
    names = METRICS.names() if metrics == "all" else list(dict.fromkeys(metrics.split(",")))
    for name in names:
        METRICS.require(name)
    chosen_protocol = get_protocol(protocol, align)
    pairing = pair_folders(reference_dir, estimate_dirs, pairs, out, as_given)
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
    _, scorer = make_scorer(evaluation, device, workers, time_limit, no_cache)
    result = score_folders(pairing, evaluation, console, scorer)
    finish(result, scorer, console, allow_failures, require or [])
