"""One attempt at an item of work, as a worker makes it, and how it can end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Generic, TypeVar

from q2d2.errors import Stopped

Item = TypeVar("Item")
Result = TypeVar("Result")


class Busy(Exception):
    """Raised by work whose item another worker still holds: the item is tried again later."""


class Interruption(BaseException):
    """SIGTERM came while nothing else handled it."""


@dataclass(frozen=True)
class Done(Generic[Result]):
    """The work came to its end."""

    result: Result


@dataclass(frozen=True)
class Postponed:
    """Another worker holds the item."""

    reason: str


@dataclass(frozen=True)
class BrokenOff:
    """The worker died or was asked to stop; the reason goes on from "the last time"."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """The work raised what it should have caught."""

    error: BaseException


Outcome = Done[Result] | Postponed | BrokenOff | Failed


def attempt(work: Callable[[Item], Result], item: Item) -> Outcome[Result]:
    """Do the work on one item, in a worker.

    SIGTERM ends it: training heeds the signal itself and saves first (`q2d2.training.preemption`), all else is
    unwound where it stands. So does SIGINT, unless the process ignores it.

    Raises:
        Exception: whatever the work raises but Busy and Stopped.
    """
    try:
        with _ended_by_sigterm():
            return Done(work(item))
    except Busy as busy:
        return Postponed(str(busy))
    except Stopped as stopped:
        return BrokenOff(f"it saved and stopped: {stopped}")
    except Interruption:
        return BrokenOff("it was stopped by SIGTERM")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # others may not set handlers
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: what unwinds is not to be interrupted again
        raise Interruption

    def pass_on(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)  # to the handler of the moment, which may be training's

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, interrupt)
    if before[signal.SIGINT] is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
