"""evalkit.sweeps.trials: what a sweep expands to, and ids that follow from what a trial is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.sweeps import SweepError
from evalkit.sweeps.schema import Sweep
from evalkit.sweeps.trials import ID_LENGTH, bottleneck_label, expand
from tests.command import TINY, evalkit, write_experiment

RHOMBIC = {"bottleneck": {"name": "q2d2", "tiling": "rhombic", "levels": [7, 7]}}


@pytest.fixture
def base(tmp_path):
    return str(write_experiment(tmp_path / "base.yaml"))


def sweep(base: str, *blocks: dict[str, Any], **values: Any) -> Sweep:
    return Sweep.model_validate({"name": "mine", "experiment": base, "points": list(blocks), **values})


def test_a_trial_is_the_experiment_with_one_system(base):
    (trial,) = expand(sweep(base, {"list": [RHOMBIC | {"train.steps": 3}]}, seeds=[5]))
    assert trial.experiment is not None
    assert list(trial.experiment.systems) == [trial.label] == ["rhombic-7x2_steps-3"]
    assert trial.experiment.train.steps == 3
    assert trial.experiment.train.seed == trial.seed == 5
    assert trial.experiment.train.batch_size == TINY["train"]["batch_size"]
    assert trial.experiment.baseline is None
    assert trial.bits_per_frame == pytest.approx(6.4094, abs=1e-4)  # 49 + 36 points
    assert trial.family == "rhombic"
    assert len(trial.id) == ID_LENGTH


def test_equal_trials_have_equal_ids_whatever_they_are_called_and_wherever_things_lie(base, tmp_path):
    (one,) = expand(sweep(base, {"list": [RHOMBIC]}))
    other = {"bottleneck.name": "q2d2", "bottleneck.tiling": "rhombic", "bottleneck.levels": [7, 7]}
    place = {"data.test.root": str(tmp_path), "weights_root": str(tmp_path)}
    (two,) = expand(sweep(base, {"list": [other]}, name="other", notes=["x"], set=place | {"title": "else"}))
    assert (one.id, one.configuration) == (two.id, two.configuration)


@pytest.mark.parametrize(
    "change",
    [
        {"train.learning_rate": 1e-3}, {"bottleneck.gradient": "published"}, {"data.test.limit": 1},
        {"metrics": ["stoi"]}, {"backbone.changes.dimension": 16}, {"train.losses.mel": 2.0},
    ],
)  # fmt: skip
def test_another_setting_is_another_trial(base, change):
    plain, changed = expand(sweep(base, {"list": [RHOMBIC, RHOMBIC | change]}))
    assert plain.id != changed.id
    assert plain.configuration != changed.configuration


def test_one_loss_can_be_set_without_the_others(base):
    (trial,) = expand(sweep(base, {"list": [RHOMBIC | {"train.losses.mel": 2.0}]}))
    assert trial.experiment is not None
    assert trial.experiment.train.losses["mel"] == 2.0
    assert trial.experiment.train.losses["stft"] > 0


def test_seeds_share_a_configuration_and_come_one_after_another(base):
    grid = {"set": {"bottleneck": RHOMBIC["bottleneck"]}, "grid": {"bottleneck.levels": [[5, 5], [7, 7]]}}
    trials = expand(sweep(base, grid, seeds=[4, 2]))
    assert [(trial.seed, trial.values["bottleneck.levels"][0]) for trial in trials] == [(4, 5), (4, 7), (2, 5), (2, 7)]
    assert len({trial.id for trial in trials}) == 4
    assert trials[0].configuration == trials[2].configuration != trials[1].configuration


def test_a_trial_that_occurs_twice_is_there_once(base):
    assert len(expand(sweep(base, {"list": [RHOMBIC, RHOMBIC]}, {"list": [RHOMBIC]}, seeds=[0, 1]))) == 2


def test_constraints_leave_points_out(base):
    grid = {"set": RHOMBIC, "grid": {"bottleneck.levels": [[5, 5], [7, 7], [9, 9], [9, 9, 9, 9]]}}
    kept = expand(sweep(base, grid, constraints={"bits_per_frame": "6.5 ± 0.8"}))
    assert [trial.label for trial in kept] == ["rhombic-7x2", "rhombic-9x2"]
    with pytest.raises(SweepError, match="none of 4 points fulfils its constraints"):
        expand(sweep(base, grid, constraints={"bits_per_frame": ">= 40"}))
    codec = {"list": [{"codec": {"name": "opus"}}]}
    with pytest.raises(SweepError, match="is not known before it runs"):
        expand(sweep(base, codec, constraints={"bitrate": ">= 1"}))


def test_a_point_that_is_not_valid_is_a_trial_with_its_reason(base):
    bad = [
        {"bottleneck": {"name": "q2d2", "tiling": "round", "levels": [7, 7]}},
        {"bottleneck": {"name": "q2d3"}},
        RHOMBIC | {"train.steps": 0},
        RHOMBIC | {"train.stps": 3},
        {"bottleneck": 3},
        {"bottleneck.name.first": 3},
    ]
    trials = expand(sweep(base, {"list": [RHOMBIC, *bad]}))
    told = ["", "unknown tiling 'round'", "unknown bottleneck 'q2d3'", "train.steps is 0", "Did you mean 'steps'"]
    told += ["bottleneck", "bottleneck needs a name"]
    assert len(trials) == len(told)
    for trial, words in zip(trials, told, strict=True):
        assert words in trial.problem
        assert bool(trial.problem) == (trial.experiment is None)
    assert len({trial.id for trial in trials}) == len(trials)
    with pytest.raises(SweepError, match=r"no point is valid; the first: .*unknown tiling"):
        expand(sweep(base, {"list": bad}))


def test_a_key_that_is_set_and_varied_is_refused(base):
    with pytest.raises(SweepError, match=r"train\.steps is both set and varied"):
        expand(sweep(base, {"set": RHOMBIC, "grid": {"train.steps": [1, 2]}}, set={"train.steps": 3}))


def test_whole_codecs_can_be_swept(base):
    trials = expand(sweep(base, {"set": {"codec.name": "opus"}, "grid": {"codec.bitrate": [6000, 8000]}}))
    assert [trial.family for trial in trials] == ["codec", "codec"]
    assert [trial.label for trial in trials] == ["opus_6000", "opus_8000"]


@pytest.mark.parametrize(
    ("bottleneck", "label"),
    [
        ({"name": "q2d2", "tiling": "hexagonal", "levels": [9, 9, 7, 7, 7, 7]}, "hexagonal-9x2-7x4"),
        ({"name": "lattice", "lattice": "d4", "levels": [7, 6]}, "d4-7-6"),
        ({"name": "rvq", "codebook_size": 784, "num_quantizers": 2}, "rvq-2x784"),
        ({"name": "vq", "codebook_size": 4096}, "vq-4096"),
        ({"name": "null"}, "null"),
    ],
)
def test_labels(bottleneck, label):
    assert bottleneck_label(bottleneck) == label


def test_a_missing_corpus_stops_a_sweep_before_its_first_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVALKIT_LIBRISPEECH_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    missing = ("--set", "data.test={name: librispeech, part: test-clean, root: nowhere}")
    refused = evalkit("sweep", "run", "tilings", *missing, "--out", tmp_path / "out", "--device", "cpu")
    assert "librispeech" in refused.complaint
    assert not (tmp_path / "out").exists()
    planned = evalkit("sweep", "run", "tilings", *missing, "--plan")
    assert planned.status == 0
    assert planned.out.splitlines()[-1].startswith("data missing: librispeech")
    dry = evalkit("reproduce", "q2d2-ablation", *missing, "--dry-run")
    assert dry.status == 1
    assert dry.err.startswith("evalkit: librispeech")
