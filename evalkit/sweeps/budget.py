"""What the trials of a sweep were trained with and scored on: results hold for this budget only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from evalkit.run.descriptions import read_description
from evalkit.sweeps import SweepError
from evalkit.sweeps.folder import SweepFolder
from evalkit.sweeps.state import trial_folder


def describe_budget(sweep: SweepFolder, trials: pd.DataFrame) -> list[str]:
    """Steps, audio, backbone and test set of the trials with results, as sentences; where they differ, all values.

    Args:
        sweep: whose trials' run.json say it; of results without these files, the number of steps is all that is told.
        trials: `SweepRows.trials`.
    """
    runs = list(_runs(sweep, trials))
    steps = sorted({int(steps) for steps in trials["train_steps"].dropna()})
    if not steps:
        return ["No trial has a result yet."]
    seeds = sorted(set(trials.loc[trials["train_steps"].notna(), "seed"]))
    told = [f"{_either(f'{count:,}' for count in steps)} steps of training, seeds {', '.join(map(str, seeds))}"]
    if runs:
        told.append(_either(_batches(run["experiment"]["train"]) for run in runs))
        told.append(f"drawn from {_either(_corpora(run) for run in runs)}")
        told.append(_either(_start(run["experiment"]["train"]) for run in runs))
    sizes = sorted(float(size) / 1e6 for size in trials["parameters"].dropna())
    if sizes:
        size = " to ".join(dict.fromkeys(f"{end:.2f}" for end in (sizes[0], sizes[-1])))
        backbone = f"{_either(_backbone(run['experiment']['backbone']) for run in runs)}, " if runs else ""
        told.append(f"backbone: {backbone}{size} M parameters with the bottleneck")
    sentences = [f"Budget: {'; '.join(told)}."]
    if runs:
        sentences.append(f"Scored on {_either(_tested(run) for run in runs)}.")
    return sentences


def _runs(sweep: SweepFolder, trials: pd.DataFrame) -> Iterable[dict[str, Any]]:
    for identifier in trials.loc[trials["train_steps"].notna(), "id"]:
        path = trial_folder(sweep.folder, identifier) / "run.json"
        if path.is_file():
            run = read_description(path, SweepError)
            if lacking := [key for key in ("experiment", "train", "test", "test_corpus", "protocol") if key not in run]:
                raise SweepError(f"{path} is damaged: it lacks {lacking[0]}")
            yield run


def _either(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))


def _batches(train: Mapping[str, Any]) -> str:
    batch = train["batch_size"] * train["accumulate"]
    minutes = train["steps"] * batch * train["segment_seconds"] / 60
    return f"{batch} x {train['segment_seconds']:g} s each ({minutes:,.0f} min of audio in all)"


def _corpora(run: Mapping[str, Any]) -> str:
    parts = [
        f"{corpus['seconds'] / 60:,.0f} min of {corpus['corpus']} ({corpus['coverage']})" for corpus in run["train"]
    ]
    return " and ".join(parts) or "no corpus"


def _start(train: Mapping[str, Any]) -> str:
    start = train["init_from"]
    return f"each from the backbone {start}, trained without a bottleneck" if start else "each from scratch"


def _backbone(backbone: Mapping[str, Any]) -> str:
    changes = ", ".join(f"{key}: {value}" for key, value in backbone["changes"].items())
    return f"{backbone['size']}{f' ({changes})' if changes else ''}"


def _tested(run: Mapping[str, Any]) -> str:
    return f"{run['test']['dataset']}: {run['test_corpus']['coverage']}, protocol {run['protocol']['label']}"
