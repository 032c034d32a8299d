"""What scored systems send: numbers of the rows, sound of the files, pictures; once, and beside the experiment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from matplotlib.figure import Figure

from evalkit.plots.figures import styled
from evalkit.run.tracking import pixels
from evalkit.scoring.protocol import KNOWN_ANSWERS
from evalkit.sweeps.schema import load_sweep
from evalkit.sweeps.state import trial_folder
from evalkit.sweeps.trials import expand
from evalkit.sweeps.work import Settings, run_trial
from q2d2.trackers.notes import NOTES
from tests.command import TINY, evalkit, write_experiment
from tests.finished_run import Run, copied_run, leave_out_plots
from tests.recorded_tracker import Call, Recorder, events, install_recorder
from tests.small_sweep import write_sweep

CODECS = list(TINY["systems"])
SYSTEMS = [*KNOWN_ANSWERS, *CODECS]


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    leave_out_plots(monkeypatch)
    return install_recorder(tmp_path, monkeypatch)


def again(run: Run, *arguments: object) -> str:
    """The same command once more, which finds everything done; what it printed."""
    outcome = evalkit("run", run.experiment, "--out", run.folder, "--workers", 1, *arguments)
    assert outcome.status == 0, outcome
    return outcome.out


class Sent(dict[tuple[str, str], list[Call]]):
    """Calls by their kind and run."""

    def __init__(self, calls: list[Call]) -> None:
        super().__init__()
        for call in calls:
            self.setdefault((call.kind, call.run), []).append(call)


@pytest.fixture(scope="module")
def sent(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("sent")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_plots(patch)
        recorder = install_recorder(folder, patch)
        run = copied_run(finished, folder)
        again(run, "--track", "recorder")
        first = Sent(recorder.calls)
        described = [(told.project, told.name, told.first_step) for told in recorder.runs]
        recorder.calls = []
        again(run, "--track", "recorder")
        return run, first, described, recorder.calls


class TestFinishedRun:
    """All that a tracker is sent of a run that is done already."""

    def test_every_system_is_a_run_of_the_experiment(self, sent: Any) -> None:
        assert sent[2] == [("trial", name, None) for name in SYSTEMS]

    def test_numbers_are_those_of_the_rows(self, sent: Any) -> None:
        run, calls, _, _ = sent
        rows = run.rows("utterances")
        means = rows.groupby(["system", "metric"])["value"].mean()
        systems = run.rows("systems").set_index("system")
        for name in SYSTEMS:
            (call,) = calls["scalars", name]
            assert call.step == (12 if name in CODECS else 0)
            for metric in rows["metric"].unique():
                assert call.content[f"scores/{metric}"] == pytest.approx(means[name, metric])
                assert call.content[f"scored/{metric}"] == call.content["scored/utterances"] == 2
            for number in ("bitrate", "utilization", "rtf_decode", "parameters"):
                if pd.isna(systems[number][name]):
                    assert f"system/{number}" not in call.content
                else:
                    assert call.content[f"system/{number}"] == systems[number][name]
            assert all(np.isfinite(list(call.content.values())))

    def test_sound_is_that_of_the_files_under_one_name(self, sent: Any) -> None:
        run, calls, _, _ = sent
        (folder,) = (run.folder / "audio").iterdir()
        for name in SYSTEMS:
            (call,) = calls["audio", name]
            assert call.name == calls["audio", "ground-truth"][0].name == f"audio/{folder.name}"
            audio, rate = soundfile.read(folder / f"{name}.flac", dtype="float32")
            np.testing.assert_array_equal(call.content[0], audio)
            assert call.content[1] == rate

    def test_pictures_are_the_spectrogram_and_the_codes_where_there_are_any(self, sent: Any) -> None:
        _, calls, _, _ = sent
        for name in SYSTEMS:
            shown = {call.name.partition("/")[0]: call.content for call in calls["image", name]}
            coded = name in CODECS and name != "unquantized"
            assert list(shown) == ["spectrograms", "codes"][: 1 + coded]
            for picture in shown.values():
                assert picture.dtype == np.uint8
                assert picture.shape[2] == 3
                assert picture.std() > 10
        alone, beside = (calls["image", name][0].content.shape[1] for name in ("ground-truth", "fsq"))
        assert beside > 1.5 * alone  # the original is drawn next to it

    def test_a_second_call_sends_nothing(self, sent: Any) -> None:
        assert sent[3] == []

    def test_the_experiment_stays_what_it_was(self, sent: Any, finished: Run) -> None:
        run = sent[0]
        before, after = (json.loads((folder / "run.json").read_text()) for folder in (finished.folder, run.folder))
        for description in (before, after):
            del description["version"]  # somebody may work on the code while its tests run
        assert before == after
        pd.testing.assert_frame_equal(run.rows("utterances"), finished.rows("utterances"))
        assert (run.folder / "journal.jsonl").read_bytes() == (finished.folder / "journal.jsonl").read_bytes()


class TestAgain:
    @pytest.fixture
    def run(self, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
        """A copy of the finished run, of which one codec is left; pictures, which take longest, are a dot."""
        monkeypatch.setattr("evalkit.run.tracking.pixels", lambda figure: np.zeros((1, 1, 3), np.uint8))
        only = write_experiment(tmp_path / "vq.yaml", systems={"vq": TINY["systems"]["vq"]})
        return copied_run(finished, tmp_path)._replace(experiment=only)

    def test_what_has_changed_is_sent_anew(self, run: Run, recorder: type[Recorder]) -> None:
        again(run, "--track", "recorder")
        recorder.calls.clear()
        again(run, "--track", "recorder", "--set", "data.test.limit=3")
        sent = Sent(recorder.calls)
        assert sent["scalars", "vq"][0].content["scored/utterances"] == 3

    def test_one_that_fails_is_one_warning_and_is_sent_everything_by_the_next_call(
        self, run: Run, recorder: type[Recorder]
    ) -> None:
        recorder.fails_at = "image"
        shown = " ".join(again(run, "--track", "recorder").split())
        assert shown.count("recorder is off") == 1
        assert "warning: ground-truth: recorder is off" in shown
        recorder.fails_at = ""
        recorder.calls.clear()
        again(run, "--track", "recorder")
        assert {call.run for call in recorder.calls if call.kind == "scalars"} == {*KNOWN_ANSWERS, "vq"}

    def test_damaged_notes_are_a_warning(self, run: Run, recorder: type[Recorder]) -> None:
        (run.folder / "checkpoints" / "vq" / NOTES).write_text("{")
        shown = "".join(again(run, "--track", "recorder").split())
        assert "warning:vq:recorderwillbesentthesameagain" in shown


class TestDefaults:
    def test_a_run_is_in_tensorboard(self, finished: Run) -> None:
        trained, anchor = (
            events(finished.folder / "checkpoints" / "fsq"),
            events(finished.folder / "tracking/mulaw-8bit"),
        )
        assert [point.step for point in trained.Scalars("total")] == [4, 8, 12]
        assert [point.step for point in trained.Scalars("scores/pesq")] == [12]
        mean = finished.rows("utterances").groupby(["system", "metric"])["value"].mean()["mulaw-8bit", "pesq"]
        assert anchor.Scalars("scores/pesq")[0].value == pytest.approx(mean, rel=1e-6)
        for found in (trained, anchor):
            (name,) = found.Tags()["audio"]
            assert found.Audio(name)[0].sample_rate == 16_000
        assert not (finished.folder / "tracking" / "fsq").exists()

    def test_a_trial_of_a_sweep_has_its_curves_and_sends_no_results(self, tmp_path: Path) -> None:
        trial = expand(load_sweep(str(write_sweep(tmp_path))))[0]
        assert run_trial(Settings(tmp_path / "out", "cpu", use_cache=False), trial).status == "done"
        folder = trial_folder(tmp_path / "out", trial.id)
        tags = events(folder / "checkpoints" / trial.label).Tags()
        assert "total" in tags["scalars"]
        assert not [tag for tag in tags["scalars"] if "/" in tag]
        assert tags["audio"] == []
        assert not (folder / "tracking").exists()


class TestCommands:
    def test_train_follows_in_what_is_asked_for(self, tmp_path: Path, recorder: type[Recorder]) -> None:
        experiment = write_experiment(tmp_path / "trial.yaml")
        asked = ["--system", "fsq", "--out", tmp_path / "run", "--track", "recorder", "--track", "tensorboard"]
        assert evalkit("train", experiment, *asked).status == 0
        assert [call.step for call in recorder.calls if call.kind == "scalars"] == [4, 8, 12]
        assert [(run.project, run.name) for run in recorder.runs] == [("trial", "fsq")]
        assert events(tmp_path / "run" / "checkpoints" / "fsq").Scalars("total")[-1].step == 12

    @pytest.mark.parametrize("command", ["run", "train"])
    def test_one_that_is_unknown_stops_before_anything_is_done(self, command: str, tmp_path: Path) -> None:
        experiment = write_experiment(tmp_path / "trial.yaml")
        outcome = evalkit(command, experiment, "--out", tmp_path / "run", "--track", "tensorbord")
        assert outcome.complaint.startswith("unknown tracker 'tensorbord'. Did you mean 'tensorboard'?")
        assert not (tmp_path / "run").exists()


def test_pixels_are_the_figure_at_its_own_resolution() -> None:
    @styled
    def blue() -> Figure:
        figure = Figure(figsize=(2, 1), dpi=50, facecolor="blue")
        return figure

    drawn = pixels(blue())
    assert drawn.shape == (50, 100, 3)
    assert (drawn == (0, 0, 255)).all()
