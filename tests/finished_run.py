"""One finished run of the tiny experiment, made once for all test modules that read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from evalkit.plots.drawing import DrawnPlots
from tests.command import Outcome, evalkit, write_experiment
from tests.shared import made_once


class Run(NamedTuple):
    """A finished run."""

    experiment: Path
    folder: Path
    outcome: Outcome

    def rows(self, name: str) -> pd.DataFrame:
        return rows(self.folder, name)


def finished_run(factory: pytest.TempPathFactory) -> Run:
    """All bottlenecks, trained, scored, drawn, on a terminal 80 characters wide."""

    def make(folder: Path) -> None:
        experiment = write_experiment(folder / "trial.yaml")
        outcome = evalkit("run", experiment, "--out", folder / "run", "--workers", 1)
        (folder / "outcome.json").write_text(json.dumps(outcome))

    folder = made_once(factory, "finished", make)
    outcome = Outcome(*json.loads((folder / "outcome.json").read_text()))
    return Run(folder / "trial.yaml", folder / "run", outcome)


def copied_run(run: Run, folder: Path) -> Run:
    shutil.copytree(run.folder, folder / "run")
    return run._replace(folder=folder / "run")


def leave_out_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take seconds and follow from rows that are compared anyway."""
    monkeypatch.setattr("evalkit.run.outputs.draw_plots", lambda *args, **options: DrawnPlots((), {}))


def rows(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")


def journal(folder: Path) -> list[dict]:
    """The whole lines of a run's journal."""
    path = folder / "journal.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line[line.index("{") :]) for line in text.split("\n")[:-1]]
