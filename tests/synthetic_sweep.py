"""A made-up sweep whose true qualities are known: trials, scores and, where asked for, the files of a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalkit.sweeps.configurations import RateSeries, SweptConfiguration, configurations, rate_series
from evalkit.sweeps.folder import SweepFolder
from evalkit.sweeps.results import SYSTEM_COLUMNS, UTTERANCE_COLUMNS, SweepRows
from evalkit.sweeps.schema import Sweep

SPEAKERS, PER_SPEAKER = 12, 3


@dataclass(frozen=True)
class Made:
    """A configuration: its bottleneck, true rate and quality.

    offset: true quality of pesq, and a fiftieth of it of stoi.
    coded: entropy-coded bits per frame.
    states: of its seeds in order; "done" where there are fewer.
    """

    label: str
    family: str
    bottleneck: dict[str, Any]
    bits: float | None
    offset: float = 0.0
    target: float | None = None
    coded: float | None = None
    utilization: Sequence[float] = (1.0, 1.0, 1.0)
    frames: int = 640  # of a codebook of 64 codes
    states: Sequence[str] = ()
    values: dict[str, Any] | None = None


def q2d2(label: str, levels: Sequence[int], bits: float, offset: float = 0.0, **others: Any) -> Made:
    tiling = label.partition(" ")[0]
    return Made(label, tiling, {"name": "q2d2", "tiling": tiling, "levels": list(levels)}, bits, offset, **others)


@dataclass
class Noise:
    """Standard deviations: of a training (shared by its utterances), and of each score; difficulty is shared by all."""

    seed: float = 0.0
    score: float = 0.0
    difficulty: float = 0.3
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))


def made_sweep(
    made: Sequence[Made],
    folder: Path = Path("made"),
    *,
    seeds: int = 3,
    noise: Noise | None = None,
    metrics: Sequence[str] = ("pesq", "stoi"),
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda utterances: utterances,
    **sweep: Any,
) -> tuple[SweepFolder, SweepRows]:
    """The sweep's folder as an object, and its rows; `change` is done to the utterances' rows at the end."""
    noise = noise or Noise()
    trials, described, scores = [], [], []
    difficulty = noise.difficulty * noise.rng.standard_normal(SPEAKERS * PER_SPEAKER)
    for seed in range(seeds):  # the first seed of all comes first, as in a real sweep
        for number, one in enumerate(made):
            state = one.states[seed] if seed < len(one.states) else "done"
            identifier = f"trial-{number}-{seed}"
            values = one.values if one.values is not None else {"bottleneck": one.bottleneck}
            trial = {
                "id": identifier, "configuration": f"{number:06}abcdef", "label": one.label, "family": one.family,
                "seed": seed, "target": one.target, "bits_per_frame": one.bits, "bitrate": (one.bits or 0) * 50,
            }  # fmt: skip
            described.append(trial | {"values": values})
            trial |= dict.fromkeys(SYSTEM_COLUMNS) | {"seconds": 1.0, "host": "here", "state": state, "reason": ""}
            if state == "failed":
                trial["reason"] = "the loss is not finite"
            if state == "done":
                coded = one.coded if one.coded is not None else (one.bits and 0.9 * one.bits)
                trial |= {
                    "bottleneck": json.dumps(one.bottleneck), "entropy": coded, "train_steps": 400,
                    "codebook_sizes": [64], "frames_counted": one.frames,
                    "utilization": one.utilization[seed % len(one.utilization)],
                    "normalized_entropy": coded / one.bits if coded and one.bits else None, "parameters": 1_270_000,
                }  # fmt: skip
                training = noise.seed * noise.rng.standard_normal()
                for metric in metrics:
                    scale = {"pesq": 1.0, "stoi": 0.02}.get(metric, -1.0)  # all others: lower is better
                    own = noise.score * noise.rng.standard_normal(difficulty.size)
                    quality = 2 + scale * (one.offset + training + difficulty + own)
                    scores += [
                        (identifier, "made/test", f"u{place:02}", f"s{place // PER_SPEAKER}", metric, value, "ok", "",
                         "strict", "1")
                        for place, value in enumerate(quality)
                    ]  # fmt: skip
            trials.append(trial)
    utterances = change(pd.DataFrame(scores, columns=list(UTTERANCE_COLUMNS)))
    values = {"name": "made", "experiment": "tiny", "points": [{"list": [{}]}], "seeds": list(range(seeds)), **sweep}
    kept = Sweep.model_validate(values).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return SweepFolder(folder, kept, tuple(described)), SweepRows(pd.DataFrame(trials), utterances)


def swept(made: Sequence[Made], **options: Any) -> tuple[list[SweptConfiguration], list[RateSeries]]:
    """Configurations and series of `made_sweep`."""
    found = configurations(*made_sweep(made, **options))
    return found, rate_series(found)


def octaves(bits: float) -> float:
    """A quality that grows by 1 with every doubling of the rate: a straight line over the logarithm of the rate."""
    return math.log2(bits / 16)
