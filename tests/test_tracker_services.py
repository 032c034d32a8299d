"""TensorBoard, W&B and trackio show what they are sent: fake services everywhere, the real ones where installed."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from q2d2.trackers import TrackedRun
from q2d2.trackers.notes import read_notes
from tests.recorded_tracker import events, fake_service, place_of
from tests.sent_to_trackers import PIXELS, SAMPLES, show, tone

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("wandb", "trackio")


class TestServices:
    def test_wandb_is_told_where_to_write_and_to_count_by_our_steps(self, tmp_path, monkeypatch):
        monkeypatch.delenv("WANDB_DIR", raising=False)
        runs = fake_service("wandb", monkeypatch)
        show("wandb", TrackedRun(tmp_path, "project", "fsq", {"levels": [5, 5]}))
        (run,) = runs
        assert run.finished
        assert run.options["name"] == "fsq"
        assert run.options["config"] == {"levels": [5, 5]}
        assert run.options["dir"] == str(tmp_path)
        assert run.metrics == [("step", {"hidden": True}), ("*", {"step_metric": "step"})]
        scalars, sound, picture = (values for values, _ in run.logged)
        assert scalars == {"total": 0.5, "step": 7}
        np.testing.assert_array_equal(sound["audio/a"].data, SAMPLES)
        assert sound["audio/a"].options == {"sample_rate": 16_000}
        np.testing.assert_array_equal(picture["codes"].data, PIXELS)

    def test_wandb_writes_where_its_own_variable_says(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
        runs = fake_service("wandb", monkeypatch)
        show("wandb", TrackedRun(tmp_path, "project", "fsq"))
        assert runs[0].options["dir"] is None

    def test_trackio_gets_names_of_their_own_and_sound_at_its_level(self, tmp_path, monkeypatch):
        runs = fake_service("trackio", monkeypatch)
        show("trackio", TrackedRun(tmp_path, "project", "fsq"))
        (run,) = runs
        assert run.finished
        assert run.options["name"] == f"fsq-{read_notes(tmp_path, 'trackio')['id']}"
        (scalars, step), (sound, _), (picture, _) = run.logged
        assert (scalars, step) == ({"total": 0.5}, 7)
        data = sound["audio/a"].data
        assert data.dtype == np.int16  # trackio raises floats to full scale
        np.testing.assert_allclose(data / 32767, SAMPLES.clip(-1, 1), atol=1 / 32767)
        np.testing.assert_array_equal(picture["codes"].data, PIXELS)

    @pytest.mark.parametrize("service", SERVICES)
    def test_what_is_added_later_joins_the_training_and_may_come_again(self, service, tmp_path, monkeypatch):
        runs = fake_service(service, monkeypatch)
        show(service, TrackedRun(tmp_path, "project", "fsq"))
        for _ in range(2):
            show(service, TrackedRun(tmp_path, "project", "fsq", first_step=None))
        assert len({place_of(run) for run in runs}) == 1
        assert [len(run.logged) for run in runs] == [3, 3, 3]

    def test_tensorboard_shows_what_was_added_last(self, tmp_path):
        show("tensorboard", TrackedRun(tmp_path, "project", "fsq"))
        time.sleep(1.1)  # its files are read in the order of their names, which count seconds
        for _ in range(2):
            show("tensorboard", TrackedRun(tmp_path, "project", "fsq", first_step=None))
        found = events(tmp_path)
        assert [(point.step, point.value) for point in found.Scalars("total")] == [(7, 0.5)] * 2  # training, results
        sound, picture = found.Audio("audio/a")[-1], found.Images("codes")[-1]
        data, rate = soundfile.read(io.BytesIO(sound.encoded_audio_string))
        assert rate == sound.sample_rate == 16_000
        np.testing.assert_allclose(data, SAMPLES.clip(-1, 1), atol=1e-4)
        with Image.open(io.BytesIO(picture.encoded_image_string)) as shown:
            np.testing.assert_array_equal(np.asarray(shown), PIXELS)

    def test_the_real_wandb_takes_it_without_a_network(self, tmp_path, monkeypatch):
        pytest.importorskip("wandb", reason="wandb is not installed (extra wandb)")
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.delenv("WANDB_DIR", raising=False)
        for first_step in (0, None):
            show("wandb", TrackedRun(tmp_path, "project", "fsq", first_step=first_step), tone())
        name = read_notes(tmp_path, "wandb")["id"]
        assert len(list(tmp_path.glob(f"wandb/offline-run-*-{name}/run-{name}.wandb"))) == 2
        sounds = list(tmp_path.glob("wandb/offline-run-*/files/media/audio/audio/a_*.wav"))
        assert len(sounds) == 2
        np.testing.assert_allclose(soundfile.read(sounds[0])[0], tone(), atol=1e-4)

    def test_the_real_trackio_keeps_it_on_this_machine(self, tmp_path):
        """In a process of its own: trackio asks once, on import, where to write."""
        pytest.importorskip("trackio", reason="trackio is not installed (extra trackio)")
        code = f"""
import sys
sys.path[:] = {sys.path!r}
from pathlib import Path
from q2d2.trackers import TrackedRun
from tests.sent_to_trackers import show, tone
for first_step in (0, None):
    show("trackio", TrackedRun(Path({str(tmp_path)!r}), "project", "fsq", first_step=first_step), tone())
"""
        variables = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        with contextlib.closing(sqlite3.connect(tmp_path / "trackio" / "project.db")) as database:
            rows = database.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
        name = f"fsq-{read_notes(tmp_path, 'trackio')['id']}"
        assert {(run, step) for run, step, _ in rows} == {(name, 7)}
        assert sum('"total":0.5' in bytes(values).decode() for _, _, values in rows) == 2
        sounds = list((tmp_path / "trackio" / "media").rglob("*.wav"))
        assert len(sounds) == 2
        np.testing.assert_allclose(soundfile.read(sounds[0])[0], tone(), atol=1e-4)
