"""`evalkit tune`: the finalists' answer, and the command by hand as a user would, on the sample corpus."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState

from evalkit.sweeps.state import RESULT
from evalkit.tuning.answer import answer
from evalkit.tuning.finals import COLUMNS, compare_finals, plan_finals
from evalkit.tuning.settings import Tuning, prepare
from evalkit.tuning.space import search_space
from evalkit.tuning.split import HELD_OUT, TRAIN
from evalkit.tuning.study import SearchStudy, is_at_work
from tests import small_search, warm
from tests.command import evalkit
from tests.small_search import search_all

WHOLE = ("--set", "data.test.limit=null")
QUICK = ("--set", "train.steps=4", "--set", "train.log_every=1", "--set", "train.num_workers=0")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_search.recordings(tmp_path_factory)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_search.experiment(tmp_path_factory)


@pytest.fixture
def tuning(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return small_search.small_search(tmp_path / "out", tmp_path_factory)


class TestAnswer:
    @pytest.fixture
    def finals(self, tuning: Tuning) -> Any:
        study = SearchStudy(tuning)
        study.begin()
        for objective in (1.5, 2.0, 1.0, 5.0):
            asked = study.ask(9)
            assert asked is not None
            study.done(asked, objective, 8, 1.0)
        return plan_finals(tuning, study.rows(), 2, 3)

    def compared(self, finals: Any, verdicts: tuple[str, ...]) -> pd.DataFrame:
        rows = [
            dict.fromkeys(COLUMNS, 0.5) | {
                "rank": entry.rank, "configuration": f"{entry.choice.family}-{entry.rank}", "metric": "mel_distance",
                "verdict": verdict, "seeds": 3, "utterances": 40, "clusters": 8, "note": "",
            }
            for entry, verdict in zip(finals.entries, ("", *verdicts), strict=True)
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def test_the_best_of_the_search_and_the_baseline_with_seeds_that_it_had_not(self, tuning, finals):
        rows = SearchStudy(tuning).rows()
        first, baseline, third, _ = rows.sort_values("objective")["configuration"]
        labels = [trial.label for trial in finals.trials[:3]]
        assert labels == [baseline, first, third]
        assert baseline == "rhombic-4x2-3x2"
        assert {trial.seed for trial in finals.trials} == {1, 2, 3}
        assert not {trial.id for trial in finals.trials} & set(rows["id"])
        for trial in finals.trials:
            assert trial.experiment.data.test.part == HELD_OUT
            assert trial.experiment.data.train[0].part == TRAIN

    def test_the_first_of_the_search_that_is_told_better_is_named_not_the_best_on_what_is_held_out(
        self, tuning, finals
    ):
        found = answer(tuning, finals, self.compared(finals, ("better", "better")))
        assert (found.best.rank, found.told) == (1, True)
        assert "at 3 seeds and 40 held-out utterances of 8 speakers" in found.sentences[0]
        assert answer(tuning, finals, self.compared(finals, ("worse", "better"))).best.rank == 2

    def test_where_none_is_told_the_baseline_stays(self, tuning, finals):
        found = answer(tuning, finals, self.compared(finals, ("", "worse")))
        assert (found.best.rank, found.told) == (0, False)
        assert found.sentences[0].startswith("No finalist is told better than the baseline")
        assert found.sentences[-1].startswith("Told worse")

    def test_a_baseline_that_was_not_to_be_searched_is_not_named(self, tuning, finals):
        narrow = dataclasses.replace(tuning, space=search_space(8, ["a2"]))
        found = answer(narrow, finals, self.compared(finals, ("", "")))
        assert (found.best.rank, found.told) == (1, False)

    def test_finalists_without_results_are_rows_with_a_reason(self, tuning, finals):
        finals.write()
        compared = compare_finals(tuning, finals)
        assert len(compared) == 3
        assert compared["mean"].isna().all()
        assert compared["note"].str.contains("0/3 done, 3 waiting").all()
        assert answer(tuning, finals, compared).best.rank == 0


class TestCommand:
    def arguments(self, base: Path, recordings: Path, out: Path) -> list[object]:
        return [
            "tune", "--bits-per-frame", 8, "--audio", recordings, "--experiment", base, "--out", out, *QUICK,
            "--families", "rhombic,a2", "--limit", 2, "--finalists", 1, "--seeds", 2, "--workers", 1, "--device", "cpu",
        ]  # fmt: skip

    @pytest.mark.slow
    def test_search_answer_best_file_again_and_refused(self, trials_here, base, recordings, tmp_path):
        out = tmp_path / "out"
        whole = self.arguments(base, recordings, out)
        first = evalkit(*whole, "--trials", 2)
        assert first.status == 0, first
        assert "told better than the baseline" in first.out or "is told from the baseline" in first.out
        rows = pd.read_csv(out / "trials.csv")
        assert list(rows["state"]) == ["done", "done"]
        compared = pd.read_csv(out / "tables" / "tuned.csv")
        assert list(compared["rank"]) == [0, 1]
        assert (compared["seeds"] == 2).all()
        assert compared["mean"].notna().all()
        scored = {
            dataset
            for path in out.glob("finalists/trials/*/utterances.parquet")
            for dataset in pd.read_parquet(path)["dataset"]
        }
        assert scored == {"folder/held-out"}
        assert (out / "tables" / "tuned.md").read_text().startswith("## 8 bits per frame")
        assert (out / "plots" / "search.png").is_file()

        results = {path: path.stat().st_mtime_ns for path in out.rglob(RESULT)}
        again = evalkit(*whole, "--trials", 2)
        assert again.status == 0, again
        assert again.out.count(", 0 to run") == 2
        assert {path: path.stat().st_mtime_ns for path in results} == results

        refused = evalkit(*whole, "--steps", 3).complaint
        assert "holds a search with steps 4, not 3" in refused
        assert "train.learning_rate 0.0005, not 0.1" in evalkit(*whole, "--set", "train.learning_rate=0.1").complaint

        best = yaml.safe_load((out / "best.yaml").read_text())
        assert best["data"]["test"] == {
            "name": "folder", "part": "held-out", "root": str(out / "audio"), "limit": None,
        }  # fmt: skip
        ran = evalkit("run", out / "best.yaml", "--out", tmp_path / "run", "--dry-run")
        assert ran.status == 0, ran
        assert "test on   folder held-out: 2 utterances" in ran.out
        assert all(name in ran.out for name in best["systems"])

    @pytest.mark.slow
    def test_killed_and_started_again_it_goes_on_with_equal_results(self, base, recordings, tmp_path):
        slow = ("train.steps=40", "train.log_every=1", "train.num_workers=0", "train.checkpoint_every=2")
        out, sets = tmp_path / "out", list(itertools.chain(*(("--set", each) for each in slow)))
        whole = self.arguments(base, recordings, out)
        output, deadline = tmp_path / "output", time.monotonic() + 120
        process = warm.start_evalkit(*whole, *sets, "--trials", 1, output=output)
        warm.wait_until(lambda: bool(list(out.glob("trials/*/checkpoints/*/state.pt"))), process, output)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        (trial,) = out.glob("trials/*")
        while is_at_work(trial):  # its worker needs a moment to be gone
            assert time.monotonic() < deadline
            time.sleep(0.05)
        options = {"experiment": str(base), "overrides": slow, "audio": recordings, "families": ["rhombic", "a2"]}
        found = []
        for folder in (out, tmp_path / "undisturbed"):
            tuning = prepare(folder, 8, limit=2, **options)  # type: ignore[arg-type]
            tuning.write()  # the same search, or it would be refused
            if folder == out:
                assert list(SearchStudy(tuning).rows()["state"]) == ["running"]
                (state,) = out.glob("trials/*/checkpoints/*/state.pt")
                begun = len((state.parent / "log.csv").read_text().splitlines())
                assert begun > 2
            (ended,) = search_all(tuning, 1)
            assert ended.state == "done", ended
            study = SearchStudy(tuning)
            (done,) = study.study.get_trials(states=(TrialState.COMPLETE,))
            found.append((study.rows()["objective"].tolist(), done.intermediate_values))
        assert found[0] == found[1]

    def test_a_dry_run_writes_nothing_and_tells_space_split_and_time(self, base, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        told = evalkit("tune", "--bits-per-frame", 20, "--experiment", base, *QUICK, *WHOLE, "--dry-run")
        assert told.status == 0, told
        assert "32 configurations within half a bit of 20" in told.out
        assert "rhombic            d=6    20.050  levels 8 8 8 8 7 7" in told.out
        assert "rhombic d=2, 12" in told.out
        assert "test set sample test: no speaker is in two parts" in told.out
        assert "training: about" in told.out
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["--bits-per-frame", 3], "no rhombic configuration has it"),
            (["--bits-per-frame", 20, "--audio", "nowhere"], "--audio nowhere: there is no such folder"),
            (["--bits-per-frame", 20, "--families", "rhombus"], "Did you mean 'rhombic'"),
            (["--bits-per-frame", 20, "--metric", "pesk"], "Did you mean 'pesq'"),
            (["--bits-per-frame", 20, "--learning-rate", "1"], "expected LOW,HIGH"),
            (["--bits-per-frame", 20, "--learning-rate", "1,0.1"], "expected 0 < LOW < HIGH"),
            (["--bits-per-frame", 20, "--set", "systems.a=1"], "systems is decided by --families"),
            (["--bits-per-frame", 20, "--set", "train.stps=1"], "Did you mean 'steps'"),
            (["--bits-per-frame", 20, "--set", "train.segment_seconds=0.001"], "spectral losses need"),
            (["--bits-per-frame", 20, "--device", "cudo"], "cudo"),
        ],
    )
    def test_bad_input_is_one_line_and_leaves_nothing(self, base, tmp_path, arguments, told):
        out = tmp_path / "out"
        whole = () if "--audio" in arguments else WHOLE
        assert told in evalkit("tune", "--experiment", base, *whole, *arguments, "--out", out).complaint
        assert not out.exists()

    def test_without_optuna_it_says_how_to_get_it(self, base, tmp_path, monkeypatch):
        monkeypatch.setattr("evalkit.cli.tune.find_spec", lambda name: None)
        complaint = evalkit("tune", "--bits-per-frame", 20, "--experiment", base, *WHOLE).complaint
        assert "pip install 'codec-bottlenecks[tune]'" in complaint

    def test_a_failed_trial_is_told_and_the_status_is_1(self, trials_here, base, recordings, tmp_path):
        broken = ("--set", "train.learning_rate=1e30", "--set", "train.gradient_clip=null")
        outcome = evalkit(*self.arguments(base, recordings, tmp_path / "out"), *broken, "--trials", 1)
        assert outcome.status == 1
        assert "FAILED: rhombic-4x2-3x2: a loss or weight was not finite" in outcome.out.replace("\n", " ")
        assert "no trial of the search is done" in outcome.err
        assert list(pd.read_csv(tmp_path / "out" / "trials.csv")["state"]) == ["failed"]
