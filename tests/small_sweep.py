"""A sweep of two trials of some seconds, and its results in an order of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from evalkit.sweeps.results import read_rows
from tests.command import write_experiment

SHORT = {"train.steps": 4, "train.checkpoint_every": 2, "train.log_every": 2, "metrics": ["stoi", "mel_distance"]}


def write_sweep(folder: Path, **values: Any) -> Path:
    write_experiment(folder / "base.yaml")
    plain = {"bottleneck.name": "q2d2", "bottleneck.levels": [5, 5]}
    points = [{"set": plain, "grid": {"bottleneck.tiling": ["rhombic", "hexagonal"]}}]
    path = folder / "sweep.yaml"
    sweep = {"name": "small", "experiment": "base.yaml", "set": SHORT, "points": points, **values}
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return path


def values(folder: Path) -> pd.DataFrame:
    frame = read_rows(folder).utterances
    return frame.drop(columns="detail").sort_values(["trial", "metric", "utterance"], ignore_index=True)


def run_trials_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have trials run one after the other in this process, which has loaded torch already."""

    def run_jobs(work: Callable[[Any], Any], items: Sequence[Any], **_: object) -> Iterator[tuple[Any, Any]]:
        for item in items:
            yield item, work(item)

    for module in ("evalkit.sweeps.run", "evalkit.tuning.run"):
        monkeypatch.setattr(f"{module}.run_jobs", run_jobs)
