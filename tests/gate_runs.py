"""Made-up runs for tests of the gate: two systems, 50 utterances of 12 speakers, six metrics that agree in part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.gate import Gate, load_gate
from evalkit.run.saved_run import SavedRun
from evalkit.run.store import SCHEMA_VERSION, SIGNAL_COLUMNS

DATASET = "librispeech/test-clean"
NUM_UTTERANCES, NUM_SPEAKERS = 50, 12
SYSTEMS = ("rhombic", "fsq")
# metric -> (mean of the systems, spread over utterances, spread of a difference between two runs)
METRICS = {
    "pesq": (2.1, 0.3, 0.15),
    "stoi": (0.86, 0.03, 0.012),
    "estoi": (0.75, 0.05, 0.02),
    "mel_distance": (0.7, 0.1, 0.05),
    "vuv_f1": (0.92, 0.03, 0.02),
    "si_sdr": (2.5, 1.5, 0.8),
}
ANCHORS = {"ground-truth": 1.0, "noise-10db": 0.5}
DEFAULT_GATE = load_gate().model_dump()
HARDWARE = {"cpu": "CPU", "cores": 2, "threads": 1, "gpu": None, "gpus": 0, "ram_gib": 8.0}
IDS = [f"u{number:02d}" for number in range(NUM_UTTERANCES)]
SPEAKERS = [f"s{number % NUM_SPEAKERS}" for number in range(NUM_UTTERANCES)]

Scores = dict[tuple[str, str], NDArray[np.float64]]


def base_scores(seed: int = 0) -> Scores:
    """(system, metric) -> values (utterances,): some utterances are hard, by all metrics and for all systems."""
    rng = np.random.default_rng(seed)
    hard = rng.standard_normal(NUM_UTTERANCES)
    found = {}
    for system in SYSTEMS:
        for metric, (mean, spread, _) in METRICS.items():
            found[system, metric] = mean + spread * (0.8 * hard + 0.6 * rng.standard_normal(NUM_UTTERANCES))
    return found


def noisy(scores: Scores, seed: int) -> Scores:
    """Another run of equally good systems: what differs has mean 0, leans with the speaker and agrees among metrics."""
    rng = np.random.default_rng(seed)
    speakers = np.array([int(name[1:]) for name in SPEAKERS])
    found = {}
    for system in SYSTEMS:
        common = rng.standard_normal(NUM_UTTERANCES)
        for metric, (_, _, spread) in METRICS.items():
            by_speaker = rng.standard_normal(NUM_SPEAKERS)[speakers]
            own = rng.standard_normal(NUM_UTTERANCES)
            noise = 0.6 * common + 0.5 * by_speaker + np.sqrt(1 - 0.6**2 - 0.5**2) * own
            found[system, metric] = scores[system, metric] + spread * noise
    return found


def uneven(by: float) -> NDArray[np.float64]:
    """Differences of `by`, (utterances,), a little more or less: Wilcoxon's test of equal ones takes half a second."""
    return by * (1 + 0.001 * np.random.default_rng(1).standard_normal(NUM_UTTERANCES))


def make_run(
    scores: Scores,
    *,
    kind: str = "codec",
    speakers: list[str] | None = None,
    systems: Mapping[str, Mapping[str, Any]] | None = None,
    protocol: str = "strict",
    folder: str = "run",
    digests: bool = True,
) -> SavedRun:
    """A finished run of `scores`, with two known-answer systems.

    Args:
        scores: (system, metric) -> values of the utterances.
        kind: of the systems: "codec" or "folder".
        speakers: of the utterances; None for 12 of them.
        systems: system -> further columns of systems.parquet.
        protocol: of all rows.
        folder: its path, which need not exist.
        digests: whether the run kept what it scored.
    """
    count = len(next(iter(scores.values())))
    names = list(dict.fromkeys(system for system, _ in scores))
    metrics = list(dict.fromkeys(metric for _, metric in scores))
    values = {(anchor, m): np.full(count, value) for anchor, value in ANCHORS.items() for m in metrics} | scores
    frame = pd.DataFrame(
        {
            "system": [system for system, _ in values for _ in range(count)],
            "metric": [metric for _, metric in values for _ in range(count)],
            "utterance": IDS[:count] * len(values),
            "speaker": (speakers or SPEAKERS)[:count] * len(values),
            "value": np.concatenate(list(values.values())),
        }
    ).assign(dataset=DATASET, status="ok", detail="", protocol=protocol, version="1", seconds=0.1)
    kinds = dict.fromkeys(ANCHORS, "anchor") | dict.fromkeys(names, kind)
    rows = [{"system": n, "kind": k, "dataset": DATASET} | dict((systems or {}).get(n, {})) for n, k in kinds.items()]
    signals = pd.DataFrame(
        [
            (system, DATASET, utterance, None, 3.0, f"reference {utterance}", f"{system} {utterance}")
            for system in kinds
            for utterance in IDS[:count]
        ],
        columns=list(SIGNAL_COLUMNS),
    )
    description = {
        "schema_version": SCHEMA_VERSION,
        "version": "0.1.0",
        "hardware": HARDWARE,
        "protocol": {"label": protocol, "name": protocol, "rates": {}, "versions": {}},
        "experiment": {"name": "made-up"},
    }
    return SavedRun(
        Path(folder),
        description,
        frame,
        pd.DataFrame(rows),
        pd.DataFrame(columns=["system", "quantizer", "code", "count"]),
        signals if digests else signals.iloc[:0],
        {},
    )


def changed(run: SavedRun, **columns: Any) -> SavedRun:
    """The run with columns of its rows set, each to a value or by a function of the rows."""
    return replace(run, utterances=run.utterances.assign(**columns))


def gate(**changes: Any) -> Gate:
    """The default gate with keys replaced, each as a whole."""
    return Gate.model_validate(DEFAULT_GATE | changes)


def write_run(run: SavedRun, folder: Path) -> Path:
    """The run as files, as `evalkit run` leaves them."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(run.description), encoding="utf-8")
    frames = {"utterances": run.utterances, "systems": run.systems, "codes": run.codes, "signals": run.signals}
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet")
    return folder
