"""`evalkit sweep`: trials run, resumed, failed and told; by hand as a user would, on the sample corpus."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evalkit.sweeps.folder import Progress, SweepFolder
from evalkit.sweeps.results import collect, read_rows
from evalkit.sweeps.schema import load_sweep
from evalkit.sweeps.state import HEARTBEAT, LOST_AFTER, RESULT, Outcome, TrialState, read_state, trial_folder
from evalkit.sweeps.trials import expand
from evalkit.sweeps.work import Settings, run_trial, try_trial
from tests import warm
from tests.command import Outcome as Ended
from tests.command import evalkit
from tests.obstacles import held
from tests.small_sweep import SHORT, run_trials_here, values, write_sweep


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "out", "cpu", use_cache=False)


class TestTrial:
    def test_leaves_rows_a_checkpoint_and_its_outcome_and_shows_nothing(self, tmp_path, settings, capfd):
        trial = expand(load_sweep(str(write_sweep(tmp_path))))[0]
        outcome = run_trial(settings, trial)
        assert (outcome.status, outcome.reason) == ("done", "")
        assert outcome.seconds > 0
        folder = trial_folder(settings.folder, trial.id)
        assert json.loads((folder / "trial.json").read_text())["label"] == "rhombic-5x2"
        assert (folder / "checkpoints" / trial.label / "codec.safetensors").is_file()
        rows = pd.read_parquet(folder / "utterances.parquet")
        assert set(rows["system"]) == {trial.label}
        assert set(rows["status"]) == {"ok"}
        assert read_state(folder).state == "done"
        assert "".join(capfd.readouterr()) == ""

    def test_a_loss_that_is_not_finite_is_its_outcome(self, tmp_path, settings):
        path = write_sweep(tmp_path, set=SHORT | {"train.learning_rate": 1e30, "train.gradient_clip": None})
        outcome = run_trial(settings, expand(load_sweep(str(path)))[0])
        assert outcome.status == "failed"
        assert "not finite" in outcome.reason
        assert "\n" not in outcome.reason

    def test_a_defect_is_its_outcome_with_the_traceback_kept(self, tmp_path, settings, monkeypatch):
        def broken(*arguments: Any) -> None:
            raise RuntimeError("no such luck")

        monkeypatch.setattr("evalkit.sweeps.work.score_systems", broken)
        trial = expand(load_sweep(str(write_sweep(tmp_path))))[0]
        outcome = run_trial(settings, trial)
        assert outcome.reason == "RuntimeError: no such luck (error.txt in its folder has the traceback)"
        assert "in broken" in (trial_folder(settings.folder, trial.id) / "error.txt").read_text()

    def test_one_that_another_worker_holds_is_left_to_it(self, tmp_path, settings):
        from evalkit.sweeps.attempts import Busy

        trial = expand(load_sweep(str(write_sweep(tmp_path))))[0]
        folder = trial_folder(settings.folder, trial.id)
        with held(folder), pytest.raises(Busy, match="in use by another run"):
            try_trial(settings, trial)
        assert not (folder / RESULT).exists()
        assert not (folder / HEARTBEAT).exists()  # the other one's would have been overwritten


class TestState:
    def test_follows_the_signs_of_life(self, tmp_path):
        assert read_state(tmp_path).state == "waiting"
        beat = {"time": time.time(), "seconds": 7.0, "host": "a", "pid": 1}
        (tmp_path / HEARTBEAT).write_text(json.dumps(beat))
        assert read_state(tmp_path) == TrialState("running", "", 7.0, "a")
        assert read_state(tmp_path, time.time() + LOST_AFTER + 1).state == "interrupted"
        Outcome("failed", "why", 9.0, "b", 0.0).write(tmp_path)
        assert read_state(tmp_path) == TrialState("failed", "why", 9.0, "b")

    def test_time_left(self):
        done, waiting = TrialState("done", "", 100.0), TrialState("waiting")
        running = TrialState("running", "", 40.0)
        assert Progress.of([waiting, running]).seconds_left is None
        assert Progress.of([done, waiting, waiting, running]).seconds_left == 260
        assert Progress.of([done, waiting, running, running]).seconds_left == 110
        assert Progress.of([done]).seconds_left == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Ended]:
    """The file of a sweep of two trials, the folder of a whole run of it, and how that ended."""
    folder = tmp_path_factory.mktemp("whole")
    path, out = write_sweep(folder), folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        run_trials_here(patch)
        return path, out, evalkit("sweep", path, "--out", out, "--device", "cpu", width=200)


@pytest.mark.slow
class TestCommand:
    def test_plan_writes_nothing_and_lists_every_trial(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = write_sweep(tmp_path, seeds=[0, 1])
        status, out, _ = evalkit("sweep", path, "--plan")
        assert status == 0
        assert "4 trials" in out
        for trial in expand(load_sweep(str(path))):
            (line,) = [line for line in out.splitlines() if line.startswith(trial.id)]
            assert line.split()[2:] == [str(trial.seed), "waiting", trial.label]
        assert not (tmp_path / "runs").exists()
        assert "2 trials" in evalkit("sweep", "--plan", path, "--shard", "1/2").out

    def test_run_status_report_and_run_again(self, whole):
        path, out, first = whole
        assert first.status == 0, first
        assert first.out.count("done in") == 2
        sweep = SweepFolder.read(out)
        before = {trial["id"]: (trial_folder(out, trial["id"]) / RESULT).stat().st_mtime_ns for trial in sweep.trials}
        again = evalkit("sweep", path, "--out", out, width=200)
        assert again.status == 0
        assert "2 trials, 0 to run" in again.out
        after = {trial["id"]: (trial_folder(out, trial["id"]) / RESULT).stat().st_mtime_ns for trial in sweep.trials}
        assert before == after
        told = evalkit("sweep", "status", out).out
        assert "2 trials, 2 done, 0 running, 0 interrupted, 0 failed, 0 waiting" in told
        assert evalkit("sweep", "report", out).status == 0
        rows = read_rows(out)
        assert list(rows.trials["label"]) == ["rhombic-5x2", "hexagonal-5x2"]
        assert len(rows.utterances) == 2 * 2 * 2

    def test_a_failed_trial_is_told_the_others_go_on_and_the_status_is_1(self, trials_here, tmp_path):
        bottleneck = {"name": "q2d2", "tiling": "rhombic", "levels": [5, 5]}
        points = [{"list": [{"bottleneck": bottleneck | {"tiling": "round"}}, {"bottleneck": bottleneck}]}]
        path, out = write_sweep(tmp_path, points=points), tmp_path / "out"
        outcome = evalkit("sweep", path, "--out", out, "--device", "cpu", width=300)
        assert outcome.status == 1
        assert "FAILED: round-5x2: unknown tiling 'round'" in outcome.out
        assert outcome.out.count("done in") == 1
        rows = collect(SweepFolder.read(out))
        assert list(rows.trials["state"]) == ["failed", "done"]
        assert "unknown tiling" in rows.trials["reason"].iloc[0]
        assert "1 done, 0 running, 0 interrupted, 1 failed" in evalkit("sweep", "status", out).out
        assert "unknown tiling" in evalkit("sweep", "status", out, "--list").out
        kept = evalkit("sweep", path, "--out", out, "--only-missing", width=300)
        assert (kept.status, "0 to run" in kept.out) == (1, True)

    def test_shards_are_one_sweep(self, whole, tmp_path):
        path, out, _ = whole
        parts = tmp_path / "parts"
        for number in ("1/2", "2/2"):
            outcome = evalkit("sweep", path, "--out", parts, "--shard", number, "--workers", "1", "--device", "cpu")
            assert outcome.status == 0
        assert evalkit("sweep", "report", parts).status == 0
        pd.testing.assert_frame_equal(values(parts), values(out))

    def test_a_killed_sweep_goes_on_from_its_checkpoints_with_equal_results(self, tmp_path, monkeypatch):
        slow = SHORT | {"train.steps": 30, "train.checkpoint_every": 2}
        points = [{"list": [{"bottleneck": {"name": "q2d2", "levels": [5, 5]}}]}]
        path = write_sweep(tmp_path, set=slow, points=points)
        out, whole = tmp_path / "out", tmp_path / "whole"
        command, output = ["sweep", path, "--out", out, "--workers", 1, "--device", "cpu"], tmp_path / "output"
        process = warm.start_evalkit(*command, output=output)
        warm.wait_until(lambda: bool(list(out.glob("trials/*/checkpoints/*/state.pt"))), process, output)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        states = [state.state for _, state in SweepFolder.read(out).states()]
        assert "done" not in states
        assert warm.ended(warm.start_evalkit(*command, output=output)) == 0, output.read_text()
        run_trials_here(monkeypatch)
        assert evalkit("sweep", path, "--out", whole, "--device", "cpu").status == 0
        pd.testing.assert_frame_equal(values(out), values(whole))

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["tilngs"], "Did you mean 'tilings'"),
            (["tilings", "--seeds", "0;1"], "expected integers with commas between"),
            (["tilings", "--plan", "--shard", "3/2"], "--shard 3/2"),
            (["tilings", "--plan", "--set", "train.stps=1"], "Did you mean 'steps'"),
            (["tilings", "--plan", "--set", "train.steps"], "expected key=value"),
            (["status", "nowhere"], "nowhere holds no sweep"),
            (["nearest", "20", "--family", "rhombus"], "Did you mean 'rhombic'"),
        ],
    )
    def test_bad_input_is_one_line(self, arguments, told):
        assert told in evalkit("sweep", *arguments).complaint

    def test_nearest_and_list(self):
        out = evalkit("sweep", "nearest", 20).out
        assert "rhombic             20.050  {name: q2d2, tiling: rhombic, levels: [8, 8, 8, 8, 7, 7]}" in out
        assert "vq                 -        vq with 6 channels has nothing near 20 bits" in out
        assert "matched-rate" in evalkit("sweep", "list").out
