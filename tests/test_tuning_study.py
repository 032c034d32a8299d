"""The study of a search: points, trials in hand and lost, several processes."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path

import optuna
import pytest

from evalkit.sweeps.executors import MOST_DEATHS
from evalkit.sweeps.state import HEARTBEAT, LOST_AFTER, Heartbeat, trial_folder
from evalkit.sweeps.trials import expand
from evalkit.tuning.finals import plan_finals
from evalkit.tuning.sampler import CHANNELS_OF, FAMILY, STARTUP, UntriedTPE, distributions
from evalkit.tuning.settings import Tuning
from evalkit.tuning.space import search_space
from evalkit.tuning.study import SearchStudy
from tests.obstacles import held
from tests.small_search import small_search


@pytest.fixture
def tuning(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return small_search(tmp_path / "out", tmp_path_factory)


class TestSampler:
    def ask(self, study: optuna.Study, seed: int, learning_rate: tuple[float, float] | None = None) -> optuna.Trial:
        study.sampler = UntriedTPE(search_space(20), learning_rate, seed)
        return study.ask(distributions(search_space(20), learning_rate))

    def test_each_point_once_and_then_none_is_left(self):
        space, study = search_space(20), optuna.create_study()
        keys = []
        for number in range(len(space.choices)):
            trial = self.ask(study, number)
            keys.append((trial.params[FAMILY], trial.params[CHANNELS_OF]))
            study.tell(trial, float(number % 7))
        assert sorted(keys) == sorted(space.by_key)

    def test_a_good_family_is_preferred(self):
        study = optuna.create_study()
        families = []
        for number in range(20):
            trial = self.ask(study, number)
            families.append(trial.params[FAMILY])
            study.tell(trial, 0.0 if trial.params[FAMILY] == "a2" else 1.0 + number / 100)
        assert families[:STARTUP].count("a2") <= 3
        assert families.count("a2") == 5  # all there are, of 32 points

    def test_learning_rates_are_searched_within_their_ends_and_points_come_again(self):
        study = optuna.create_study()
        pairs = []
        for number in range(40):
            trial = self.ask(study, number, (1e-4, 1e-2))
            assert 1e-4 <= trial.params["learning_rate"] <= 1e-2
            assert (trial.params[FAMILY], trial.params[CHANNELS_OF]) in search_space(20).by_key
            pairs.append((trial.params[FAMILY], trial.params[CHANNELS_OF]))
            study.tell(trial, abs(math.log10(trial.params["learning_rate"]) + 3))
        assert len(set(pairs)) < len(pairs)
        rates = [trial.params["learning_rate"] for trial in study.trials]
        assert len(set(rates)) == len(rates)


def hold(tuning: Tuning, trial: str, host: str, age: float = 0.0) -> None:
    """Make a trial look as if a process of another machine had it in hand."""
    path = trial_folder(tuning.folder, trial) / HEARTBEAT
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": host, "time": time.time() - age}))


class TestStudy:
    def test_begins_with_the_baseline_and_ends_when_all_is_begun(self, tuning):
        study = SearchStudy(tuning)
        study.begin()
        assert study.left(99) == len(tuning.space.choices) == 6
        seen = []
        while asked := study.ask(99):
            seen.append(asked.trial.label)
            study.done(asked, float(len(seen)), 8, 1.0)
        assert seen[0] == "rhombic-4x2-3x2"
        assert len(set(seen)) == 6
        rows = study.rows()
        assert list(rows["objective"]) == [1, 2, 3, 4, 5, 6]
        assert set(rows["state"]) == {"done"}
        assert study.left(99) == 0

    def test_trials_in_hand_elsewhere_count_and_are_left_alone(self, tuning):
        study = SearchStudy(tuning)
        first = study.ask(2)
        assert first is not None
        hold(tuning, first.trial.id, "elsewhere")
        second = study.ask(2)
        assert second is not None
        assert second.trial.id != first.trial.id
        second.lock.close()
        with held(trial_folder(tuning.folder, second.trial.id)):  # by another process of this machine
            assert (study.ask(2), study.at_work(), study.left(2)) == (None, 2, 0)
        assert (study.at_work(), study.left(2)) == (1, 1)

    def test_one_whose_process_is_gone_is_asked_for_again(self, tuning):
        study = SearchStudy(tuning)
        lost = study.ask(5)
        assert lost is not None
        hold(tuning, lost.trial.id, "elsewhere", LOST_AFTER - 10)
        assert study.at_work() == 1
        hold(tuning, lost.trial.id, "elsewhere", LOST_AFTER + 1)
        again = SearchStudy(tuning).ask(5)
        assert again is not None
        assert again.trial.id == lost.trial.id
        study.done(lost, 5.0, 8, 1.0)  # were it not gone after all, it would be too late
        SearchStudy(tuning).done(again, 7.0, 8, 1.0)
        assert list(study.rows()["objective"]) == [7.0]

    def test_one_that_takes_its_process_along_is_given_up_with_a_reason(self, tuning):
        study = SearchStudy(tuning)
        asked = [study.ask(5) for _ in range(MOST_DEATHS + 1)]  # this process never has anything in hand when it asks
        identifiers = [each.trial.id for each in asked if each is not None]
        assert len(set(identifiers[:MOST_DEATHS])) == 1
        assert identifiers[-1] != identifiers[0]
        row = study.rows().iloc[0]
        assert (row["state"], row["reason"]) == ("failed", f"its process died {MOST_DEATHS} times while it ran")
        study.begin()  # the next call of the command tries it again
        assert study.rows().iloc[0]["state"] == "waiting"

    def test_given_back_is_not_a_death(self, tuning):
        study = SearchStudy(tuning)
        for _ in range(MOST_DEATHS + 2):
            asked = study.ask(5)
            assert asked is not None
            study.give_back(asked)
        assert list(study.rows()["state"]) == ["waiting"]

    def test_a_killed_search_draws_what_it_would_have_drawn(self, tuning, tmp_path):
        drawn = []
        for folder, killed in ((tmp_path / "a", False), (tmp_path / "b", True)):
            moved = tuning.moved_to(folder)
            moved.write()
            study = SearchStudy(moved)
            labels = []
            while asked := study.ask(6):
                if killed and len(labels) == 2:
                    killed = False
                    continue  # never told
                labels.append(asked.trial.label)
                study.done(asked, float(len(labels)), 8, 1.0)
            drawn.append(labels)
        assert drawn[0] == drawn[1]


def test_a_search_for_a_metric_where_higher_is_better_maximizes_it(tuning):
    search = dataclasses.replace(tuning, metrics=("stoi",))
    study = SearchStudy(search)
    assert study.study.direction == optuna.study.StudyDirection.MAXIMIZE
    study.begin()
    for objective in (0.5, 0.9, 0.7):
        asked = study.ask(9)
        assert asked is not None
        study.done(asked, objective, 8, 1.0)
    finals = plan_finals(search, study.rows(), 1, 1)
    best = study.rows().sort_values("objective")["configuration"].iloc[-1]
    assert finals.trials[-1].label == best


def test_a_sweep_of_the_same_points_has_the_same_ids(tuning):
    trial = tuning.trial(tuning.baseline, None)
    sweep = tuning.final_sweep([(tuning.baseline, None)], 1)
    assert trial.configuration != expand(sweep)[0].configuration  # another test set
    moved = tuning.moved_to(tuning.folder / "elsewhere")
    moved.write()
    assert moved.trial(tuning.baseline, None).id == trial.id
    assert Heartbeat(trial_folder(tuning.folder, trial.id)).seconds < 1
