"""Processes that start at once: forks of a server that has loaded torch and the harness, which takes seconds.

For tests of processes that are killed, stopped or talk to each other, where how Python starts is not the point.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["tests.warm_modules"])


def start(
    target: Callable[..., object], *arguments: Any, output: Path, environment: Mapping[str, str] | None = None
) -> BaseProcess:
    """A process of a group of its own that calls `target(*arguments)` and writes what it prints to `output`.

    Args:
        environment: its variables; by default those of this process.
    """
    values = dict(os.environ if environment is None else environment)
    process = _FORKSERVER.Process(target=_begin, args=(target, arguments, str(output), values, os.getcwd()))
    process.start()
    return process


def start_evalkit(*arguments: object, output: Path, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """`python -m evalkit ARGUMENTS`."""
    return start(_evalkit, [str(argument) for argument in arguments], output=output, environment=environment)


def wait_until(condition: Callable[[], bool], process: BaseProcess, output: Path, seconds: float = 120) -> None:
    """Returns as soon as `condition` holds; fails when the process ends before, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), output.read_text()
        assert time.monotonic() < deadline, f"it did not happen in {seconds:g} s: {output.read_text()}"
        time.sleep(0.003)


def ended(process: BaseProcess, seconds: float = 150) -> int:
    """Its exit status, once it has ended; after `seconds` it is killed, with what it started."""
    process.join(seconds)
    if process.exitcode is None:
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def _begin(
    target: Callable[..., object], arguments: tuple[Any, ...], output: str, environment: dict[str, str], folder: str
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    multiprocessing.set_start_method("fork", force=True)  # a fork of a server takes its kind for its own children too
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    status: Any = 0
    try:
        target(*arguments)
    except SystemExit as stop:
        status = stop.code
    # Only now have the frames gone that hold the processes of a training, as in one that Python started.
    sys.exit(status)


def _evalkit(arguments: list[str]) -> None:
    sys.argv = ["evalkit", *arguments]
    runpy.run_module("evalkit", run_name="__main__")
