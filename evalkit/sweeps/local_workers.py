"""Workers as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Generic

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from evalkit.scoring.processes import start_worker, thread_variables
from evalkit.sweeps.attempts import BrokenOff, Failed, Interruption, Item, Outcome, Result, attempt

LEAVING = 5.0  # seconds that an idle worker has to end by itself


@dataclass
class _Worker:
    """A pool of one process, and the promise of its id, which is kept when its attempt begins."""

    pool: ProcessPoolExecutor
    process: Future[int]

    def signal(self, number: int) -> bool:
        """Whether the process, which may not have begun, is there and got the signal; 0 only asks."""
        if not self.process.done() or self.process.exception() is not None:
            return False
        try:
            os.kill(self.process.result(), number)
        except ProcessLookupError:
            return False
        return True


class LocalWorkers(Generic[Item, Result]):
    """Processes of loky, which joblib ships, each a pool of its own.

    A pool of several ends all its processes when one dies, and does not say whose item it was. With pools of one,
    the others work on, and it is known.

    Args:
        work: what is done with each item.
        threads: threads of numpy and torch in a worker.
    """

    def __init__(self, work: Callable[[Item], Result], threads: int) -> None:
        self._work = work
        self._environment = thread_variables(threads)
        self._idle: list[_Worker] = []
        self._in_hand: dict[Future[Outcome[Result]], _Worker] = {}

    def start(self, item: Item) -> Future[Outcome[Result]]:
        """Begin an attempt in an idle worker, or else in a new one."""
        while True:
            pool = self._idle.pop().pool if self._idle else self._new_pool()
            try:
                process, future = pool.submit(os.getpid), pool.submit(attempt, self._work, item)
            except BrokenProcessPool:
                pool.shutdown(wait=False)  # its process died while idle
                continue
            self._in_hand[future] = _Worker(pool, process)
            return future

    def finished(self, timeout: float) -> list[tuple[Future[Outcome[Result]], Outcome[Result]]]:
        """The attempts that have ended; waits up to `timeout` seconds for one."""
        ended, _ = wait(self._in_hand, timeout, FIRST_COMPLETED)
        return [(future, self._outcome(future)) for future in ended]

    def stop(self, grace: float) -> None:
        """Ask all attempts to end, and end those that have not after `grace` seconds."""
        try:
            asked = [future for future, worker in self._in_hand.items() if worker.signal(signal.SIGTERM)]
            for future in wait(asked, grace).done:
                self._outcome(future)
        finally:
            for worker in self._in_hand.values():
                worker.pool.shutdown(wait=True, kill_workers=True)
            self.close()

    def close(self) -> None:
        """Let the idle workers end, with the pools that they have; returns when all are gone."""
        for worker in self._idle:
            worker.pool.shutdown(wait=False)
        deadline = time.monotonic() + LEAVING
        while any(worker.signal(0) for worker in self._idle):
            if time.monotonic() > deadline:
                for worker in self._idle:
                    worker.signal(signal.SIGKILL)
            time.sleep(0.01)

    def _new_pool(self) -> ProcessPoolExecutor:
        arguments = os.getpid(), multiprocessing.get_start_method()
        return ProcessPoolExecutor(1, env=self._environment, initializer=_start_worker, initargs=arguments)

    def _outcome(self, future: Future[Outcome[Result]]) -> Outcome[Result]:
        worker = self._in_hand.pop(future)
        outcome: Outcome[Result]
        try:
            outcome = future.result()
        except TerminatedWorkerError as error:
            worker.pool.shutdown(wait=False)
            exit_code = re.search(r"\{(.+?)\}", str(error))
            return BrokenOff(f"it died of {exit_code[1] if exit_code else 'an unknown cause'}")
        except Interruption:  # it came between the end of the work and that of the attempt
            outcome = BrokenOff("it was stopped by SIGTERM")
        except BaseException as error:
            outcome = Failed(error)
        self._idle.append(worker)
        return outcome


def _start_worker(parent: int, start_method: str) -> None:
    start_worker(parent)
    # A terminal sends Ctrl-C to all processes, but the parent decides how they end; their own children ignore it too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # loky's own, which its workers begin with, does not start the processes in which torch reads data ahead.
    multiprocessing.set_start_method(start_method, force=True)
