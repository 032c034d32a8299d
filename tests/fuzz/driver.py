"""Many cases in a process that is watched: what it raises, how long it takes, how much memory it grows by."""

from __future__ import annotations

import multiprocessing
import os
import random
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from q2d2.errors import UserError

SECONDS = 10.0  # a case that works for longer hangs; and one that waits WAITING times as long
WAITING = 6
PREPARING_SECONDS = 120.0  # a process imports torch first
BYTES = 2**30  # that a case may add to the memory of its process
LONGEST_MESSAGE = 2000
FAULTS = ("traceback", "hang", "growth", "silent", "unreadable")


class Silent(AssertionError):
    """Nonsense was taken for data; the message says what came of it."""


class Kind(Protocol):
    """A kind of file.

    Attributes:
        name: in figures.
        count: cases of a whole run.
    """

    name: str
    count: int

    def __init__(self, folder: Path) -> None:
        """Make what the cases share, in an empty folder."""
        ...

    def run(self, rng: random.Random, number: int) -> None:
        """Damage something and read it as the product does.

        Raises:
            UserError, OSError: it was refused, as it should be.
            Silent: it was not, and something came of it that nobody wrote.
        """
        ...


@dataclass
class Outcome:
    """What came of the cases of one kind: how many were read, refused and at fault, and the latter in words."""

    read: int = 0
    refused: int = 0
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    cases: list[str] = field(default_factory=list)

    def __add__(self, other: Outcome) -> Outcome:
        faults = {fault: count + other.faults[fault] for fault, count in self.faults.items()}
        return Outcome(self.read + other.read, self.refused + other.refused, faults, [*self.cases, *other.cases])

    def add(self, number: int, found: str, detail: str) -> None:
        if found == "read":
            self.read += 1
        elif found == "refused":
            self.refused += 1
        else:
            self.faults[found] += 1
            self.cases.append(f"case {number}: {found}: {detail}")


def fuzz(kind: type[Kind], seed: int, numbers: range) -> Outcome:
    """Run the cases `numbers` of a kind, each a function of (seed, number) alone."""
    outcome = Outcome()
    context = multiprocessing.get_context("spawn")
    left = list(numbers)
    while left:
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(kind, seed, left, there), daemon=True)
        process.start()
        there.close()
        done = 0
        for number, found, detail in _answers(here, left, process.pid):
            outcome.add(number, found, detail)
            done += 1
            if found in ("hang", "growth") or detail == _DIED:  # its memory, or the process, is gone: begin a new one
                break
        left = left[done:]
        process.kill()
        process.join()
    return outcome


_DIED = "the process died"


def _answers(connection: Connection, numbers: list[int], pid: int | None) -> Iterator[tuple[int, str, str]]:
    if not connection.poll(PREPARING_SECONDS):
        raise TimeoutError("a process could not be prepared")
    connection.recv()
    for number in numbers:
        if not _answered(connection, pid):
            yield number, "hang", f"more than {SECONDS:g} s"
            continue
        try:
            found, detail = connection.recv()
        except EOFError:
            yield number, "traceback", _DIED
            continue
        yield number, found, detail


def _answered(connection: Connection, pid: int | None) -> bool:
    """Whether a case came to an end; what other processes take of a machine is not its fault."""
    began = _cpu_seconds(pid)
    for _ in range(WAITING):
        if connection.poll(SECONDS):
            return True
        if _cpu_seconds(pid) - began > SECONDS / 2:
            return False
    return False


def _work(kind: type[Kind], seed: int, numbers: list[int], answers: Connection) -> None:
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders of audio write what they think of it
    with tempfile.TemporaryDirectory() as folder:
        cases = kind(Path(folder))
        answers.send("ready")
        for number in numbers:
            answers.send(_one(cases, random.Random(f"{kind.name} {seed} {number}"), number))


def _one(cases: Kind, rng: random.Random, number: int) -> tuple[str, str]:
    before = _peak_bytes()
    found, detail = "read", ""
    try:
        cases.run(rng, number)
    except Silent as error:
        found, detail = "silent", str(error)
    except (UserError, OSError) as error:
        found, detail = "refused", str(error)
        if "\n" in detail or len(detail) > LONGEST_MESSAGE or not detail.isprintable():
            found = "unreadable"
    except Exception as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        found, detail = "traceback", f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {error}"
    if _peak_bytes() - before > BYTES:
        found, detail = "growth", f"{(_peak_bytes() - before) / BYTES:.1f} GiB, {found}: {detail}"
    return found, ascii(detail)[1:300]


def _peak_bytes() -> int:
    """Of this process alone: what getrusage says begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _cpu_seconds(pid: int | None) -> float:
    """That a process has taken so far; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
