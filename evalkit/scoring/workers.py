"""Scoring in worker processes: a pair that hangs or takes its process down is a failed row, not the end of the run."""

from __future__ import annotations

import faulthandler
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from evalkit.metrics import load_metric, version_on
from evalkit.scoring.cache import Cache
from evalkit.scoring.pair import Pair, PairScorer, Score
from evalkit.scoring.processes import start_worker, thread_variables
from evalkit.scoring.protocol import Protocol

# Seconds after which idle workers leave: soon enough not to hold memory while the next system is trained.
IDLE_SECONDS = 30
ONE_THREAD = thread_variables(1)


@dataclass(frozen=True)
class Scorer:
    """Scores pairs in processes of one thread each.

    Attributes:
        protocol: how pairs are brought to the metrics.
        cache: what is known already, and where new scores go; None for nowhere.
        workers: processes.
        device: "cpu" or "cuda", where metrics run their networks.
        time_limit: seconds that one metric may take for one pair.
    """

    protocol: Protocol
    cache: Cache | None
    workers: int
    device: str = "cpu"
    time_limit: float = 300.0

    def score(self, pairs: Iterable[tuple[Pair, Sequence[str]]]) -> Iterator[tuple[Pair, list[Score]]]:
        """Score each pair by the metrics that come with it and yield it with its scores, in order.

        `pairs` is read in the calling thread, at most 2 x `workers` ahead: memory stays flat, and the next pair is made
        while earlier ones are scored. Also a single worker is a process of its own. A pair whose process ends (it
        crashed, or was ended at the time limit) is tried again alone, metric by metric; a metric that ends its process
        again is `failed`.

        Raises:
            UnknownName: a metric is not registered (a misspelt request is not a failed row).
        """
        in_hand: deque[_Job] = deque()
        try:
            for pair, metrics in pairs:
                in_hand.append(self._submit(pair, metrics))
                if len(in_hand) >= 2 * self.workers:
                    yield self._collect(in_hand[0])
                    in_hand.popleft()
            while in_hand:
                yield self._collect(in_hand[0])
                in_hand.popleft()
        except BaseException:
            if in_hand:  # what they are doing is wanted no more, and a metric that hangs would keep the process
                self._pool().shutdown(wait=False, kill_workers=True)
            raise

    def _submit(self, pair: Pair, metrics: Sequence[str]) -> _Job:
        if pair.unreadable:
            scorer = PairScorer(pair, self.protocol)
            return _Job(pair, metrics, {name: scorer.score(name) for name in metrics}, None)
        known = self._cached(pair, metrics)
        missing = [name for name in metrics if name not in known]
        future: Future[list[Score]] | None = None
        while missing and future is None:
            try:
                future = self._pool().submit(_score, self, pair, missing)
            except BrokenProcessPool:
                continue  # it broke since the last call; the next one starts another
        return _Job(pair, metrics, known, future)

    def _collect(self, job: _Job) -> tuple[Pair, list[Score]]:
        scores = dict(job.known)
        if job.future is not None:
            try:
                scores |= {score.metric: score for score in job.future.result()}
            except BrokenProcessPool:
                # All pairs in hand end like this, and which of them did it is not known.
                scores |= self._cached(job.pair, job.metrics)
                scores |= self._score_alone(job.pair, [name for name in job.metrics if name not in scores])
        return job.pair, [scores[name] for name in job.metrics]

    def _pool(self) -> ProcessPoolExecutor:
        return get_reusable_executor(
            self.workers, timeout=IDLE_SECONDS, env=ONE_THREAD, initializer=start_worker, initargs=(os.getpid(),)
        )

    def _single(self) -> ProcessPoolExecutor:
        """A process of its own, away from the pool."""
        return ProcessPoolExecutor(1, env=ONE_THREAD, initializer=start_worker, initargs=(os.getpid(),))

    def _cached(self, pair: Pair, metrics: Sequence[str]) -> dict[str, Score]:
        return PairScorer(pair, self.protocol, self.cache, self.device).cached(metrics)

    def _score_alone(self, pair: Pair, metrics: Sequence[str]) -> dict[str, Score]:
        scores: dict[str, Score] = {}
        pool = self._single()
        try:
            for name in metrics:
                start = time.perf_counter()
                try:
                    scores[name] = pool.submit(_score, self, pair, [name]).result()[0]
                except BrokenProcessPool as ended:
                    seconds = time.perf_counter() - start
                    # The watchdog ends a process with 1, a crash does so by a signal.
                    hung = seconds >= self.time_limit and "EXIT(1)" in str(ended)
                    reason = f"gave no score within {self.time_limit:g} s" if hung else "took its process down"
                    version = version_on(load_metric(name, self.device), self.device)
                    scores[name] = Score(name, None, "failed", f"{name} {reason}", seconds, version)
                    pool.shutdown(wait=False)
                    pool = self._single()
        finally:
            pool.shutdown(kill_workers=True)  # idle by now, or interrupted
        return scores


@dataclass(frozen=True)
class _Job:
    """A pair on its way: scores that are known, and the promise of the others."""

    pair: Pair
    metrics: Sequence[str]
    known: Mapping[str, Score]
    future: Future[list[Score]] | None


def _score(scorer: Scorer, pair: Pair, metrics: Sequence[str]) -> list[Score]:
    """What a worker does: metric by metric, each within the time limit."""
    if scorer.device != "cpu":
        _full_precision()
    pair_scorer = PairScorer(pair, scorer.protocol, scorer.cache, scorer.device)
    scores = []
    with open(os.devnull, "w") as nowhere:
        for name in metrics:
            # Ends this process, whatever holds it: a metric that hangs in compiled code never comes back to Python.
            faulthandler.dump_traceback_later(scorer.time_limit, exit=True, file=nowhere)
            try:
                scores.append(pair_scorer.score(name))
            finally:
                faulthandler.cancel_dump_traceback_later()
    return scores


def _full_precision() -> None:
    """A GPU rounds the factors of products to 10 bits unless told otherwise."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
