"""Made-up finished runs for stores of published results: true qualities, noise, dates and versions as asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalkit.run.store import SIGNAL_COLUMNS, UTTERANCE_COLUMNS

START = datetime(2026, 1, 1, tzinfo=UTC)
# metric -> (mean, spread between utterances, noise of a run, effect of one unit of quality)
METRICS = {
    "pesq": (2.2, 0.3, 0.05, 0.2),
    "stoi": (0.85, 0.04, 0.005, 0.02),
    "estoi": (0.75, 0.05, 0.006, 0.02),
    "mel_distance": (0.8, 0.1, 0.01, -0.05),
    "stft_distance": (1.5, 0.2, 0.02, -0.1),
    "si_sdr": (4.0, 1.0, 0.2, 0.5),
}
SYSTEMS = ("ground-truth", "rhombic", "fsq", "rvq")


def write_run(
    folder: Path,
    *,
    name: str = "nightly",
    day: int = 0,
    systems: Sequence[str] = SYSTEMS,
    metrics: Sequence[str] = tuple(METRICS),
    quality: Mapping[str, float] | None = None,
    utterances: int = 48,
    versions: Mapping[str, str] | None = None,
    audio: str = "",
    dataset: str = "librispeech/test-clean",
    protocol: str = "strict",
    **description: Any,
) -> Path:
    """Write the folder of a finished run, `day` days after START.

    Args:
        folder: made here.
        quality: system -> what is added to its true quality; 1 is a change that every metric shows.
        utterances: their number, over 12 speakers; all runs share their difficulties.
        versions: metric -> version; "1" where not named.
        audio: changes the digests of the references.
        description: further keys of run.json.
    """
    folder.mkdir(parents=True)
    shared, own = np.random.default_rng(5), np.random.default_rng([day, *name.encode()[:8]])
    difficulty = shared.standard_normal((len(METRICS), 1000))[:, :utterances]
    ids = [f"u{number:03}" for number in range(utterances)]
    speakers = [f"s{number % 12:02}" for number in range(utterances)]
    rows = []
    for place, system in enumerate(systems):
        for metric in metrics:
            mean, spread, noise, effect = METRICS[metric]
            if system == "ground-truth":
                values = np.full(utterances, mean + 3 * abs(effect))
            else:
                better = (quality or {}).get(system, 0.0) + 0.5 * place
                values = mean + effect * better + spread * difficulty[list(METRICS).index(metric)]
                values = values + noise * own.standard_normal(utterances)
            version = (versions or {}).get(metric, "1")
            rows += [
                (system, dataset, *named, metric, value, "ok", "", 0.1, protocol, version)
                for named, value in zip(zip(ids, speakers, strict=True), values, strict=True)
            ]
    pd.DataFrame(rows, columns=list(UTTERANCE_COLUMNS)).to_parquet(folder / "utterances.parquet")
    known = [
        {
            "system": system, "kind": "anchor" if system == "ground-truth" else "codec",
            "bits_per_frame": None if system == "ground-truth" else 19.2 + place,
            "bitrate": None if system == "ground-truth" else 50 * (19.2 + place), "utilization": 0.9 + 0.01 * place,
            "rtf_encode": 0.01, "rtf_decode": 0.02, "rtf_detail": "batch 1", "parameters": 1.3e6,
        }
        for place, system in enumerate(systems)
    ]  # fmt: skip
    pd.DataFrame(known).to_parquet(folder / "systems.parquet")
    pd.DataFrame(columns=["system", "quantizer", "code", "count"]).to_parquet(folder / "codes.parquet")
    signals = [
        (system, dataset, utterance, speaker, 4.0, f"{audio}{utterance}", f"{name}{day}")
        for system in systems
        for utterance, speaker in zip(ids, speakers, strict=True)
    ]
    pd.DataFrame(signals, columns=list(SIGNAL_COLUMNS)).to_parquet(folder / "signals.parquet")
    values = {
        "schema_version": 2,
        "finished": (START + timedelta(days=day)).isoformat(timespec="seconds"),
        "version": f"0.1.0+g{day + 0xABC0000:07x}",
        "hardware": {"cpu": "Some CPU", "cores": 2, "gpu": None, "gpus": 0},
        "protocol": {"label": protocol},
        "test": {"dataset": dataset, "scored": utterances},
        "baseline": None,
        "seed": 0,
        "experiment": {"name": name, "title": f"The run {name}"},
    }
    (folder / "run.json").write_text(json.dumps(values | description), encoding="utf-8")
    return folder
