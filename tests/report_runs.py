"""Small made-up runs on disk for tests of the report, among them one whose names are as hostile as names can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalkit.run.store import SIGNAL_COLUMNS, UTTERANCE_COLUMNS

SCRIPT = "<script>window.attacked = true</script>"
IMAGE = '"><img src=x onerror="window.attacked=true">'
BREAKOUT = "</script><script>window.attacked = true</script>"
TEMPLATE = "{{ 7 * 7 }}{% raw %}"
PATHS = "../../../etc/passwd"
EMOJI = "codec 🎧👩‍🔬"
RTL = "מערכת \u202eevil"
LONG = "long-" + "x" * 295
HOSTILE = (SCRIPT, IMAGE, BREAKOUT, TEMPLATE, PATHS, EMOJI, RTL, LONG)
MARKED_NAMES = tuple(f"u{index}-{name}" for index, name in enumerate(HOSTILE))

LEVELS = [5, 5]
Q2D2 = {"name": "q2d2", "tiling": "rectangular", "levels": LEVELS}


def write_run(
    folder: Path,
    systems: Sequence[str] = ("alpha", "beta"),
    utterances: Sequence[str] = tuple(f"utterance-{index:02}" for index in range(12)),
    **changes: Any,
) -> Path:
    """A finished run: a known answer, then `systems` as codecs, the first of them the baseline; `changes` to run.json.

    PESQ of the last utterance failed for the second system; UTMOS was unavailable. System k is better than k - 1.
    """
    folder.mkdir(parents=True)
    names = ["ground-truth", *systems]
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 0.1, len(utterances))
    rows = []
    for place, system in enumerate(names):
        for index, utterance in enumerate(utterances):
            value: float | None = 4.6 if not place else 1.5 + 0.2 * place + difficulty[index] + rng.normal(0, 0.01)
            status, detail = "ok", ""
            if place == 2 and index == len(utterances) - 1:
                value, status, detail = None, "failed", f"no speech was found in {utterance}"
            common = ("corpus/test", utterance, f"speaker-{index % 8}")
            rows.append((system, *common, "pesq", value, status, detail, 0.1, "strict", "pesq 1"))
            rows.append((system, *common, "stoi", 0.8 + 0.01 * place, "ok", "", 0.1, "strict", "stoi 1"))
            rows.append((system, *common, "utmos", None, "unavailable", "the weights are missing", 0.0, "strict", ""))
    table = pd.DataFrame(rows, columns=list(UTTERANCE_COLUMNS))
    table["value"] = table["value"].astype("float64")
    table.to_parquet(folder / "utterances.parquet")
    pd.DataFrame([_system(name, place) for place, name in enumerate(names)]).to_parquet(folder / "systems.parquet")
    codes = [(system, 0, code, code * (place + 1)) for place, system in enumerate(systems) for code in range(25)]
    pd.DataFrame(codes, columns=["system", "quantizer", "code", "count"]).to_parquet(folder / "codes.parquet")
    signals = [
        (system, *common, 2.0, f"reference-{common[1]}", f"{system} {common[1]}")
        for system in names
        for common in dict.fromkeys(row[1:4] for row in rows)
    ]
    pd.DataFrame(signals, columns=list(SIGNAL_COLUMNS)).to_parquet(folder / "signals.parquet")
    description = _description(systems[0]) | changes
    (folder / "run.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def write_log(folder: Path, system: str) -> None:
    """A training log of `system`, 500 logged steps."""
    (folder / "training").mkdir(exist_ok=True)
    steps = np.arange(10, 5010, 10)
    log = pd.DataFrame({"step": steps, "mel": 3 / np.sqrt(steps), "total": 5 / np.sqrt(steps), "learning_rate": 1e-3})
    log.to_csv(folder / "training" / f"{system}.csv", index=False)


def write_hostile_run(folder: Path) -> Path:
    """Systems, utterances, title, notes and reasons that would run scripts or leave the folder where not escaped."""
    experiment = _description(HOSTILE[0])["experiment"] | {
        "name": "hostile",
        "title": IMAGE,
        "notes": [SCRIPT, BREAKOUT],
    }
    told = {"experiment": experiment, "hardware": {"cpu": SCRIPT, "cores": 2, "threads": 2, "gpu": IMAGE, "gpus": 1}}
    return write_run(folder, HOSTILE, MARKED_NAMES, unavailable={"utmos": BREAKOUT}, **told)


def _system(name: str, place: int) -> dict[str, Any]:
    codec = place > 0
    return {
        "system": name,
        "kind": "codec" if codec else "anchor",
        "dataset": "corpus/test",
        "bottleneck": json.dumps(Q2D2) if codec else None,
        "codec": None,
        "codebook_sizes": [25] if codec else None,
        "frame_rate": 50.0 if codec else None,
        "bits_per_frame": 4.64 if codec else None,
        "bitrate": 232.0 + 40 * place if codec else None,
        "tokens_per_second": 50.0 if codec else None,
        "utilization": 0.96 if codec else None,
        "entropy": 4.2 if codec else None,
        "normalized_entropy": 0.9 if codec else None,
        "perplexity": 18.0 if codec else None,
        "entropy_bitrate": 210.0 if codec else None,
        "rtf_encode": 0.01 if codec else None,
        "rtf_decode": 0.02 if codec else None,
        "rtf_detail": "batch 1 x 5.00 s" if codec else None,
        "parameters": 1.0e6 if codec else None,
    }


def _description(baseline: str) -> dict[str, Any]:
    return {
        "schema_version": 2,
        "version": "0.1.0+gabcdef1",
        "python": "3.11.7",
        "packages": {"torch": "2.14.1"},
        "hardware": {"cpu": "A CPU", "cores": 2, "threads": 2, "gpu": None, "gpus": 0, "ram_gib": 8.0},
        "protocol": {"label": "strict", "signals": "float", "checked": True, "rates": {"pesq": 16000}},
        "unavailable": {"utmos": "the weights are missing"},
        "baseline": baseline,
        "test": {"dataset": "corpus/test", "scored": 12, "files_sha256": "0123456789abcdef"},
        "test_corpus": {"coverage": "12 of 100 utterances (partial)", "left_out": []},
        "train": [{"corpus": "corpus/train", "coverage": "50 of 50 utterances", "seconds": 7200.0, "left_out": []}],
        "seed": 7,
        "experiment": {
            "name": "made-up",
            "title": "A made-up run",
            "notes": ["Nothing here was measured."],
            "backbone": {"size": "tiny", "changes": {}},
            "data": {"train": [{"name": "corpus", "part": "train"}], "test": {"name": "corpus", "part": "test"}},
            "train": {"recipe": "spectral", "steps": 10},
            "systems": {baseline: {"bottleneck": Q2D2}},
            "paper": None,
        },
    }
