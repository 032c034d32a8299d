"""Work for the executors: a sum in steps that saves every few of them, and what can go wrong with it."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

from joblib.externals.loky import get_reusable_executor

from evalkit.scoring.processes import start_worker
from evalkit.sweeps.attempts import Busy
from evalkit.sweeps.executors import run_jobs
from q2d2.errors import Stopped

STEPS, INTERVAL = 20, 5


def count(folder: Path, seconds: float, item: int) -> int:
    """The last of STEPS numbers, each made of the one before and taking `seconds`; saved every INTERVAL of them.

    `folder` gets ITEM.saved (step and number), ITEM.steps (a line "STEP NUMBER" for each one computed, also again),
    ITEM.attempts (a process id for each call) and ITEM.lock.
    """
    with (folder / f"{item}.lock").open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"{item} is held") from error
        add_line(folder / f"{item}.attempts", str(os.getpid()))
        saved = folder / f"{item}.saved"
        first, number = map(int, saved.read_text().split()) if saved.exists() else (0, item)
        for step in range(first, STEPS):
            time.sleep(seconds)
            number = (number * 1103515245 + 12345) % 2**31
            add_line(folder / f"{item}.steps", f"{step} {number}")
            if (step + 1) % INTERVAL == 0:
                save(saved, step + 1, number)
        return number


def count_and_die_once(folder: Path, item: int) -> int:
    """As `count`, but the worker of item 1 is killed in the middle of an interval, the first time."""
    if item == 1 and not (folder / "1.saved").exists():
        save(folder / "1.saved", 5, count_to(1, 5))
        add_line(folder / "1.attempts", str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return count(folder, 0.01, item)


def count_to(item: int, steps: int) -> int:
    """What `count` has after this many steps."""
    number = item
    for _ in range(steps):
        number = (number * 1103515245 + 12345) % 2**31
    return number


def die(folder: Path, item: int) -> int:
    """Item 1 takes its worker down each time."""
    add_line(folder / f"{item}.attempts", str(os.getpid()))
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    return item


def fail(folder: Path, item: int) -> int:
    if item == 1:
        raise ZeroDivisionError("a defect")
    return item


def stop_once(folder: Path, item: int) -> int:
    """Saves and stops at SIGTERM, which it sends to itself the first time."""
    add_line(folder / f"{item}.attempts", str(os.getpid()))
    if len((folder / f"{item}.attempts").read_text().splitlines()) == 1:
        raise Stopped(f"{item}: saved")
    return item


def threads_of_torch(folder: Path, item: int) -> tuple[int, str]:
    import torch

    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def surroundings(folder: Path, item: int) -> tuple[Path, str | None, str | None]:
    return Path.cwd(), os.environ.get("EVALKIT_TRIAL_ROOT"), os.environ.get("CUDA_VISIBLE_DEVICES")


def square_in_pool(folder: Path, item: int) -> int:
    """The square, computed in a pool of the worker's own, whose process it notes."""
    pool = get_reusable_executor(1, initializer=start_worker, initargs=(os.getpid(),))
    (folder / f"{item}.nested").write_text(str(pool.submit(os.getpid).result()))
    return pool.submit(pow, item, 2).result()


def long_in_pool(folder: Path, item: int) -> int:
    """Keeps a pool of the worker's own busy for a minute."""
    pool = get_reusable_executor(1, initializer=start_worker, initargs=(os.getpid(),))
    process = pool.submit(os.getpid).result()
    future = pool.submit(time.sleep, 60)
    (folder / f"{item}.nested").write_text(str(process))
    try:
        future.result()
    except BaseException:
        pool.shutdown(wait=False, kill_workers=True)  # as scoring does
        raise
    return item


def start_a_process(folder: Path, item: int) -> int | None:
    """As torch starts those that read data ahead: by multiprocessing, with its default."""
    process = multiprocessing.Process(target=sys.exit, args=(item,))
    process.start()
    process.join()
    return process.exitcode


def save_when_asked(folder: Path, item: int) -> int:
    """Works for a minute unless SIGTERM comes; then saves, which takes a while, and stops, as training does."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    (folder / f"{item}.begun").touch()
    for _ in range(600):
        time.sleep(0.1)
        if asked:
            time.sleep(0.5)
            (folder / f"{item}.saved").touch()
            signal.signal(signal.SIGTERM, before)
            raise Stopped(f"{item}: saved")
    return item


def ignore_signals(folder: Path, item: int) -> int:
    """Works for a minute, whatever it is told."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / f"{item}.begun").touch()
    time.sleep(60)
    return item


def add_line(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")


def save(path: Path, step: int, number: int) -> None:
    part = path.with_suffix(".part")
    part.write_text(f"{step} {number}")
    part.replace(path)


if __name__ == "__main__":  # python -m tests.checkpointed_work WORK FOLDER EXECUTOR GRACE
    import functools

    import tests.checkpointed_work as module

    work = functools.partial(getattr(module, sys.argv[1]), Path(sys.argv[2]))
    jobs = run_jobs(work, range(2), executor=sys.argv[3], workers=2, grace=float(sys.argv[4]))
    try:
        with closing(jobs):
            for item, result in jobs:
                print(item, result)
    except Stopped as stopped:
        print(stopped)
        sys.exit(143)
    except KeyboardInterrupt:
        sys.exit(130)
