"""Differences from the paper's protocol are computed from what a run says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from evalkit.report.departures import PUBLISHED_TRAINING, departures
from evalkit.report.facts import metric_facts, run_facts, run_notes
from evalkit.run.experiment import load_experiment
from evalkit.run.saved_run import load_run
from tests.report_runs import write_run

RESULTS = Path(__file__).parent.parent / "results"


def told(run) -> dict[str, tuple[str, str]]:
    _, found = departures(run)
    return {each.subject: (each.here, each.paper) for each in found}


def as_published(folder: Path, utterances: int = 2620) -> Path:
    """A run that does all that the paper's published code does, on its whole test set."""
    experiment = load_experiment(PUBLISHED_TRAINING).resolved()
    (system,) = experiment["systems"]
    data = [f"{corpus['name']}/{corpus['part']}" for corpus in experiment["data"]["train"]]
    train = [{"corpus": name, "coverage": "100 of 100 utterances", "seconds": 1.0} for name in data]
    protocol = {"label": "paper", "signals": "pcm16", "checked": False}
    names = tuple(f"utterance-{index}" for index in range(utterances))
    experiment = json.loads(json.dumps(experiment, default=str))
    folder = write_run(
        folder, (system,), names, experiment=experiment, protocol=protocol, train=train, unavailable={}, baseline=None
    )
    rows = pd.read_parquet(folder / "utterances.parquet").assign(dataset="librispeech/test-clean", protocol="paper")
    rows.loc[rows["metric"] == "utmos", ["value", "status", "detail"]] = [3.0, "ok", ""]
    rows.to_parquet(folder / "utterances.parquet")
    return folder


class TestDepartures:
    def test_a_run_as_published_has_those_of_the_procedure_only(self, tmp_path):
        found = told(load_run(as_published(tmp_path / "run")))
        assert set(found) == {"PESQ that fails", "Real-time factor", "Use of the codes"}

    def test_a_part_of_the_test_set(self, tmp_path):
        found = told(load_run(as_published(tmp_path / "run", utterances=12)))
        assert found["Test set"] == (
            "librispeech/test-clean, 12 utterances", "librispeech/test-clean, 2,620 utterances"
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("section", "change", "subject", "here"),
        [
            ("train", {"steps": 77}, "Training: steps", "77"),
            ("train", {"seed": 1234}, "Training: seed", "1234"),
            ("train", {"init_from": "tiny"}, "Training: init from", "tiny"),
            ("backbone", {"size": "tiny", "changes": {}}, "Backbone: Sample rate", "16,000 Hz"),
        ],
    )
    def test_each_setting_that_differs(self, tmp_path, section, change, subject, here):
        folder = as_published(tmp_path / "run", utterances=12)
        description = json.loads((folder / "run.json").read_text())
        description["experiment"][section] |= change
        (folder / "run.json").write_text(json.dumps(description))
        assert told(load_run(folder))[subject][0] == here

    def test_partial_training_data(self, tmp_path):
        folder = as_published(tmp_path / "run", utterances=12)
        description = json.loads((folder / "run.json").read_text())
        description["train"][0]["coverage"] = "3 of 100 utterances (partial)"
        (folder / "run.json").write_text(json.dumps(description))
        assert "3 of 100 utterances (partial)" in told(load_run(folder))["Training data"][0]

    def test_of_the_tiny_run(self):
        found = told(load_run(RESULTS / "tiny"))
        assert found["Backbone: Sample rate"] == ("16,000 Hz", "24,000 Hz")
        assert found["Protocol"][0] == "strict"
        assert found["Signals"] == ("float, as the systems give them", "16-bit files")
        assert found["UTMOS"][0] == "without any score: utmos: the weights are missing"
        assert found["Training: steps"] == ("1,200", "400,000")
        assert "mel_1024 45" in found["Training: losses"][1]
        assert found["Q2D2: gradient"][1] == "published"
        assert "V/UV F1" in found["Further metrics"][0]

    def test_failed_scores_are_counted(self, tmp_path):
        assert told(load_run(write_run(tmp_path / "run")))["PESQ, failed scores"][0] == "1 left out"

    def test_what_is_loaded_was_not_trained_here(self):
        found = told(load_run(RESULTS / "opus"))
        assert "opus-12" in found["Loaded, not trained here"][0]
        assert not any(subject.startswith(("Training", "Backbone")) for subject in found)

    def test_of_a_sweep_the_experiment_is_read(self):
        found = told(load_run(RESULTS / "q2d2-ablation"))
        assert found["Training: steps"][0] == "400"
        assert "Q2D2: levels" in found

    def test_of_decoded_folders_little_is_known(self, tmp_path):
        folder = write_run(tmp_path / "run", experiment=None)
        assert told(load_run(folder))["Systems"][0].startswith("decoded audio")


class TestFacts:
    def test_what_is_not_there_is_not_recorded(self, tmp_path):
        folder = write_run(tmp_path / "run")
        (folder / "run.json").write_text(json.dumps({"schema_version": 2}))
        facts = dict(run_facts(load_run(folder)))
        assert facts["Machine"] == facts["Seed"] == facts["Protocol"] == facts["Finished"] == "not recorded"

    def test_when_it_was_finished(self, tmp_path):
        run = load_run(write_run(tmp_path / "run", finished="2026-11-24T18:00:00+00:00"))
        assert dict(run_facts(run))["Finished"] == "2026-11-24 18:00:00+00:00"

    def test_a_commit_with_changes_says_so(self, tmp_path):
        run = load_run(write_run(tmp_path / "run", version="0.1.0+gabc123.dirty"))
        assert dict(run_facts(run))["Version"] == "0.1.0, commit abc123, with changes that were not committed"

    def test_versions_of_a_sweep_are_those_of_its_rows(self):
        assert ("pesq", "not recorded", "pesq 0.0.4 wb") in metric_facts(load_run(RESULTS / "q2d2-ablation"))

    def test_files_left_out_are_named(self, tmp_path):
        corpus = {"coverage": "12 of 100", "left_out": ["a.flac: empty"]}
        run = load_run(write_run(tmp_path / "run", test_corpus=corpus))
        assert "Left out, unusable: a.flac: empty." in run_notes(run)
        assert "left out: a.flac: empty" in dict(run_facts(run))["Test set"]
