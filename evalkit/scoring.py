"""Scoring in worker processes: a pair that takes its process down is one failed row, not the end of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray

from evalkit.metrics import Score, score_pair

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """An utterance and its reconstruction, (samples,) float each; `unreadable` says why there are none."""

    utterance: str
    reference: Audio
    reference_rate: int
    estimate: Audio
    estimate_rate: int
    unreadable: str = ""

    @classmethod
    def without_audio(cls, utterance: str, reason: str) -> Pair:
        """An utterance that could not be read: all its scores fail for `reason`."""
        nothing = np.empty(0, np.float32)
        return cls(utterance, nothing, 1, nothing, 1, reason)


def score_pairs(pairs: Iterable[Pair], metrics: list[str], workers: int) -> Iterator[tuple[Pair, list[Score]]]:
    """Score pairs in `workers` processes of one thread each, in order, reading `pairs` only a little ahead.

    A pair that takes its process down is tried again alone; if it does so again, its metrics are `failed`.
    """
    source = iter(pairs)
    while True:
        in_hand: dict[int, Pair] = {}
        results = Parallel(n_jobs=workers, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)(
            delayed(_score)(pair, metrics) for pair in _noting(source, in_hand)
        )
        done = 0
        try:
            for scores in results:
                yield in_hand.pop(done), scores
                done += 1
            return
        except TerminatedWorkerError:
            # Which of those in hand did it is not known, so each is tried alone.
            for _, pair in sorted(in_hand.items()):
                yield pair, _score_alone(pair, metrics)


def _noting(source: Iterator[Pair], in_hand: dict[int, Pair]) -> Iterator[Pair]:
    for number, pair in enumerate(source):
        in_hand[number] = pair
        yield pair


def _score(pair: Pair, metrics: list[str]) -> list[Score]:
    if pair.unreadable:
        return [Score(metric, None, "failed", pair.unreadable, 0.0) for metric in metrics]
    return score_pair(metrics, pair.reference, pair.reference_rate, pair.estimate, pair.estimate_rate)


def _score_alone(pair: Pair, metrics: list[str]) -> list[Score]:
    scores = []
    for metric in metrics:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                scores += pool.submit(_score, pair, [metric]).result()
            except BrokenProcessPool:
                scores.append(Score(metric, None, "failed", f"{metric} took its process down", 0.0))
    return scores
