"""The published numbers of a run's paper beside ours, as lines of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalkit.papers import Paper, paper_names, read_paper
from evalkit.report.charts import interval_text, signed
from evalkit.report.names import first_sentence
from evalkit.saved_run import RunError, SavedRun
from evalkit.tables import Counterpart, compare_with_paper, metric_format
from evalkit.tables.cells import format_number
from evalkit.tables.published import RTF, published_notes

HEAD = (
    "System",
    "Published as",
    "Metric",
    "n",
    "Ours",
    "95 % interval",
    "Published",
    "Difference",
    "Covered",
    "Remarks",
)
WORDS = ("Published as", "Metric", "Remarks")
WEIGHTS = "whether the weights are the published ones was not kept"


@dataclass(frozen=True)
class PublishedTable:
    """Ours beside a paper's: the frame of `compare_with_paper`, its lines as printed, and the notes below."""

    paper: Paper
    compared: pd.DataFrame
    lines: list[list[str]]
    notes: list[str]


def published_table(run: SavedRun) -> PublishedTable | None:
    """None where the run's experiment names no paper, or one that is not here.

    The run's own table is taken where it is there, as it knew which weights were loaded.

    Raises:
        RunError: its tables/published.csv is damaged.
    """
    experiment = run.description.get("experiment") or {}
    if experiment.get("paper") not in paper_names():
        return None
    paper = read_paper(experiment["paper"])
    path = run.folder / "tables" / "published.csv"
    if path.is_file():
        try:
            compared = pd.read_csv(path, keep_default_na=True).fillna({"remarks": "", "dataset": ""})
            compared["covered"] = [
                None if pd.isna(value) else bool(value) for value in compared["covered"].astype(object)
            ]
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    else:
        compared = _compared(run, paper, experiment)
    lines = [_line(record) for record in compared.to_dict("records")]
    return PublishedTable(paper, compared, lines, published_notes(compared, paper))


def _compared(run: SavedRun, paper: Paper, experiment: Mapping[str, Any]) -> pd.DataFrame:
    counterparts = {
        str(name): Counterpart(str(name))
        for name, kind in zip(run.systems["system"], run.systems["kind"], strict=True)
        if kind == "anchor" and name in paper.systems
    }
    for name, spec in (experiment.get("systems") or {}).items():
        if spec.get("published") in paper.systems:
            trained = "trained here, not the published weights" if spec.get("bottleneck") else ""
            weights = WEIGHTS if spec.get("codec") or spec.get("checkpoint") else ""
            differs = "; ".join(part for part in (spec.get("differs"), trained, weights) if part)
            counterparts[name] = Counterpart(spec["published"], differs)
    lost = run.utterances.groupby("system", sort=False).filter(
        lambda rows: bool((rows["status"] == "unavailable").all())
    )
    first = lost.drop_duplicates("system")
    reasons = dict(zip(first["system"], first["detail"].fillna("unavailable"), strict=True))
    protocol = str((run.description.get("protocol") or {}).get("label", ""))
    return compare_with_paper(run.summary(), paper, counterparts, protocol, reasons)


def _line(record: Mapping[Any, Any]) -> list[str]:
    metric = record["metric"]
    decimals = 4 if metric == RTF else metric_format(metric).decimals
    has_number = not math.isnan(record["ours"])
    covered = {None: "-", True: "yes", False: "no"}[record["covered"]]
    return [
        str(record["system"]),
        str(record["published_as"]),
        "RTF" if metric == RTF else metric_format(metric).label,
        f"{int(record['n']):,}" if record["n"] else "-",
        format_number(record["ours"], decimals),
        interval_text(record["low"], record["high"], decimals),
        format_number(record["published"], int(record["decimals"])),
        signed(record["difference"], decimals) if has_number else "-",
        covered,
        first_sentence(str(record["remarks"])) if record["remarks"] else "",
    ]
