"""Work through workers that die: run again, given up, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from evalkit.sweeps.executors import Lost, run_jobs
from q2d2.errors import UserError
from tests.checkpointed_work import STEPS, count_to
from tests.executor_driver import Driver, alive, attempts, wait_for, work


class TestLocal:
    def test_results_come_in_order_of_completion(self, tmp_path: Path) -> None:
        results = dict(run_jobs(work("count", tmp_path, 0.0), range(5), workers=2))
        assert results == {item: count_to(item, STEPS) for item in range(5)}

    def test_none_to_do(self, tmp_path: Path) -> None:
        assert list(run_jobs(work("count", tmp_path, 0.0), [])) == []

    def test_a_killed_worker_costs_only_its_own_interval(self, tmp_path: Path) -> None:
        results = dict(run_jobs(work("count_and_die_once", tmp_path), range(4), workers=2))
        assert results == {item: count_to(item, STEPS) for item in range(4)}
        assert [attempts(tmp_path, item) for item in range(4)] == [1, 2, 1, 1]

    def test_an_item_that_kills_its_worker_is_given_up(self, tmp_path: Path) -> None:
        results = dict(run_jobs(work("die", tmp_path), range(5), workers=2))
        lost = results.pop(1)
        assert isinstance(lost, Lost)
        assert lost.reason == "its worker died or was stopped 3 times; the last time it died of SIGKILL(-9)"
        assert attempts(tmp_path, 1) == 3
        assert results == {item: item for item in (0, 2, 3, 4)}
        assert [attempts(tmp_path, item) for item in (0, 2, 3, 4)] == [1, 1, 1, 1], "others suffered with it"

    def test_what_stopped_is_no_result(self, tmp_path: Path) -> None:
        assert dict(run_jobs(work("stop_once", tmp_path), range(2), workers=1)) == {0: 0, 1: 1}
        assert [attempts(tmp_path, item) for item in range(2)] == [2, 2]

    def test_a_defect_names_the_item(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError, match="a defect") as caught:
            list(run_jobs(work("fail", tmp_path), range(3), workers=1))
        assert caught.value.__notes__ == ["raised while working on 1"]

    def test_torch_uses_the_threads_of_a_worker(self, tmp_path: Path) -> None:
        assert dict(run_jobs(work("threads_of_torch", tmp_path), [0], workers=1, threads=2)) == {0: (2, "2")}

    def test_multiprocessing_works_within_a_worker(self, tmp_path: Path) -> None:
        assert dict(run_jobs(work("start_a_process", tmp_path), [3, 4], workers=1)) == {3: 3, 4: 4}

    def test_a_pool_within_a_worker_ends_with_it(self, tmp_path: Path) -> None:
        assert dict(run_jobs(work("square_in_pool", tmp_path), range(3), workers=2)) == {0: 0, 1: 1, 2: 4}
        for path in tmp_path.glob("*.nested"):
            wait_for(lambda path=path: not alive(int(path.read_text())), f"{path} outlived its worker", 10)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"executor": "slurm"}, "executor 'slurm': expected one of local, ray"),
            ({"workers": 0}, "workers 0: at least 1 is needed"),
            ({"threads": 0}, "threads 0: at least 1 is needed"),
            ({"gpus": 0.5}, "0.5 GPUs for a trial: only the executor ray shares out GPUs, and none below 0"),
            ({"executor": "ray", "gpus": -1}, "-1 GPUs for a trial: "),
        ],
    )
    def test_arguments_out_of_range(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError) as refused:
            run_jobs(int, [1], **arguments)
        assert str(refused.value).startswith(message)


class TestBusy:
    """Another process holds the item, as a worker does that lives on in a node thought dead."""

    @pytest.fixture
    def holder(self, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
        code = (
            "import fcntl, sys, time; lock = open(sys.argv[1], 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); "
            "print('held', flush=True); time.sleep(600)"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "1.lock")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
            process.kill()

    def test_is_waited_for(self, holder: subprocess.Popen[str], tmp_path: Path) -> None:
        jobs = run_jobs(work("count", tmp_path, 0.0), range(3), workers=2)
        assert dict([next(jobs), next(jobs)]) == {item: count_to(item, STEPS) for item in (0, 2)}
        holder.kill()
        assert list(jobs) == [(1, count_to(1, STEPS))]
        assert attempts(tmp_path, 1) == 1

    def test_but_not_for_ever(self, holder: subprocess.Popen[str], tmp_path: Path) -> None:
        results = dict(run_jobs(work("count", tmp_path, 0.0), range(2), workers=1, patience=0.5))
        assert results == {0: count_to(0, STEPS), 1: Lost("held by another worker for 0.5 s: 1 is held", held=True)}


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    with ExitStack() as drivers:
        yield lambda name, **arguments: drivers.enter_context(Driver(name, tmp_path, **arguments))


class TestStopped:
    def test_sigterm_lets_the_work_save(self, started: Callable[..., Driver], tmp_path: Path) -> None:
        driver = started("save_when_asked")
        wait_for(lambda: len(list(tmp_path.glob("*.begun"))) == 2, "never begun")
        assert len(driver.family()) >= 3
        driver.process.send_signal(signal.SIGTERM)
        assert driver.end() == "stopped by SIGTERM with 0 of 2 done; run the same command again to go on\n"
        assert driver.process.returncode == 143
        assert len(list(tmp_path.glob("*.saved"))) == 2

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_signals_that_reach_all_processes(
        self, started: Callable[..., Driver], tmp_path: Path, number: signal.Signals, status: int
    ) -> None:
        """As a terminal sends Ctrl-C, and Slurm SIGTERM."""
        driver = started("save_when_asked")
        wait_for(lambda: len(list(tmp_path.glob("*.begun"))) == 2, "never begun")
        os.killpg(driver.process.pid, number)
        assert len(driver.end().splitlines()) == (number == signal.SIGTERM)
        assert driver.process.returncode == status
        assert len(list(tmp_path.glob("*.saved"))) == 2

    def test_work_that_does_not_end_is_killed(self, started: Callable[..., Driver], tmp_path: Path) -> None:
        driver = started("ignore_signals", grace=1.0)
        wait_for(lambda: len(list(tmp_path.glob("*.begun"))) == 2, "never begun")
        begin = time.monotonic()
        driver.process.send_signal(signal.SIGTERM)
        driver.end()
        assert 1.0 <= time.monotonic() - begin < 20

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_pools_within_workers_end_too(
        self, started: Callable[..., Driver], tmp_path: Path, number: signal.Signals
    ) -> None:
        driver = started("long_in_pool")
        wait_for(lambda: len(list(tmp_path.glob("*.nested"))) == 2, "never begun")
        assert len(driver.family()) >= 5
        begin = time.monotonic()
        if number == signal.SIGINT:  # as a terminal does
            os.killpg(driver.process.pid, number)
        else:
            driver.process.send_signal(number)
        printed = driver.end()
        assert time.monotonic() - begin < 20
        if number != signal.SIGKILL:  # else loky says what it had to clean up
            assert len(printed.splitlines()) == (number == signal.SIGTERM), printed
