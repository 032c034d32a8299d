"""Items of work through worker processes, here or on a Ray cluster, none of which has to survive."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, get_args

from joblib import cpu_count

from evalkit.sweeps.attempts import BrokenOff, Done, Failed, Item, Outcome, Result
from evalkit.sweeps.local_workers import LocalWorkers
from evalkit.sweeps.ray_workers import RayWorkers
from q2d2.errors import Stopped, UserError
from q2d2.sigterm import Sigterm

ExecutorName = Literal["local", "ray"]
EXECUTORS: tuple[str, ...] = get_args(ExecutorName)
MOST_DEATHS = 3
TICK = 0.2  # seconds within which a signal is noticed
PAUSES = (1.0, 30.0)  # seconds until a busy item is tried again: at first, doubled each time, at most


@dataclass(frozen=True)
class Lost:
    """An item that was given up without a result of its own.

    Attributes:
        reason: why, for people.
        held: by another worker, which may still bring it to an end.
    """

    reason: str
    held: bool = False


def run_jobs(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    executor: str = "local",
    workers: int | None = None,
    threads: int = 1,
    gpus: float = 0.0,
    grace: float = 20.0,
    patience: float = 600.0,
) -> Generator[tuple[Item, Result | Lost], None, None]:
    """Do `work` on every item in worker processes, and yield each item with its result in order of completion.

    `work` must be picklable, keep what it has done where all workers see it, and go on from there when called again:
    an item whose worker or node dies, or is told to stop, is handed out anew. It catches its own errors and returns
    them as results, but for two: `Stopped` (SIGTERM came and it has saved) and `Busy` (another worker, perhaps one on a
    node thought dead, still holds the item), after which the item is tried again later.

    When the iteration is left early, by an error, Ctrl-C or SIGTERM, all attempts get SIGTERM, then SIGKILL. Close the
    iterator (`contextlib.closing`) to have that happen at once. Run in the main thread to have SIGTERM noticed.

    Args:
        work: what is done with an item.
        items: what there is to do; each is begun in this order.
        executor: "local", processes of this machine, or "ray", see `evalkit.sweeps.ray_workers`.
        workers: items in hand at a time, at least 1; by default as many as there are cores for `threads`, with Ray as
            many as the cluster has room for.
        threads: threads of numpy and torch in each worker, at least 1.
        gpus: of each item, at least 0; with Ray only.
        grace: seconds that attempts have to save what they did when all is stopped.
        patience: seconds for which an item may be held by a worker that is not one of these.

    Raises:
        UserError: an argument is out of range, or Ray is missing, unreachable or too small. At once.
        Stopped: SIGTERM came.
        Exception: an error that escaped `work`, with a note that names the item.
    """
    if executor not in EXECUTORS:
        raise UserError(f"executor {executor!r}: expected one of {', '.join(EXECUTORS)}")
    if workers is not None and workers < 1:
        raise UserError(f"workers {workers}: at least 1 is needed")
    if threads < 1:
        raise UserError(f"threads {threads}: at least 1 is needed")
    if gpus < 0 or (gpus > 0 and executor != "ray"):
        raise UserError(f"{gpus:g} GPUs for a trial: only the executor ray shares out GPUs, and none below 0")
    engine: _Workers
    if executor == "ray":
        most = workers or max(1, len(items))
        engine = RayWorkers(work, threads, gpus)
    else:
        most = workers or max(1, cpu_count() // threads)
        engine = LocalWorkers(work, threads)
    return _run(engine, [_Job(item) for item in items], most, grace, patience)


class _Workers(Protocol):
    """What an executor can do; `start` returns a key, which names the attempt in `finished`."""

    def start(self, item: Any) -> Any: ...
    def finished(self, timeout: float) -> Sequence[tuple[Any, Outcome[Any]]]: ...
    def stop(self, grace: float) -> None: ...
    def close(self) -> None: ...


@dataclass
class _Job(Generic[Item]):
    """An item that has no result yet. Times are of time.monotonic, in seconds."""

    item: Item
    deaths: int = 0
    busy_since: float | None = None
    pause: float = PAUSES[0]
    not_before: float = 0.0

    def lost_to_death(self, reason: str) -> Lost | None:
        """Count a death; Lost after the last one allowed."""
        self.deaths += 1
        self.busy_since, self.pause = None, PAUSES[0]
        if self.deaths < MOST_DEATHS:
            return None
        return Lost(f"its worker died or was stopped {self.deaths} times; the last time {reason}")

    def lost_to_another(self, reason: str, patience: float) -> Lost | None:
        """Try again after a pause; Lost when it was held for too long."""
        now = time.monotonic()
        self.busy_since = self.busy_since or now
        if now - self.busy_since >= patience:
            return Lost(f"held by another worker for {patience:g} s: {reason}", held=True)
        self.not_before = now + self.pause
        self.pause = min(2 * self.pause, PAUSES[1])
        return None


def _run(
    engine: _Workers, waiting: list[_Job[Item]], most: int, grace: float, patience: float
) -> Generator[tuple[Item, Result | Lost], None, None]:
    total = len(waiting)
    done = 0
    in_hand: dict[Hashable, _Job[Item]] = {}
    with Sigterm() as sigterm:
        try:
            while waiting or in_hand:
                _start(engine, waiting, in_hand, most)
                ended = engine.finished(TICK) if in_hand else _nothing_for(TICK)
                if sigterm.received:  # first: workers may have got it too, which is no fault of theirs
                    raise Stopped(
                        f"stopped by SIGTERM with {done} of {total} done; run the same command again to go on"
                    )
                for key, outcome in ended:
                    job = in_hand.pop(key)
                    if isinstance(outcome, Done):
                        done += 1
                        yield job.item, outcome.result
                        continue
                    if isinstance(outcome, Failed):
                        outcome.error.add_note(f"raised while working on {job.item!r}")
                        raise outcome.error
                    if isinstance(outcome, BrokenOff):
                        lost = job.lost_to_death(outcome.reason)
                    else:
                        lost = job.lost_to_another(outcome.reason, patience)
                    if lost is None:
                        waiting.insert(0, job)  # what was begun comes first
                    else:
                        yield job.item, lost
        except BaseException:
            engine.stop(grace)
            raise
        engine.close()


def _start(engine: _Workers, waiting: list[_Job[Item]], in_hand: dict[Hashable, _Job[Item]], most: int) -> None:
    now = time.monotonic()
    for job in [job for job in waiting if job.not_before <= now][: max(0, most - len(in_hand))]:
        waiting.remove(job)
        in_hand[engine.start(job.item)] = job


def _nothing_for(seconds: float) -> list[Any]:
    time.sleep(seconds)
    return []
