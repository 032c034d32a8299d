"""The report page: from finished runs to one HTML text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalkit.pages import render
from evalkit.report.against_paper import HEAD, WORDS, published_table
from evalkit.report.charts import system_looks
from evalkit.report.comparison import comparison_table
from evalkit.report.copies import comparison_copies, differences_copies, published_copies, table_notes
from evalkit.report.curves import training_chart
from evalkit.report.departures import departures
from evalkit.report.extremes import Progress, ignored
from evalkit.report.facts import metric_facts, package_facts, protocol_facts, run_facts
from evalkit.report.joined import ReportError, join_runs
from evalkit.report.rates import rates_chart
from evalkit.report.rows import differences_chart, distributions_chart
from evalkit.report.sweeps import configurations_chart, reported_sweeps
from evalkit.report.usage import usage_chart
from evalkit.run.saved_run import SavedRun
from evalkit.tables.cells import is_ranked
from q2d2 import __version__
from q2d2.files import write_atomically

FILE_NAME = "report.html"


def report_page(
    runs: Sequence[SavedRun], listen: int = 6, progress: Progress = ignored, trust_code: bool = False
) -> str:
    """One page about `runs` (`evalkit.load_run`), which needs neither a server nor the network.

    Args:
        runs: at least one; the systems of several are named "run: system".
        listen: utterances whose audio is put into the page; 0: none, and no listening panel.
        progress: told of the systems of each run whose audio is made again.
        trust_code: whether classes that an experiment names may be imported to make audio again.

    Raises:
        ReportError: the runs cannot stand on one page.
        RunError: a file of a run is damaged.
        SweepError: a table of a sweep is.
    """
    joined = join_runs(runs)
    looks = system_looks(joined.systems)
    near = joined.summary.loc[is_ranked(joined.summary), "system"].tolist()
    notes = table_notes(joined)
    published = []
    for position, (run, label) in enumerate(zip(runs, joined.labels, strict=True)):
        if table := published_table(run):
            published.append((label, table, published_copies(table, run.title, f"published-{position}")))
    sweeps = reported_sweeps(runs, joined.labels)
    copies = [comparison_copies(joined, notes), differences_copies(joined), *(texts for _, _, texts in published)]
    copies += [each.copies for sweep in sweeps for each in sweep.tables]
    rates = configurations_chart(sweeps[0]) if len(runs) == len(sweeps) == 1 else None
    panel = None
    if listen:
        from evalkit.report.listening import listening_panel  # what reads and draws audio

        panel = listening_panel(joined.runs, joined.names, listen, progress, trust_code)
    return render(
        "report/page.html.j2",
        styles=("report/report.css", *(panel.styles if panel else [])),
        scripts=("report/report.js", *(panel.scripts if panel else [])),
        title=joined.title,
        joined=joined,
        several=len(runs) > 1,
        facts=_side_by_side([dict(run_facts(run)) for run in runs]),
        packages=_side_by_side([dict(package_facts(run)) for run in runs]),
        sweeps=sweeps,
        only_sweeps=len(sweeps) == len(runs),
        table=comparison_table(joined),
        looks=looks,
        notes=notes,
        charts={
            "rates": rates or rates_chart(joined.summary, looks),
            "scores": distributions_chart(joined.utterances, looks),
            "differences": differences_chart(joined.differences, looks, near),
            "usage": usage_chart(joined.codes, joined.systems),
            "training": training_chart(joined.training, looks),
        },
        published=published,
        published_head=HEAD,
        published_words=WORDS,
        protocols=_side_by_side([dict(protocol_facts(run)) for run in runs]),
        metrics=[(label, metric_facts(run)) for run, label in zip(runs, joined.labels, strict=True)],
        departures=[
            (label, "sweep" in run.description, *departures(run))
            for run, label in zip(runs, joined.labels, strict=True)
        ],
        copies={each.identity: each for each in copies if each is not None},
        panel=panel,
        version=__version__,
    )


def _side_by_side(facts: Sequence[dict[str, str]]) -> list[tuple[str, list[str]]]:
    """(label, value of each run), labels in the order in which they first occur."""
    labels = dict.fromkeys(label for of_run in facts for label in of_run)
    return [(label, [of_run.get(label, "-") for of_run in facts]) for label in labels]


def report_path(folders: Sequence[Path]) -> Path:
    """Where the page of these runs goes unless told otherwise: into the only run's folder, else beside the caller."""
    return folders[0] / FILE_NAME if len(folders) == 1 else Path(FILE_NAME)


def write_report(
    runs: Sequence[SavedRun],
    out: Path | None = None,
    listen: int = 6,
    progress: Progress = ignored,
    trust_code: bool = False,
) -> Path:
    """Write the page of `runs` to `out` (default: `report_path`), whole or not at all; the path.

    Raises:
        ReportError, RunError, SweepError: see `report_page`; or `out` is a folder.
        OSError: the file cannot be written.
    """
    path = out or report_path([run.folder for run in runs])
    if path.is_dir():
        raise ReportError(f"{path} is a folder; give the file, such as --out {path / FILE_NAME}")
    text = report_page(runs, listen, progress, trust_code)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    return path
