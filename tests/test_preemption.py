"""SIGTERM: what was trained is saved, and the same call goes on to the bit."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from q2d2.errors import Stopped
from q2d2.training.preemption import Preemption
from q2d2.training.state import STATE
from q2d2.training.steps import Stepper
from tests import warm
from tests.command import TINY, write_experiment
from tests.small_training import BOTTLENECKS, SHORT, assert_same_run, rows, train_one


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_sigterm_at_a_random_step_changes_nothing(
    audio: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Also with other numbers of data workers before and after."""
    chance = random.Random(number)
    bottleneck = list(BOTTLENECKS)[number % len(BOTTLENECKS)]
    at = chance.randrange(SHORT.steps - 1)
    make_step = Stepper.step

    def signalled(self: Stepper, step: int, *arguments: Any) -> Any:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return make_step(self, step, *arguments)

    monkeypatch.setattr(Stepper, "step", signalled)
    with pytest.raises(Stopped, match=f"stopped by SIGTERM after step {at + 1} of 24.*run the same command again"):
        train_one(audio, tmp_path, bottleneck, num_workers=chance.randrange(3))
    assert (tmp_path / STATE).exists()
    monkeypatch.undo()
    train_one(audio, tmp_path, bottleneck, num_workers=chance.randrange(3))
    assert_same_run(tmp_path, undisturbed / bottleneck)


def test_sigterm_in_the_last_step_lets_it_finish(
    audio: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_step = Stepper.step

    def signalled(self: Stepper, step: int, *arguments: Any) -> Any:
        if step == SHORT.steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return make_step(self, step, *arguments)

    monkeypatch.setattr(Stepper, "step", signalled)
    train_one(audio, tmp_path)
    assert_same_run(tmp_path, undisturbed / "q2d2")


def test_handlers_are_given_back_and_threads_set_none() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Preemption() as preemption:
        assert signal.getsignal(signal.SIGTERM) is not before
        assert not preemption.due()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.due()
        assert preemption.due()  # until it is obeyed
    assert signal.getsignal(signal.SIGTERM) is before
    problems: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with Preemption() as preemption:
                assert not preemption.due()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not problems


@pytest.mark.slow
def test_the_command_exits_with_143_and_goes_on(tmp_path: Path) -> None:
    experiment = write_experiment(
        tmp_path / "trial.yaml",
        train=TINY["train"] | {"steps": 60, "log_every": 1, "checkpoint_every": 60, "batch_size": 2},
    )
    out, output = tmp_path / "out", tmp_path / "output"
    command = ("train", experiment, "--system", "fsq", "--out", out)
    log = out / "checkpoints" / "fsq" / "log.csv"
    process = warm.start_evalkit(*command, output=output)
    warm.wait_until(lambda: log.exists() and len(log.read_text().splitlines()) > 2, process, output)
    process.terminate()
    assert warm.ended(process) == 143
    printed = output.read_text()
    assert "evalkit: fsq: stopped by SIGTERM after step" in printed
    assert "Traceback" not in printed
    assert "batch     2 segments a step = 1 process x 1 accumulated x 2, learning rate" in printed
    assert len(rows(log.parent)) < 60
    assert warm.ended(warm.start_evalkit(*command, output=output)) == 0, output.read_text()
    assert [int(row["step"]) for row in rows(log.parent)] == list(range(1, 61))
    assert (out / "training" / "fsq.csv").read_text() == log.read_text()
