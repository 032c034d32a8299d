"""Scoring in worker processes: a pair that takes its process down is one failed row, not the end of the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool
from numpy.typing import NDArray

from evalkit.metrics import Score, score_pair

Audio = NDArray[np.float32]

# Seconds after which idle workers leave: soon enough not to hold memory while the next system is trained.
IDLE_SECONDS = 30
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


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
    """Score pairs in `workers` processes of one thread each and yield them with their scores, in order.

    `pairs` is read in the calling thread, at most 2 x `workers` ahead: memory stays flat, and the next pair is made
    while earlier ones are scored. Also a single worker is a process of its own. A pair that takes its process down is
    tried again alone, metric by metric; a metric that does so again is `failed`.

    Raises:
        UnknownName: one of `metrics` is not registered.
    """
    in_hand: deque[tuple[Pair, Future[list[Score]]]] = deque()
    try:
        for pair in pairs:
            in_hand.append((pair, _submit(pair, metrics, workers)))
            if len(in_hand) >= 2 * workers:
                yield _collect(*in_hand.popleft(), metrics)
        while in_hand:
            yield _collect(*in_hand.popleft(), metrics)
    finally:
        for _, future in in_hand:
            future.cancel()


def _submit(pair: Pair, metrics: list[str], workers: int) -> Future[list[Score]]:
    while True:
        pool = get_reusable_executor(workers, timeout=IDLE_SECONDS, env=ONE_THREAD)
        try:
            future: Future[list[Score]] = pool.submit(_score, pair, metrics)
        except BrokenProcessPool:
            continue  # it broke since the last call; the next one starts another
        return future


def _collect(pair: Pair, future: Future[list[Score]], metrics: list[str]) -> tuple[Pair, list[Score]]:
    try:
        return pair, future.result()
    except BrokenProcessPool:
        # All pairs in hand end like this, and which of them did it is not known.
        return pair, [_score_alone(pair, metric) for metric in metrics]


def _score(pair: Pair, metrics: list[str]) -> list[Score]:
    if pair.unreadable:
        return [Score(metric, None, "failed", pair.unreadable, 0.0) for metric in metrics]
    return score_pair(metrics, pair.reference, pair.reference_rate, pair.estimate, pair.estimate_rate)


def _score_alone(pair: Pair, metric: str) -> Score:
    with ProcessPoolExecutor(1, env=ONE_THREAD) as pool:
        try:
            scores: list[Score] = pool.submit(_score, pair, [metric]).result()
        except BrokenProcessPool:
            return Score(metric, None, "failed", f"{metric} took its process down", 0.0)
    return scores[0]
