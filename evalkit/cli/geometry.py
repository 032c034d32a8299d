"""Command for what tilings give without training. Imports as in cli.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from evalkit.geometry.sources import Source

geometry_app = typer.Typer(rich_markup_mode=None)


@geometry_app.command(
    epilog="Examples:  evalkit geometry  |  evalkit geometry --levels 7,9 --tilings rhombic,hexagonal --sigma 0.4  |  "
    "evalkit geometry --record runs/mine/checkpoints/rhombic --data ~/speech"
)
def geometry(
    levels: Annotated[str, typer.Option(metavar="L,L,...", help="Levels of both channels, 2 to 64.")] = "5,7,9,11",
    tilings: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="Tilings; default: all that are known.")
    ] = None,
    sigma: Annotated[
        str,
        typer.Option(metavar="S,S,...", help="Standard deviations of the Gaussians before tanh, 0.05 to 4."),
    ] = "0.5,1",
    latents: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Recorded latents too: .safetensors or .npz of floats (frames, d) in [-1, 1]."
        ),
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT", help="Record latents of a q2d2 checkpoint first, to OUT/latents.safetensors."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Audio to record them from: a file or a folder; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the tables and plots.")] = Path("runs/geometry"),
) -> None:
    """What the tilings give before anything is trained: error, rate and use of the codes for known sources.

    Sources are pairs spread evenly over the square, tanh of Gaussians, and latents that were recorded. All but the last
    are integrated, not drawn: the numbers are exact, and the same in every run.
    """
    from evalkit.cli.terminal import Terminal
    from evalkit.geometry.drawing import draw
    from evalkit.geometry.second_moment import second_moments
    from evalkit.geometry.survey import survey
    from evalkit.geometry.tables import print_tables, write_tables
    from q2d2.tilings import TILINGS

    names = list(TILINGS) if tilings is None else list(dict.fromkeys(_split(tilings)))
    console = Terminal()
    sources = _sources(sigma, latents, record, data or [], out, console)
    measured = survey(names, [int(level) for level in _numbers("--levels", levels, whole=True)], sources)
    moments = second_moments(names)
    print_tables(measured, moments, console)
    paths = write_tables(measured, moments, out) + draw(measured, out / "plots")
    for title, suffix in (("tables:", ".csv"), ("plots, each as SVG beside it:", ".png")):
        typer.echo(title)
        for path in paths:
            if path.suffix == suffix:
                typer.echo(f"  {path}")


def _sources(
    sigma: str, latents: Path | None, record: str | None, data: Sequence[Path], out: Path, console: Console
) -> list[Source]:
    from evalkit.geometry.sources import GaussianTanh, Recorded, SourceError, Uniform

    if record is not None and latents is not None:
        raise SourceError("--record and --latents exclude one another: the one writes the file that the other reads")
    if (record is None) != (not data):
        raise SourceError("--record CHECKPOINT and --data PATH go together: what to record, and from which audio")
    sources: list[Source] = [Uniform(), *(GaussianTanh(each) for each in dict.fromkeys(_numbers("--sigma", sigma)))]
    if record is not None:
        from rich.progress import Progress

        from evalkit.geometry.latents import record_latents

        latents = out / "latents.safetensors"
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("record", total=None)

            def progress(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            frames = record_latents(record, data, latents, progress)
        typer.echo(f"recorded: {frames:,} frames, {latents}")
    if latents is not None:
        from evalkit.geometry.latents import read_latents

        sources.append(Recorded(read_latents(latents)))
    return sources


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(option: str, text: str, *, whole: bool = False) -> list[float]:
    from q2d2.errors import UserError

    try:
        return [int(part) if whole else float(part) for part in _split(text)]
    except ValueError as error:
        kind = "whole numbers" if whole else "numbers"
        raise UserError(f"{option} {text}: expected {kind} with commas between") from error
