"""Resuming: a killed training, run again, ends like an undisturbed one, to the bit; the folder's state is guarded."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from q2d2.checkpoints import CONFIG, WEIGHTS, read_description
from q2d2.training import loop
from q2d2.training.log import TrainingLog
from q2d2.training.loop import train
from q2d2.training.losses import ReconstructionLosses
from q2d2.training.manifest import Manifest
from q2d2.training.state import STATE, TrainingError, load_state, save_state
from q2d2.training.steps import StepLosses, Stepper
from tests import warm
from tests.small_training import (
    BOTTLENECKS,
    SHORT,
    SMALL,
    assert_same_run,
    files_of,
    rows,
    train_one,
)


def kill(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(bottleneck: str) -> None:
    """Let the process be killed in the training of `bottleneck`: at a worst moment, another one for each of them."""
    calls = 0

    def at(number: int, function: Callable[..., Any], killing: Callable[..., Any] = kill) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            return (killing if calls == number else function)(*args, **options)

        return wrapped

    def half_a_file(path: Path, contents: memoryview) -> None:
        with path.open("wb") as file:
            file.write(contents[: len(contents) // 2])
        kill()

    def row_then_kill(*args: Any, **options: Any) -> None:
        row(*args, **options)
        kill()

    row = TrainingLog.row
    if bottleneck == "q2d2":  # within a step, after rows that no checkpoint covers
        Stepper.step = at(14, Stepper.step)  # type: ignore[method-assign]
    elif bottleneck == "vq":  # while the second checkpoint is written
        Path.write_bytes = at(2, Path.write_bytes, half_a_file)  # type: ignore[method-assign]
    elif bottleneck == "rvq":  # between the row of step 16 and its checkpoint
        TrainingLog.row = at(8, row, row_then_kill)  # type: ignore[method-assign]


def train_all(audio: Path, out: Path, victim: str) -> None:
    """Trainings of all bottlenecks, of a process that is killed in that of `victim`."""
    for name in BOTTLENECKS:
        if name == victim:
            arm(name)
        train_one(audio, out / name, name, num_workers=1)


@pytest.mark.slow
def test_killed_runs_end_like_undisturbed_ones(audio: Path, undisturbed: Path, tmp_path: Path) -> None:
    trained, names = tmp_path / "trained", list(BOTTLENECKS)
    for position, victim in enumerate([*names, "none"]):
        output = tmp_path / "output"
        status = warm.ended(warm.start(train_all, audio, trained, victim, output=output))
        assert status == (0 if victim == "none" else -signal.SIGKILL), output.read_text()
        if victim != "none":
            assert (trained / victim / STATE).exists()
            assert not (trained / victim / CONFIG).exists()
            # Step 8 is the last checkpoint in each, and rows go beyond it: they are to be computed again.
            state = torch.load(trained / victim / STATE, weights_only=True)
            assert state["step"] == 8
            assert int(rows(trained / victim)[-1]["step"]) > 8
        assert [name for name in names if (trained / name / CONFIG).exists()] == names[:position]
    for name in names:
        assert_same_run(trained / name, undisturbed / name)


def test_a_run_stopped_while_saving_the_result_is_completed(
    audio: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_codec", stop)
        with pytest.raises(KeyboardInterrupt):
            train_one(audio, tmp_path, "vq")
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", stop)  # nothing is left to be computed
        train_one(audio, tmp_path, "vq")
    assert_same_run(tmp_path, undisturbed / "vq")


def test_a_finished_run_is_left_alone(audio: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(undisturbed / "vq", tmp_path / "vq")
    before = (folder / WEIGHTS).stat().st_mtime_ns
    assert train_one(audio, folder, "vq") == folder
    assert (folder / WEIGHTS).stat().st_mtime_ns == before


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_in_the_same_folder_are_named(audio: Path, tmp_path: Path, finished: bool) -> None:
    train_one(audio, tmp_path, steps=8)
    if not finished:
        state = {"settings": read_description(tmp_path)["metadata"]["settings"], "step": 8, "seconds": 1.0}
        torch.save(state, tmp_path / STATE)
        (tmp_path / CONFIG).unlink()
    with pytest.raises(TrainingError, match=r"holds a run with train\.learning_rate 0\.002, not 0\.1\."):
        train_one(audio, tmp_path, steps=8, learning_rate=0.1)
    with pytest.raises(TrainingError, match=r'bottleneck\.name "q2d2", not "vq"; .*codebook_size'):
        train_one(audio, tmp_path, "vq", steps=8)
    config = dataclasses.replace(SHORT, steps=8)
    with pytest.raises(TrainingError, match=r"corpus\.files 3, not 2; corpus\.audio_seconds 6\.0, not 4"):
        train(SMALL, BOTTLENECKS["q2d2"], Manifest.of(files_of(audio)[:2]), config, tmp_path, device="cpu")


def test_a_damaged_state_is_named(audio: Path, tmp_path: Path) -> None:
    for content in (b"", b"no state", b"PK\x03\x04 cut off"):
        (tmp_path / STATE).write_bytes(content)
        with pytest.raises(TrainingError, match=rf"{STATE} is damaged: .*Delete it to train anew"):
            train_one(audio, tmp_path)


def test_what_is_no_number_in_a_state_is_named(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(2)).sum().backward()
    optimizer.step()
    parts = {"codec": module, "optimizer": optimizer}
    save_state(tmp_path, {}, 3, 1.5, parts)
    assert load_state(tmp_path, {}, parts) == (3, 1.5)
    good = torch.load(tmp_path / STATE, weights_only=True)
    wrong: list[tuple[Any, str]] = [
        (good | {"codec": good["codec"] | {"bias": torch.full((2,), torch.nan)}}, "codec: bias: 2 of 2 values are not"),
        (good | {"codec": good["codec"] | {"bias": torch.ones(2).long()}}, "codec: bias: int64, expected float32"),
        (good | {"codec": {}}, "codec: missing bias; missing weight"),
        (good | {"optimizer": {"state": {0: {"exp_avg": torch.ones(2) / 0}}}}, r"optimizer: 0\.exp_avg: 2 of 2 values"),
        ({key: value for key, value in good.items() if key != "optimizer"}, "is damaged: it holds no training state"),
        ([1], "is damaged: it holds no training state"),
    ]
    for state, fault in wrong:
        torch.save(state, tmp_path / STATE)
        with pytest.raises(TrainingError, match=fault) as caught:
            load_state(tmp_path, {}, parts)
        assert str(tmp_path / STATE) in str(caught.value)


def test_rows_after_the_checkpoint_and_a_cut_line_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for before, after in (
        ("step,mel\n2,0.5\n4,0.4\n6,0.3\n", "step,mel\n2,0.5\n4,0.4\n"),
        ("step,mel\n2,0.5\n4,0.4\n6,0.", "step,mel\n2,0.5\n4,0.4\n"),
        ("step,mel\n2,0.5\n4,0", "step,mel\n2,0.5\n"),
        ("step,mel\n6,0.5\n", None),
        ("step,m", None),
        ("", None),
    ):
        path.write_text(before)
        with TrainingLog(tmp_path, "test", StepLosses({"mel": None}, {}), 4, 10):
            pass
        assert (path.read_text() if path.exists() else None) == after


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    audio: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = ReconstructionLosses.forward, 0

    def poisoned(self: ReconstructionLosses, *args: Any) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        losses = forward(self, *args)
        return losses | {"mel": losses["mel"] * math.nan} if calls == 11 else losses

    with monkeypatch.context() as patch:
        patch.setattr(ReconstructionLosses, "forward", poisoned)
        with pytest.raises(
            TrainingError, match=r"codec: a loss or weight was not finite at or shortly before step 12"
        ) as e:
            train_one(audio, tmp_path)
        assert f"last good checkpoint is kept in {tmp_path / STATE}" in str(e.value)
        assert "train.learning_rate" in str(e.value)
    assert int(rows(tmp_path)[-1]["step"]) == 10
    assert torch.load(tmp_path / STATE, weights_only=True)["step"] == 8
    train_one(audio, tmp_path)  # the checkpoint is good to go on from
    assert_same_run(tmp_path, undisturbed / "q2d2")
