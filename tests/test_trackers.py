"""Trackers: each shows what it is sent and goes on in the same place; none can end a training or change it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from q2d2.checkpoints import CONFIG, WEIGHTS
from q2d2.registry import UnknownName
from q2d2.trackers import TRACKERS, TrackedRun, TrackerError, Trackers, Tracking
from q2d2.trackers.notes import NOTES, Identity, read_notes, write_notes
from q2d2.training.loop import train
from q2d2.training.steps import Stepper
from tests.recorded_tracker import Recorder, events, fake_service, install_recorder, place_of
from tests.small_training import BOTTLENECKS, SHORT, SMALL, corpus
from tests.small_training import rows as log_rows

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("wandb", "trackio")
LOGGED = list(range(2, SHORT.steps + 1, 2))


@pytest.fixture
def undisturbed(undisturbed: Path) -> Path:
    return undisturbed / "q2d2"


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    return install_recorder(tmp_path, monkeypatch)


def train_tracked(audio: Path, folder: Path, *names: str) -> Tracking:
    tracking = Tracking("project", names)
    train(SMALL, BOTTLENECKS["q2d2"], corpus(audio), SHORT, folder, name="mine", device="cpu", tracking=tracking)
    return tracking


def interrupted(audio: Path, folder: Path, *names: str, call: int) -> None:
    """A training that ends by Ctrl-C in its `call`-th step."""
    step, calls = Stepper.step, 0

    def failing(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return step(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "step", failing)
        with pytest.raises(KeyboardInterrupt):
            train_tracked(audio, folder, *names)


def assert_untouched(folder: Path, undisturbed: Path) -> None:
    """The checkpoint is, to the bit and to the last word about it, that of a training nobody looked at."""
    weights, others = load_file(folder / WEIGHTS), load_file(undisturbed / WEIGHTS)
    assert all(torch.equal(weights[name], others[name]) for name in others)
    assert (folder / CONFIG).read_text() == (undisturbed / CONFIG).read_text()
    assert log_rows(folder) == log_rows(undisturbed)


class TestTraining:
    def test_a_tracker_of_another_package_is_told_the_rows_of_the_log(self, audio, undisturbed, tmp_path, recorder):
        train_tracked(audio, tmp_path / "run", "recorder")
        assert_untouched(tmp_path / "run", undisturbed)
        (run,) = recorder.runs
        assert (run.project, run.name, run.first_step) == ("project", "mine", 0)
        assert run.settings["train"] == SHORT.to_dict()
        scalars = [call for call in recorder.calls if call.kind == "scalars"]
        assert [call.step for call in scalars] == LOGGED
        for call, row in zip(scalars, log_rows(tmp_path / "run"), strict=True):
            shown = {name: value for name, value in call.content.items() if name != "seconds"}
            assert shown == {name: float(value) for name, value in row.items() if value and name != "step"}
        assert recorder.calls[-1].kind == "close"
        assert not (tmp_path / "run" / "tensorboard").exists()

    def test_one_that_fails_at_any_moment_is_one_warning(self, audio, undisturbed, tmp_path, recorder, capsys):
        failing = ["fails-at-open", "fails-at-scalars", "fails-at-close"]
        tracking = train_tracked(audio, tmp_path / "run", *failing, "tensorboard")
        assert_untouched(tmp_path / "run", undisturbed)
        shown = " ".join(capsys.readouterr().err.split())
        assert [shown.count(f"{name} is off") for name in failing] == [1, 1, 1]
        assert shown.count("No space left on device") == 3
        assert [call.step for call in recorder.calls] == LOGGED  # of the last
        assert tracking.off == set(failing)
        assert [point.step for point in events(tmp_path / "run").Scalars("total")] == LOGGED

    def test_one_that_has_failed_is_not_waited_for_in_the_next_run(self, tmp_path, recorder):
        recorder.fails_at = "open"
        told: list[str] = []
        tracking = Tracking("project", ("recorder",))
        for name in ("one", "two"):
            assert tracking.open(tmp_path, name, {}, 0, told.append).working == ()
        assert len(told) == 1

    def test_each_goes_on_where_it_was_and_shows_no_step_twice(self, audio, undisturbed, tmp_path, monkeypatch, capsys):
        services = {name: fake_service(name, monkeypatch) for name in SERVICES}
        # After the row of step 14 and the checkpoint of step 8.
        interrupted(audio, tmp_path, "tensorboard", *SERVICES, call=15)
        assert [point.step for point in events(tmp_path).Scalars("total")] == LOGGED[:7]
        assert all(runs[0].finished for runs in services.values())
        train_tracked(audio, tmp_path, "tensorboard", *SERVICES)
        assert_untouched(tmp_path, undisturbed)
        # TensorBoard hides what is computed again, and nothing else.
        assert [point.step for point in events(tmp_path).Scalars("total")] == LOGGED
        for runs in services.values():
            first, second = runs
            assert place_of(first) == place_of(second)
            assert first.options["project"] == "project"
            assert first.options["resume"] == "allow"
            assert [step for run in runs for _, step in run.logged] == LOGGED
        assert capsys.readouterr().out == ""

    def test_a_training_begun_anew_is_another_run(self, audio, tmp_path, monkeypatch):
        services = {name: fake_service(name, monkeypatch) for name in SERVICES}
        for _ in range(2):
            interrupted(audio, tmp_path, *SERVICES, call=5)  # before the first checkpoint
        for first, second in services.values():
            assert place_of(first) != place_of(second)
            assert [step for _, step in first.logged] == [step for _, step in second.logged] == [2, 4]


class TestNames:
    def test_all_that_are_built_in(self):
        assert TRACKERS.names()[:3] == ["tensorboard", "wandb", "trackio"]
        Tracking().require()

    def test_one_that_nobody_knows(self):
        with pytest.raises(UnknownName, match=r"unknown tracker 'wandd'. Did you mean 'wandb'\? Known: tensorboard,"):
            Tracking("project", ("wandd",)).require()

    @pytest.mark.parametrize("service", SERVICES)
    def test_one_whose_package_is_missing(self, service, monkeypatch):
        fake_service(service, monkeypatch)
        monkeypatch.setitem(sys.modules, service, None)
        with pytest.raises(TrackerError, match=re.escape(f"pip install 'codec-bottlenecks[{service}]'")):
            Tracking("project", (service,)).require()


def test_the_recipe_in_the_documentation_works(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^```python\n# mytracker.py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "mytracker"}
    exec(compile(recipe, "mytracker.py", "exec"), names)
    tracker = names["Lines"](TrackedRun(tmp_path / "run", "project", "fsq"))
    tracker.scalars({"total": 0.5}, 7)
    tracker.audio("audio/a", np.zeros(4, np.float32), 16_000, 7)
    tracker.image("codes", np.zeros((4, 6, 3), np.uint8), 7)
    tracker.close()
    assert json.loads((tmp_path / "run" / "lines.jsonl").read_text()) == {"step": 7, "total": 0.5}


class TestNotes:
    def test_each_tracker_has_its_own(self, tmp_path):
        write_notes(tmp_path, "one", id="a", step=3)
        write_notes(tmp_path, "two", id="b")
        assert read_notes(tmp_path, "one") == {"id": "a", "step": 3}
        assert read_notes(tmp_path, "two") == {"id": "b"}
        assert read_notes(tmp_path, "three") == {}

    @pytest.mark.parametrize("text", ["", "{", "[]"])
    def test_a_damaged_file_turns_the_tracker_off_and_says_so(self, text, tmp_path, monkeypatch):
        runs = fake_service("wandb", monkeypatch)
        (tmp_path / NOTES).write_text(text)
        told: list[str] = []
        assert Trackers(["wandb"], TrackedRun(tmp_path, "project", "fsq", first_step=4), told.append).working == ()
        assert runs == []
        assert f"{tmp_path / NOTES} is damaged, delete it" in told[0]

    def test_a_training_without_an_id_gets_one_wherever_it_goes_on(self, tmp_path):
        begun = Identity(TrackedRun(tmp_path / "new", "project", "fsq", first_step=8), "wandb")
        assert not begun.was_sent(10)
        begun.sent(10)
        again = Identity(TrackedRun(tmp_path / "new", "project", "fsq", first_step=8), "wandb")
        assert again.id == begun.id
        assert again.was_sent(10)
        assert not again.was_sent(12)
