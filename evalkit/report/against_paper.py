"""The published numbers of a run's paper beside ours, as lines of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalkit.papers import Paper, paper_names, read_paper
from evalkit.run.saved_run import PUBLISHED_TABLE, RunError, SavedRun
from evalkit.tables import Counterpart, compare_with_paper
from evalkit.tables.against_paper import HEAD as PRINTED
from evalkit.tables.against_paper import published_notes, published_texts
from evalkit.tables.csv_text import read_csv
from evalkit.text import first_sentence, plain

HEAD = (*PRINTED, "Remarks")
WORDS = (*PRINTED[1:3], "Remarks")
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
        RunError: its published.csv is damaged.
    """
    experiment = run.description.get("experiment") or {}
    if experiment.get("paper") not in paper_names():
        return None
    paper = read_paper(experiment["paper"])
    path = run.folder / "tables" / PUBLISHED_TABLE
    if not path.is_file():
        path = run.folder / PUBLISHED_TABLE
    if path.is_file():
        try:
            compared = read_csv(path).fillna({"remarks": "", "dataset": ""})
            compared["covered"] = [
                None if pd.isna(value) else bool(value) for value in compared["covered"].astype(object)
            ]
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    else:
        compared = _compared(run, paper, experiment)
    lines = [[*published_texts(record), _remarks(record)] for record in compared.to_dict("records")]
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


def _remarks(record: Mapping[Any, Any]) -> str:
    if not record["remarks"]:
        return ""
    return first_sentence(record["remarks"]) if math.isnan(record["ours"]) else plain(record["remarks"])
