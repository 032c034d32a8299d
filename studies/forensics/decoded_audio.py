"""Decoded audio of published codecs and the scores the published procedure gave it, in a folder.

Layout: DIR/scores.csv with the columns dataset, system, utterance, pesq_wb, stoi; DIR/DATASET/SYSTEM/UTTERANCE.flac;
the system `gt` holds the originals.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np

from evalkit.scoring.pair import Pair
from evalkit.scoring.protocol import Protocol
from evalkit.scoring.workers import Scorer
from q2d2.audio import read_audio
from q2d2.errors import UserError

ORIGINALS = "gt"
# Metric -> column of scores.csv.
COLUMNS = {"pesq": "pesq_wb", "stoi": "stoi"}


class PublishedError(UserError, ValueError):
    """The folder of published audio cannot be used; the message says why."""


@dataclass(frozen=True)
class Decoded:
    """One decoded file with its original.

    Attributes:
        system: "DATASET/SYSTEM".
        pair: both signals; its `utterance` is "DATASET/SYSTEM/UTTERANCE".
        scores: metric -> value in scores.csv.
    """

    system: str
    pair: Pair
    scores: Mapping[str, float]


def read_published(folder: Path) -> list[Decoded]:
    """All decoded files that `folder`/scores.csv lists, in its order, without the originals.

    Raises:
        PublishedError: no such folder, no scores.csv, a column or a number missing, or nothing decoded in it.
        AudioError: a file is missing or cannot be read.
    """
    table = folder / "scores.csv"
    if not table.is_file():
        raise PublishedError(f"{folder}: no scores.csv in it; expected scores.csv and DATASET/SYSTEM/UTTERANCE.flac")
    needed = {"dataset", "system", "utterance", *COLUMNS.values()}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = needed - set(reader.fieldnames or ())
            rows = [(number, row) for number, row in enumerate(reader, start=2) if row.get("system") != ORIGINALS]
    except (UnicodeDecodeError, csv.Error) as error:
        raise PublishedError(f"{table}: no CSV file in UTF-8 ({error})") from error
    if missing:
        raise PublishedError(f"{table}: no column {', '.join(sorted(missing))}")
    if not rows:
        raise PublishedError(f"{table}: no row of a decoded file")
    return [_decoded(folder, row, f"{table}, line {number}") for number, row in rows]


def _decoded(folder: Path, row: Mapping[str, str], where: str) -> Decoded:
    dataset, system, utterance = row["dataset"], row["system"], row["utterance"]
    if not (dataset and system and utterance):
        raise PublishedError(f"{where}: dataset, system or utterance is empty")
    scores = {}
    for metric, column in COLUMNS.items():
        try:
            scores[metric] = float(row[column])
        except (TypeError, ValueError) as error:
            raise PublishedError(f"{where}: {column} is {row[column]!r}, expected a number") from error
    reference, estimate = (read_audio(folder / dataset / of / f"{utterance}.flac") for of in (ORIGINALS, system))
    pair = Pair(f"{dataset}/{system}/{utterance}", *reference, *estimate)
    return Decoded(f"{dataset}/{system}", pair, scores)


@dataclass(frozen=True)
class Scores:
    """Scores of pairs by several metrics.

    Attributes:
        values: (metric, utterance) -> score, of those that have one.
        failed: "utterance, metric: reason" of the others.
        notes: utterance -> what the protocol noted of the pair, where it noted anything.
    """

    values: Mapping[tuple[str, str], float]
    failed: tuple[str, ...]
    notes: Mapping[str, str]

    def minus(self, other: Scores, metric: str) -> dict[str, float]:
        """Utterance -> this score less the other's, where both are there."""
        shared = [key for key in self.values if key[0] == metric and key in other.values]
        return {utterance: self.values[metric, utterance] - other.values[metric, utterance] for _, utterance in shared}


def score_all(pairs: Iterable[Pair], metrics: Sequence[str], protocol: Protocol) -> Scores:
    """Score `pairs` in worker processes, one a core; nothing comes from a cache."""
    values, failed, notes = {}, [], {}
    scorer = Scorer(protocol, cache=None, workers=joblib.cpu_count())
    for pair, scores in scorer.score((pair, metrics) for pair in pairs):
        for score in scores:
            if score.value is None:
                failed.append(f"{pair.utterance}, {score.metric}: {score.detail}")
            else:
                values[score.metric, pair.utterance] = score.value
            if score.detail and score.value is not None:
                notes[pair.utterance] = score.detail
    return Scores(values, tuple(failed), notes)


def change_estimate(pair: Pair, estimate: np.ndarray, rate: int | None = None) -> Pair:
    """`pair` with another estimate (samples,), at `rate` Hz or that of the old one."""
    return replace(pair, estimate=estimate.astype(np.float32), estimate_rate=rate or pair.estimate_rate)


def mean(values: Iterable[float]) -> float:
    """Exact mean; NaN of nothing."""
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else math.nan


def largest(values: Iterable[float]) -> float:
    """Largest absolute value; NaN of nothing."""
    return max((abs(value) for value in values), default=math.nan)
