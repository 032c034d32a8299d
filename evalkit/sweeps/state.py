"""What the folder of a trial says of it: waiting, running, interrupted, done or failed."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from evalkit.schema import Described, read_described, validated
from q2d2.errors import UserError
from q2d2.files import write_atomically

RESULT, HEARTBEAT = "result.json", "heartbeat.json"
BEAT_SECONDS = 10.0
# A worker that was not heard of for so long is gone; machines' clocks may differ by a part of it.
LOST_AFTER = 60.0


class NoState(UserError, ValueError):
    """A trial's file that does not say how it is."""


class _Result(Described):
    status: Literal["done", "failed"]
    reason: str
    seconds: float
    host: str


class _Beat(Described):
    time: float
    seconds: float
    host: str


State = Literal["waiting", "running", "interrupted", "done", "failed"]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        status: "done", or "failed": not trained, or some of its scores failed.
        reason: why it failed; empty for a trial that is done.
        seconds: that it took, over all workers that had a part in it.
        host: machine of the last of them.
        finished: time of the end, seconds since 1970.
    """

    status: Literal["done", "failed"]
    reason: str
    seconds: float
    host: str
    finished: float

    @classmethod
    def now(cls, reason: str, seconds: float) -> Outcome:
        """That of a trial that ends now, here; failed where there is a reason."""
        return cls("failed" if reason else "done", reason, round(seconds, 1), socket.gethostname(), time.time())

    @classmethod
    def of_lost(cls, folder: Path, reason: str) -> Outcome:
        """That of the trial in `folder`, whose workers did not live to tell."""
        return cls.now(reason, read_state(folder).seconds)

    def write(self, folder: Path) -> None:
        """Keep it in a trial's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RESULT, json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class TrialState:
    """A trial as its folder shows it now.

    Attributes:
        state: "interrupted": a worker began it and is heard of no more; the next one goes on with it.
        reason: why it failed.
        seconds: taken so far.
        host: where it runs or ran last.
    """

    state: State
    reason: str = ""
    seconds: float = 0.0
    host: str = ""


def trial_folder(folder: Path, trial: str) -> Path:
    """Where the trial with this id lies in a sweep's folder."""
    return folder / "trials" / trial


def read_state(folder: Path, now: float | None = None) -> TrialState:
    """The state of the trial in `folder`; a folder that is not there is one that waits."""
    if (result := read_file(folder / RESULT)) is not None:
        return TrialState(result["status"], result["reason"], result["seconds"], result["host"])
    beat = read_file(folder / HEARTBEAT)
    if beat is None:
        return TrialState("waiting")
    age = (time.time() if now is None else now) - beat["time"]
    return TrialState("running" if age < LOST_AFTER else "interrupted", "", beat["seconds"], beat["host"])


def read_file(path: Path) -> dict[str, Any] | None:
    """What a trial's result or heartbeat says; None where there is none, or none that can be read."""
    form = _Result if path.name == RESULT else _Beat
    try:
        values = read_described(path, NoState)
        validated(form, values, str(path), NoState)
    except (OSError, NoState):  # not there, on its way to another machine, or damaged: its trial is run again
        return None
    return values


class Heartbeat:
    """The sign of life of a trial's worker, with the seconds that the trial has taken so far."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / HEARTBEAT
        self._before = float((read_file(self._path) or {}).get("seconds", 0.0))
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """That the trial has taken, over all its workers."""
        return self._before + time.monotonic() - self._started

    def beat(self) -> None:
        """Write it once."""
        values = {
            "time": time.time(), "seconds": round(self.seconds, 1), "host": socket.gethostname(), "pid": os.getpid(),
        }  # fmt: skip
        write_atomically(self._path, json.dumps(values) + "\n")

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Write it now and then again and again while inside."""
        self.beat()
        done = threading.Event()

        def go_on() -> None:
            while not done.wait(BEAT_SECONDS):
                with suppress(OSError):  # a full disk ends the trial elsewhere, with a reason
                    self.beat()

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
