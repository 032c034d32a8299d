"""Workers as tasks of a Ray cluster.

Each attempt is a Ray task, and Ray decides where it runs. joblib's own Ray backend (`ray.util.joblib`, Ray 2.60) would
not do: its pool of actors is not renewed, so the first node that dies ends the whole call with ActorUnavailableError,
and it yields nothing before all is done (no `return_as="generator_unordered"`). Ray's `max_retries` is 0: deaths are
counted in one place for all executors, and Ray would not count those for want of memory.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Generic

from evalkit.scoring.processes import thread_variables
from evalkit.sweeps.attempts import BrokenOff, Failed, Item, Outcome, Result, attempt
from q2d2.errors import UserError


class RayWorkers(Generic[Item, Result]):
    """Tasks in the cluster of RAY_ADDRESS, or the one that runs on this machine, or else one started for the purpose.

    They run in this process's folder, which must be there on every node, and see its variables EVALKIT_*.

    Args:
        work: what is done with each item.
        threads: CPUs of a task, and threads of numpy and torch in it.
        gpus: GPUs of a task; a fraction shares one. With 0 it sees none.

    Raises:
        UserError: Ray is not installed or not reachable, or no node has what a task needs.
    """

    def __init__(self, work: Callable[[Item], Result], threads: int, gpus: float) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "the executor ray needs Ray, which is not installed: pip install 'codec-bottlenecks[ray]'"
            ) from error
        self._ray = ray
        self._work = work
        self._connected_here = not ray.is_initialized()
        if self._connected_here:
            _connect(ray)
        try:
            _require_node(ray, threads, gpus)
        except UserError:
            self.close()
            raise
        # A node has the environment and the folder that `ray start` was called in.
        settings = {name: value for name, value in os.environ.items() if name.startswith("EVALKIT_")}
        if gpus == 0:
            settings["CUDA_VISIBLE_DEVICES"] = ""  # else, by Ray's release, all trials take the same one
        self._task: Any = ray.remote(_attempt_in).options(
            num_cpus=threads, num_gpus=gpus, max_retries=0,
            runtime_env={"env_vars": settings | thread_variables(threads)},
        )  # fmt: skip
        self._place = os.getcwd()
        self._in_hand: set[Any] = set()

    def start(self, item: Item) -> Any:
        """Begin an attempt as soon as a node has room."""
        reference = self._task.remote(self._place, self._work, item)
        self._in_hand.add(reference)
        return reference

    def finished(self, timeout: float) -> list[tuple[Any, Outcome[Result]]]:
        """An attempt that has ended, if any; waits up to `timeout` seconds for one."""
        ended, _ = self._ray.wait(list(self._in_hand), timeout=timeout)
        return [(reference, self._outcome(reference)) for reference in ended]

    def stop(self, grace: float) -> None:
        """Ask all attempts to end, and end those that have not after `grace` seconds."""
        try:
            self._cancel(grace, force=False)  # as SIGINT, which `attempt` turns into SIGTERM
        finally:
            self._cancel(5.0, force=True)
            self.close()

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._connected_here:
            self._ray.shutdown()

    def _cancel(self, timeout: float, *, force: bool) -> None:
        if not self._in_hand:
            return
        for reference in self._in_hand:
            self._ray.cancel(reference, force=force)
        ended, _ = self._ray.wait(list(self._in_hand), num_returns=len(self._in_hand), timeout=timeout)
        self._in_hand.difference_update(ended)

    def _outcome(self, reference: Any) -> Outcome[Result]:
        self._in_hand.remove(reference)
        try:
            outcome: Outcome[Result] = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return Failed(error.cause or error)
        except self._ray.exceptions.RayError as error:  # of the worker, its node, or its memory
            return BrokenOff(f"it died: {_first_line(error)}")
        return outcome


def _attempt_in(place: str, work: Callable[[Item], Result], item: Item) -> Outcome[Result]:
    try:
        os.chdir(place)
    except OSError as error:
        raise UserError(
            f"{place}: not on node {socket.gethostname()} of the Ray cluster ({error.strerror}), so that relative "
            "paths would lead elsewhere. Call this in a folder that all nodes share."
        ) from error
    return attempt(work, item)


def _connect(ray: Any) -> None:
    if address := os.environ.get("RAY_ADDRESS"):
        _require_cluster(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else a cluster started here reports to Ray's makers
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = f"RAY_ADDRESS={address}" if address else "Ray on this machine"
        raise UserError(f"{where}: {_first_line(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray sets its own


def _require_cluster(address: str) -> None:
    """Ray would try for minutes to reach a cluster that is not there."""
    if address in ("auto", "local"):
        return
    match = re.fullmatch(r"\[?([^/]+?)\]?:(\d+)", address)
    if match is None:
        raise UserError(f"RAY_ADDRESS={address}: expected HOST:PORT of a Ray cluster that this machine has joined")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}). Start one with `ray start --head`, or "
            "unset RAY_ADDRESS to use this machine alone."
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _require_node(ray: Any, threads: int, gpus: float) -> None:
    """Ray would wait for ever for a node that has room for the task."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= threads and node.get("GPU", 0) >= gpus for node in nodes):
        having = "; ".join(sorted({f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes}))
        raise UserError(
            f"a trial needs {threads} CPU and {gpus:g} GPU on one node, and the nodes of the Ray cluster have: "
            f"{having}. Ask for less, or add a node with `ray start`."
        )
