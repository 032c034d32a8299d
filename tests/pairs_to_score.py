"""Pairs that only differ in length, scored in worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from evalkit.scoring.cache import Cache
from evalkit.scoring.pair import Pair, Score
from evalkit.scoring.protocol import PROTOCOLS
from evalkit.scoring.workers import Scorer


def pairs(*lengths: int) -> list[Pair]:
    return [
        Pair(f"u{number}", np.full(length, 0.5, np.float32), 16_000, np.full(length, 0.5, np.float32), 16_000)
        for number, length in enumerate(lengths)
    ]


def score_pairs(
    source: Iterable[Pair], metrics: list[str], workers: int, time_limit: float = 300, cache: Cache | None = None
) -> Iterator[tuple[Pair, list[Score]]]:
    scorer = Scorer(PROTOCOLS["strict"], cache, workers, time_limit=time_limit)
    return scorer.score((pair, metrics) for pair in source)
