"""Trials of a search: trained under the pruner's eye, scored on the part to choose by, told."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

from evalkit.sweeps.attempts import Busy
from evalkit.sweeps.executors import run_jobs
from evalkit.sweeps.state import RESULT, trial_folder
from evalkit.sweeps.work import PrunedTraining
from evalkit.tuning.sampler import CHANNELS_OF, FAMILY, RUNGS, distributions
from evalkit.tuning.search import Rungs, search_once
from evalkit.tuning.settings import Tuning
from evalkit.tuning.study import SearchStudy
from tests.obstacles import held
from tests.small_search import search_all, settings_of, small_search


@pytest.fixture
def tuning(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return small_search(tmp_path / "out", tmp_path_factory)


class Reports:
    """What a trial of Optuna takes."""

    def __init__(self, prune_at: int = 99) -> None:
        self.values: dict[int, float] = {}
        self._prune_at = prune_at

    def report(self, value: float, step: int) -> None:
        assert step not in self.values
        self.values[step] = value

    def should_prune(self) -> bool:
        return max(self.values) >= self._prune_at


class TestRungs:
    def watch(self, tmp_path: Path, steps: int = 16, prune_at: int = 99, sign: int = 1) -> tuple[Reports, Any]:
        reports = Reports(prune_at)
        return reports, Rungs(reports, tmp_path / "log.csv", steps, sign)  # type: ignore[arg-type]

    def test_reports_means_of_the_reconstruction_losses_alone(self, tmp_path):
        reports, rungs = self.watch(tmp_path)
        for step in range(1, 17):
            rungs(step, {"mel": float(step), "stft": 1.0, "commitment": 1e6, "mpd": 1e6, "mrd_features": 1e6})
        assert reports.values == {rung: 2 * rung - 0.5 + 1.0 for rung in range(1, RUNGS + 1)}

    def test_rungs_that_lie_between_rows(self, tmp_path):
        reports, rungs = self.watch(tmp_path, steps=40)  # a rung each 5 steps, a row each 8
        for step in range(8, 41, 8):
            rungs(step, {"mel": float(step)})
        assert reports.values == {2: 8.0, 4: 16.0, 5: 24.0, 7: 32.0, 8: 40.0}

    def test_goes_on_from_the_rows_of_an_earlier_process(self, tmp_path):
        whole, rungs = self.watch(tmp_path)
        for step in range(1, 17):
            rungs(step, {"mel": 1 / step})
        rows = [f"{step},{1 / step},9,8,7,0.1,1\n" for step in range(1, 9)]
        head = "step,mel,commitment,total,discriminator_mpd,learning_rate,seconds\n"
        (tmp_path / "log.csv").write_text(head + "".join(rows) + "9,0.1")  # and a line that a kill cut off
        resumed, rungs = self.watch(tmp_path)
        for step in range(9, 17):
            rungs(step, {"mel": 1 / step})
        assert resumed.values == pytest.approx(whole.values)
        unseen, rungs = self.watch(tmp_path)
        rungs.finish()
        assert unseen.values == pytest.approx({rung: whole.values[rung] for rung in range(1, 5)})

    def test_ends_a_training_where_the_pruner_says_so_but_not_at_its_last_step(self, tmp_path):
        _, rungs = self.watch(tmp_path, prune_at=3)
        for step in range(1, 6):
            rungs(step, {"mel": 1.0})
        with pytest.raises(PrunedTraining, match="step 6"):
            rungs(6, {"mel": 1.0})
        _, rungs = self.watch(tmp_path, prune_at=RUNGS)
        for step in range(1, 17):
            rungs(step, {"mel": 1.0})

    def test_where_higher_is_better_a_loss_is_reported_negative(self, tmp_path):
        reports, rungs = self.watch(tmp_path, steps=RUNGS, sign=-1)
        rungs(1, {"mel": 2.0})
        assert reports.values == {1: -2.0}


class TestSearch:
    def test_trains_and_scores_on_the_part_to_choose_by_alone(self, tuning):
        found = search_all(tuning, 2)
        assert [each.state for each in found] == ["done", "done"]
        rows = SearchStudy(tuning).rows()
        assert rows["objective"].notna().all()
        scored, trained = set(), set()
        for identifier in rows["id"]:
            folder = trial_folder(tuning.folder, identifier)
            utterances = pd.read_parquet(folder / "utterances.parquet")
            scored |= set(utterances["dataset"])
            trained |= {each["corpus"] for each in json.loads((folder / "run.json").read_text())["train"]}
            assert rows.set_index("id").loc[identifier, "objective"] == pytest.approx(utterances["value"].mean())
        assert (scored, trained) == ({"folder/search"}, {"folder/train"})
        before = (tuning.folder / "study.log").read_bytes()
        assert search_all(tuning, 2) == []
        assert (tuning.folder / "study.log").read_bytes() == before
        (further,) = search_all(tuning, 3)
        assert further.id not in set(rows["id"])

    def test_what_falls_behind_is_pruned_and_keeps_no_score(self, tuning):
        study = SearchStudy(tuning).study
        whole = distributions(tuning.space, None)
        finished = [choice for choice in tuning.space.choices if choice.family != "d4"]
        for choice in finished:  # far better ones than any can be
            params = {FAMILY: choice.family, CHANNELS_OF: choice.channels}
            losses = dict.fromkeys(range(1, RUNGS + 1), 1e-6)
            study.add_trial(create_trial(params=params, distributions=whole, value=1.0, intermediate_values=losses))
        (found,) = search_all(tuning, 6)
        assert (found.configuration, found.told) == ("d4-5", "pruned after step 2 of 8")
        row = SearchStudy(tuning).rows().iloc[-1]
        assert (row["state"], row["steps"], row["reason"]) == ("pruned", 2, "")
        assert math.isnan(row["objective"])
        assert not (trial_folder(tuning.folder, found.id) / RESULT).exists()

    def test_one_that_fails_is_a_row_with_its_reason_and_the_search_goes_on(self, tuning, monkeypatch):
        broken = dataclasses.replace(tuning.experiment.train, learning_rate=1e30, gradient_clip=None)
        bad = dataclasses.replace(tuning, experiment=tuning.experiment.model_copy(update={"train": broken}))
        bad = bad.moved_to(tuning.folder / "bad")
        bad.write()
        found = search_all(bad, 2)
        assert [each.state for each in found] == ["failed", "failed"]
        assert SearchStudy(bad).rows()["reason"].str.contains("not finite").all()

    def test_one_that_another_holds_is_given_back(self, tuning):
        SearchStudy(tuning).begin()
        trial = tuning.trial(tuning.baseline, None)
        with held(trial_folder(tuning.folder, trial.id)), pytest.raises(Busy, match="in use"):
            search_once(tuning, settings_of(tuning), 1, 0)
        assert list(SearchStudy(tuning).rows()["state"]) == ["waiting"]

    def test_two_processes_share_one_study(self, tuning):
        SearchStudy(tuning).begin()
        with closing(run_jobs(functools.partial(ask_and_tell, tuning), range(7), workers=2)) as jobs:
            found = [result for _, result in jobs]
        told = [each for each in found if each is not None]
        assert len(told) == 5  # that many there are to be
        assert len({identifier for identifier, _ in told}) == 5
        assert len({process for _, process in told}) == 2
        study = SearchStudy(tuning)
        assert sorted(study.rows()["id"]) == sorted(identifier for identifier, _ in told)
        assert [trial.state for trial in study.study.trials] == [TrialState.COMPLETE] * 5


def ask_and_tell(tuning: Tuning, slot: int) -> tuple[str, int] | None:
    """A trial of five without its training, in a worker: its id and that of the process."""
    (tuning.folder / f"{os.getpid()}.here").touch()
    deadline = time.monotonic() + 120
    while len(list(tuning.folder.glob("*.here"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)  # else the first would be done before the other has loaded torch
    study = SearchStudy(tuning)
    asked = study.ask(5)
    if asked is None:
        return None
    time.sleep(0.2)
    study.done(asked, float(slot), 8, 0.2)
    return asked.trial.id, os.getpid()
