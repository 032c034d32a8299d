"""What tests of the executors share: work bound to a folder, and another process that hands it out."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import checkpointed_work

ROOT = Path(__file__).resolve().parents[1]


def work(name: str, folder: Path, *arguments: Any) -> Callable[[int], Any]:
    return functools.partial(getattr(checkpointed_work, name), folder, *arguments)


def attempts(folder: Path, item: int) -> int:
    return len((folder / f"{item}.attempts").read_text().splitlines())


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Driver:
    """Another process that hands out two items, and all that it started."""

    def __init__(self, name: str, folder: Path, executor: str = "local", grace: float = 30.0) -> None:
        self.mark = f"EXECUTORS_TEST={uuid.uuid4()}"
        key, value = self.mark.split("=")
        command = [sys.executable, "-m", "tests.checkpointed_work", name, str(folder), executor, str(grace)]
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        try:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, key: value}, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        finally:
            signal.signal(signal.SIGINT, before)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.family():
            os.kill(process, signal.SIGKILL)
        self.process.wait()

    def family(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in path.read_bytes().split(b"\0") and alive(int(path.parent.name)):
                    found.append(int(path.parent.name))
            except OSError:  # ended meanwhile, or somebody else's
                continue
        return found

    def end(self) -> str:
        """Wait for it and all it started; what it printed."""
        assert self.process.stdout is not None
        wait_for(lambda: self.process.poll() is not None, "it never ended", 60)
        wait_for(lambda: not self.family(), "it left processes behind", 10)
        with self.process.stdout:
            return self.process.stdout.read()
