"""`evalkit tune`: space, parts of the audio, study, search, answer; by hand as a user would, on the sample corpus."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState, create_trial

from evalkit.datasets import Utterance, load_corpus
from evalkit.sweeps.attempts import Busy
from evalkit.sweeps.executors import MOST_DEATHS, run_jobs
from evalkit.sweeps.state import HEARTBEAT, LOST_AFTER, RESULT, Heartbeat, trial_folder
from evalkit.sweeps.trials import expand
from evalkit.sweeps.work import PrunedTraining, Settings
from evalkit.tuning.answer import answer
from evalkit.tuning.finals import COLUMNS, compare_finals, plan_finals
from evalkit.tuning.sampler import CHANNELS_OF, FAMILY, RUNGS, STARTUP, UntriedTPE, distributions
from evalkit.tuning.search import Rungs, Searched, search_once
from evalkit.tuning.settings import Tuning, prepare
from evalkit.tuning.space import TuneError, baseline_choice, search_space
from evalkit.tuning.split import HELD_OUT, SEARCH, TRAIN, split_audio, split_test_set
from evalkit.tuning.study import SearchStudy
from q2d2.bottleneck import build_bottleneck
from q2d2.tilings import TILINGS
from tests.command import evalkit, write_experiment
from tests.test_store import held

FEW = ("rhombic", "a2", "d4")
WHOLE = ("--set", "data.test.limit=null")
QUICK = ("--set", "train.steps=4", "--set", "train.log_every=1", "--set", "train.num_workers=0")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each of six voices, a folder a voice."""
    root = tmp_path_factory.mktemp("recordings")
    for utterance in load_corpus("sample", "test").utterances:
        assert utterance.speaker is not None
        (root / utterance.speaker).mkdir(exist_ok=True)
        (root / utterance.speaker / utterance.path.name).symlink_to(utterance.path)
    return root


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("experiment") / "base.yaml")


@pytest.fixture
def tuning(tmp_path: Path, base: Path, recordings: Path) -> Tuning:
    overrides = ("train.steps=8", "train.log_every=1", "train.num_workers=0")
    search = prepare(
        tmp_path / "out", 8, experiment=str(base), overrides=overrides, audio=recordings, families=FEW, limit=1
    )
    search.write()
    return search


def settings_of(tuning: Tuning) -> Settings:
    return Settings(tuning.folder, "cpu", use_cache=False)


def search_all(tuning: Tuning, trials: int) -> list[Searched]:
    """The whole search in this process."""
    SearchStudy(tuning).begin()
    found = iter(lambda: search_once(tuning, settings_of(tuning), trials, 0), None)
    return [each for each in found if each is not None]


def speech(speaker: str | None, name: str, seconds: float = 1.0) -> Utterance:
    return Utterance(name, Path(f"{name}.wav"), speaker, round(16_000 * seconds), 16_000)


class TestSpace:
    def test_every_point_has_the_rate_that_its_bottleneck_has_and_none_is_there_twice(self):
        space = search_space(20)
        for choice in space.choices:
            options = dict(choice.bottleneck)
            built = build_bottleneck(options.pop("name"), 16, **options)
            assert built.bits_per_frame == pytest.approx(choice.bits_per_frame)
            assert abs(choice.bits_per_frame - 20) <= 0.5
        assert len({json.dumps(choice.bottleneck) for choice in space.choices}) == len(space.choices)
        assert {choice.family for choice in space.choices} >= {*TILINGS, "a2", "d4", "e8", "fsq"}

    def test_what_reaches_no_such_rate_is_named(self):
        space = search_space(20)
        assert space.left_out["rhombic"] == (2, 12)
        everything = {(family, channels) for family, each in space.left_out.items() for channels in each}
        assert not everything & set(space.by_key)
        assert len(everything) + len(space.choices) == 40

    def test_the_baseline_is_the_published_configuration_at_its_own_rate(self):
        assert baseline_choice(19.23).bottleneck == {"name": "q2d2", "tiling": "rhombic", "levels": [7] * 6}
        assert baseline_choice(8).channels == 4  # three pairs have 8.9 bits at least

    @pytest.mark.parametrize(
        ("target", "families", "told"),
        [(math.nan, None, "positive"), (0, None, "positive"), (20, ["fqs"], "'fsq'"), (1, ["d4"], "out of reach of d4"),
         (20, [], "none given"), (20, ["rvq"], "not searched")],
    )  # fmt: skip
    def test_refuses(self, target, families, told):
        with pytest.raises(TuneError, match=told):
            search_space(target, families)


class TestSplit:
    def test_no_speaker_is_in_two_parts_and_nothing_is_lost(self, recordings, tmp_path):
        corpus = load_corpus("folder", "all", recordings)
        split = split_audio(corpus)
        assert split.by_speaker
        speakers = [{each.speaker for _, each in entries} for entries in split.parts.values()]
        assert sum(map(len, speakers)) == len(set.union(*speakers)) == 6
        split.write(tmp_path)
        opened = {part: load_corpus("folder", part, tmp_path) for part in (TRAIN, SEARCH, HELD_OUT)}
        assert sorted(u.id for part in opened.values() for u in part.utterances) == [u.id for u in corpus.utterances]
        for part, found in opened.items():
            assert {(u.id, u.speaker) for u in found.utterances} == {(u.id, u.speaker) for _, u in split.parts[part]}

    def test_does_not_depend_on_the_order_and_has_about_its_shares(self):
        clips = [speech(f"s{n % 20}", f"s{n % 20}/{n}", 1 + n % 5) for n in range(200)]
        corpus = dataclasses.replace(load_corpus("sample", "test"), utterances=clips)
        split = split_audio(corpus)
        random.Random(0).shuffle(clips)
        assert split_audio(dataclasses.replace(corpus, utterances=clips)).digests() == split.digests()
        total = sum(each.seconds for each in clips)
        for part, share in ((TRAIN, 0.6), (SEARCH, 0.2), (HELD_OUT, 0.2)):
            assert sum(u.seconds for _, u in split.parts[part]) / total == pytest.approx(share, abs=0.06)

    def test_one_large_speaker_is_trained_on(self):
        clips = [speech("much", f"much/{n}", 100) for n in range(4)]
        clips += [speech(f"s{n}", f"s{n}/{m}") for n in range(2) for m in range(2)]
        split = split_audio(dataclasses.replace(load_corpus("sample", "test"), utterances=clips))
        assert split.by_speaker
        assert {u.speaker for _, u in split.parts[TRAIN]} == {"much"}

    @pytest.mark.parametrize("speaker", [None, "one"])
    def test_by_file_where_speakers_are_few_or_not_known(self, speaker):
        clips = [speech(speaker, f"a/{n}" if speaker is None else f"one/{n}") for n in range(6)]
        split = split_audio(dataclasses.replace(load_corpus("sample", "test"), utterances=clips))
        assert not split.by_speaker
        assert [len(entries) for entries in split.parts.values()] == [2, 2, 2]
        paths = [path for entries in split.parts.values() for path, _ in entries]
        assert all(("/" in path) == (speaker is not None) for path in paths)  # dataset `folder` sees no speaker either

    def test_a_test_set_is_halved(self):
        corpus = load_corpus("sample", "test")
        split = split_test_set(corpus, corpus.utterances)
        assert [(part, len(entries)) for part, entries in split.parts.items()] == [(SEARCH, 6), (HELD_OUT, 6)]
        assert {path.split("/")[0] for path, _ in split.parts[SEARCH]} <= set(corpus.speakers)

    def test_too_little_audio(self):
        clips = [speech(f"s{n}", f"s{n}/a") for n in range(5)]
        with pytest.raises(TuneError, match="5 usable files cannot make 3 parts"):
            split_audio(dataclasses.replace(load_corpus("sample", "test"), utterances=clips))

    def test_links_that_are_there_stay_and_others_are_mended(self, recordings, tmp_path):
        split = split_audio(load_corpus("folder", "all", recordings))
        split.write(tmp_path)
        links = sorted(path for path in tmp_path.rglob("*") if path.is_symlink())
        before = [link.lstat().st_ino for link in links]
        split.write(tmp_path)
        assert [link.lstat().st_ino for link in links] == before
        links[0].unlink()
        links[0].symlink_to("elsewhere")
        split.write(tmp_path)
        assert links[0].is_file()


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
    study = SearchStudy(tuning)
    asked = study.ask(5)
    if asked is None:
        return None
    time.sleep(0.2)
    study.done(asked, float(slot), 8, 0.2)
    return asked.trial.id, os.getpid()


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

    def test_search_answer_best_file_again_and_refused(self, base, recordings, tmp_path):
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

    def test_killed_and_started_again_it_goes_on_with_equal_results(self, base, recordings, tmp_path):
        slow = ("train.steps=40", "train.log_every=1", "train.num_workers=0", "train.checkpoint_every=2")
        out, sets = tmp_path / "out", list(itertools.chain(*(("--set", each) for each in slow)))
        whole = self.arguments(base, recordings, out)
        process = subprocess.Popen(
            [sys.executable, "-m", "evalkit", *map(str, whole), *sets, "--trials", "1"],
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not list(out.glob("trials/*/checkpoints/*/state.pt")):
            assert process.poll() is None, "it ended before it had begun"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
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
        monkeypatch.setattr("evalkit.cli_tune.find_spec", lambda name: None)
        complaint = evalkit("tune", "--bits-per-frame", 20, "--experiment", base, *WHOLE).complaint
        assert "pip install 'codec-bottlenecks[tune]'" in complaint

    def test_a_failed_trial_is_told_and_the_status_is_1(self, base, recordings, tmp_path):
        broken = ("--set", "train.learning_rate=1e30", "--set", "train.gradient_clip=null")
        outcome = evalkit(*self.arguments(base, recordings, tmp_path / "out"), *broken, "--trials", 1)
        assert outcome.status == 1
        assert "FAILED: rhombic-4x2-3x2: a loss or weight was not finite" in outcome.out.replace("\n", " ")
        assert "no trial of the search is done" in outcome.err
        assert list(pd.read_csv(tmp_path / "out" / "trials.csv")["state"]) == ["failed"]


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
