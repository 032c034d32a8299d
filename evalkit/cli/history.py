"""The commands of published results: adding a run, building the site. Imports as in cli.py."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evalkit.history.publication import Publication

history_app = typer.Typer(rich_markup_mode=None)
STORE = "Folder of published results, as results/."


@history_app.command(
    epilog="Examples:  evalkit publish runs/tiny --to results  |  "
    'evalkit publish runs/score --to results --as nightly --note "after the new sampler"'
)
def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, of a sweep, or of evalkit score.")],
    to: Annotated[Path, typer.Option("--to", help=STORE)],
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Name it is compared under; default: the experiment's own."),
    ] = None,
    note: Annotated[str, typer.Option(help="A sentence kept with it.")] = "",
    made: Annotated[
        datetime | None,
        typer.Option(
            metavar="DATE",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help="When it was made (UTC), if its run.json does not say so.",
        ),
    ] = None,
) -> None:
    """Add a run to a store of published results: small files, safe for git, one folder a run.

    Publishing a run again changes nothing. What changed since the last one of its name is printed.
    """
    from datetime import UTC

    from evalkit.cli.terminal import Terminal
    from evalkit.history.publish import publish as add

    console = Terminal()
    done = add(run, to, name=name, note=note, made=made and made.replace(tzinfo=UTC))

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    folder = done.publication.folder
    if not done.is_new:
        line(f"already published, nothing changed: {folder}")
        return
    files = [path for path in folder.iterdir() if path.is_file()]
    line(f"published: {folder} ({len(files)} files, {sum(path.stat().st_size for path in files) / 1e3:,.0f} kB)")
    if done.publication.values["made_from"] != "run.json" and made is None:
        line(f"note: when it was made is the time of its utterances.parquet, {done.publication.values['made']}")
    if done.names_home:
        line("note: its run.json names folders of your home directory")
    for text in change_lines(done.publication):
        line(text)
    for text in done.damaged:
        line(f"not compared with: {text}")


def change_lines(publication: Publication) -> list[str]:
    """What changed since the predecessor, one line a change that was found."""
    from evalkit.gate.counterparts import listed
    from evalkit.history.archive import records
    from evalkit.history.boards import number_format
    from evalkit.history.changes import out_of_reach
    from evalkit.stats.differences import MARKS
    from evalkit.tables.cells import format_number

    rows = records([publication.changes])
    lost = out_of_reach(rows)
    if not rows:
        name = publication.values["name"]
        return [] if publication.is_sweep else [f"nothing earlier under the name {name!r} to compare with (see --as)"]
    marked = [row for row in rows if row["verdict"]]
    kinds = {row["system"]: row["kind"] for row in publication.summary.to_pylist()}
    compared = {row["system"] for row in rows}
    left_out = [name for name, kind in kinds.items() if kind != "anchor" and name not in compared]
    only_known = all(kinds.get(name) == "anchor" for name in compared)
    what = f"compared with what was before{', known answers only' if only_known else ''}"
    lines = [f"{what}: {len(marked)} of {len(rows)} differ"]
    if left_out:
        lines.append(
            f"not compared: {listed(left_out)}; nothing earlier under this name has a system called so, scored on the "
            "same utterances under the same protocol and versions. Systems of other names: evalkit compare BEFORE "
            "AFTER --system OLD=NEW"
        )
    for row in marked:
        style = number_format(row["metric"])
        numbers = [format_number(row[key], style.decimals + 1) for key in ("difference", "low", "high")]
        lines.append(
            f"  {MARKS[row['verdict']]} {row['system']}: {style.label} {numbers[0]} [{numbers[1]}, {numbers[2]}] "
            f"{row['verdict']}, n {row['n']}"
        )
    return [*lines, lost] if lost else lines


@history_app.command(
    epilog="Examples:  evalkit dashboard results  |  evalkit dashboard results --out public --no-reports"
)
def dashboard(
    store: Annotated[Path, typer.Argument(help=STORE)],
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("site"),
    reports: Annotated[
        bool, typer.Option(help="Write the report of each run, where there is none that is new enough.")
    ] = True,
) -> None:
    """Write a static site of published results: leaderboards, systems over time, runs, sweeps. Open OUT/index.html.

    Pages of an earlier build that are gone now are removed; other files in OUT are left alone. The exit status is 1 if
    something published could not be read.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from evalkit.cli.terminal import Terminal
    from evalkit.history.site import build_site

    console = Terminal()
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks = {}

        def seen(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        built = build_site(store, out, reports=reports, progress=seen)

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    removed = f", {built.removed} removed" if built.removed else ""
    told = f"{built.reports:,} reports ({built.new_reports:,} new)"
    line(f"{built.num_runs:,} runs, {built.pages:,} pages, of these {told}{removed}")
    line(f"open {built.start}")
    for text in built.damaged:
        line(f"left out: {text}")
    if built.damaged:
        raise typer.Exit(1)
