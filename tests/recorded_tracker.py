"""A tracker that keeps what it is told, installed as another package would install one, and fake services."""

from __future__ import annotations

import random
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from q2d2.trackers import TrackedRun


class Call(NamedTuple):
    """What was asked of a tracker; `content` is values, (samples, rate) or pixels."""

    kind: str
    run: str
    name: str
    content: Any
    step: int


class Recorder:
    """Keeps all calls, and draws random numbers with each, as somebody's tracker might."""

    calls: list[Call]
    runs: list[TrackedRun]
    fails_at: str = ""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._may_fail("open")
        self.runs.append(run)

    def _may_fail(self, kind: str) -> None:
        random.random()
        np.random.random()
        torch.rand(1)
        if kind == self.fails_at:
            raise OSError(28, "No space left on device")

    def _keep(self, kind: str, name: str, content: Any, step: int) -> None:
        self._may_fail(kind)
        self.calls.append(Call(kind, self._run.name, name, content, step))

    def scalars(self, values: Any, step: int) -> None:
        self._keep("scalars", "", dict(values), step)

    def audio(self, name: str, samples: Any, sample_rate: int, step: int) -> None:
        self._keep("audio", name, (samples, sample_rate), step)

    def image(self, name: str, pixels: Any, step: int) -> None:
        self._keep("image", name, pixels, step)

    def close(self) -> None:
        self._keep("close", "", None, -1)


class FailsAtOpen(Recorder):
    fails_at = "open"


class FailsAtScalars(Recorder):
    fails_at = "scalars"


class FailsAtClose(Recorder):
    fails_at = "close"


def install_recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """Make `recorder` a registered tracker, by the entry point of a package on the path; its class, without calls.

    So are `fails-at-open`, `fails-at-scalars` and `fails-at-close`; what they keep is among its calls.
    """
    info = tmp_path / "site" / "recorder-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recorder\nVersion: 1.0\n")
    classes = {"recorder": Recorder, "fails-at-open": FailsAtOpen, "fails-at-scalars": FailsAtScalars,
               "fails-at-close": FailsAtClose}  # fmt: skip
    lines = [f"{name} = tests.recorded_tracker:{each.__name__}\n" for name, each in classes.items()]
    (info / "entry_points.txt").write_text("[q2d2.trackers]\n" + "".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(Recorder, "calls", [], raising=False)
    monkeypatch.setattr(Recorder, "runs", [], raising=False)
    monkeypatch.setattr(Recorder, "fails_at", "")
    return Recorder


class FakeRun:
    """A run of a fake service: what it was begun with, and each dictionary logged, with its step."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.logged: list[tuple[dict[str, Any], int]] = []
        self.metrics: list[tuple[Any, ...]] = []
        self.finished = False

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        assert not self.finished
        self.logged.append((values, values["step"] if step is None else step))

    def define_metric(self, *names: Any, **options: Any) -> None:
        self.metrics.append((*names, options))

    def finish(self) -> None:
        self.finished = True


class FakeMedia(NamedTuple):
    data: Any
    options: dict[str, Any]


def fake_service(name: str, monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """Put a fake `wandb` or `trackio` in the place of the package; the runs that it is asked for, in order."""
    runs: list[FakeRun] = []
    module = types.ModuleType(name)

    def init(**options: Any) -> FakeRun:
        if name == "trackio":
            print("* Trackio project initialized")  # on standard output
        runs.append(FakeRun(options))
        return runs[-1]

    module.init = init  # type: ignore[attr-defined]
    module.finish = lambda: runs[-1].finish()  # type: ignore[attr-defined]
    module.Settings = dict  # type: ignore[attr-defined]
    module.Audio = lambda data, **options: FakeMedia(data, options)  # type: ignore[attr-defined]
    module.Image = lambda data, **options: FakeMedia(data, options)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    # Undoing the first takes the adapter away that the second makes room for, and with it the fake.
    monkeypatch.setitem(sys.modules, f"q2d2.trackers.{name}", module)
    del sys.modules[f"q2d2.trackers.{name}"]
    return runs


def place_of(run: FakeRun) -> tuple[Any, Any]:
    """What a service knows a run by."""
    return run.options.get("id"), run.options["name"]


def events(folder: Path) -> EventAccumulator:
    """What TensorBoard would show of a tracked folder."""
    return EventAccumulator(str(folder / "tensorboard")).Reload()
