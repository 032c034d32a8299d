"""Runs read back: what `evalkit.load_run` gives of folders of all kinds, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import evalkit
from evalkit.datasets import Utterance, load_corpus
from evalkit.run.saved_run import RunError, load_run
from q2d2.files import file_sha256
from tests.finished_run import copied_run

RESULTS = Path(__file__).parents[1] / "results"


class TestRun:
    def test_has_what_the_run_left(self, finished):
        run = evalkit.load_run(finished.folder)
        assert (run.name, run.title) == ("trial", "Trial [of all]")
        pd.testing.assert_frame_equal(run.utterances, finished.rows("utterances"))
        assert list(run.systems["system"]) == list(finished.rows("systems")["system"])
        assert set(run.training) == set(run.systems.loc[run.systems["kind"] == "codec", "system"])
        summary = run.summary()
        assert list(summary["system"]) == list(run.systems["system"])
        assert summary.loc[summary["system"] == "ground-truth", "stoi"].item() == pytest.approx(1.0, abs=1e-6)

    def test_says_when_it_was_finished(self, finished):
        made = pd.Timestamp(load_run(finished.folder).description["finished"])
        assert abs((pd.Timestamp.now(tz="UTC") - made).total_seconds()) < 3600

    def test_signals_tell_the_content_of_references_and_what_made_the_estimates(self, finished):
        run = load_run(finished.folder)
        assert len(run.signals) == len(run.systems) * run.utterances["utterance"].nunique()
        corpus = {u.id: u.path for u in sample_utterances()}
        for row in run.signals.to_dict("records"):
            assert row["reference_sha256"] == file_sha256(corpus[row["utterance"]])
        made = run.signals.groupby("system")["estimate"].nunique()
        assert (made == 1).all()
        rhombic = run.signals.loc[run.signals["system"] == "rhombic", "estimate"]
        hexagonal = run.signals.loc[run.signals["system"] == "hexagonal", "estimate"]
        assert set(rhombic).isdisjoint(hexagonal)

    def test_examples_are_the_audio_that_was_kept(self, finished):
        ((utterance, kept),) = load_run(finished.folder).examples().items()
        assert utterance in set(finished.rows("utterances")["utterance"])
        assert set(kept) == set(finished.rows("systems")["system"])

    def test_a_run_from_before_there_were_signals(self, finished, tmp_path):
        copy = copied_run(finished, tmp_path)
        (copy.folder / "signals.parquet").unlink()
        assert load_run(copy.folder).signals.empty

    def test_needs_no_tensor_library(self):
        code = (
            f"import sys, evalkit; evalkit.load_run({str(RESULTS / 'tiny')!r}).summary(); print('torch' in sys.modules)"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == "False"


class TestSweep:
    def test_its_trials_are_the_systems(self):
        run = load_run(RESULTS / "q2d2-ablation")
        assert len(run.systems) == run.systems["system"].nunique() == 57
        assert "rhombic-8x4-7x2 seed 0" in set(run.systems["system"])
        assert set(run.utterances["system"]) == set(run.systems["system"])
        assert run.description["protocol"]["label"] == "strict"
        summary = run.summary()
        assert summary["pesq"].between(1, 4.64).all()


class TestRefused:
    def refused(self, folder: Path) -> str:
        with pytest.raises(RunError) as error:
            load_run(folder)
        return str(error.value)

    def test_no_folder_no_run(self, tmp_path):
        assert "no such folder" in self.refused(tmp_path / "nowhere")
        assert "it has no run.json" in self.refused(tmp_path)

    def test_one_that_is_not_finished(self, finished, tmp_path):
        copy = copied_run(finished, tmp_path)
        (copy.folder / "systems.parquet").unlink()
        assert "systems.parquet is missing; run the same command again" in self.refused(copy.folder)

    def test_a_damaged_file_is_named(self, finished, tmp_path):
        copy = copied_run(finished, tmp_path)
        (copy.folder / "utterances.parquet").write_bytes(b"PAR1 and nothing")
        assert "utterances.parquet cannot be read" in self.refused(copy.folder)

    @pytest.mark.parametrize(("text", "told"), [("{", "cannot be read"), ("[]", "expected keys and values")])
    def test_a_description_that_is_none(self, finished, tmp_path, text, told):
        copy = copied_run(finished, tmp_path)
        (copy.folder / "run.json").write_text(text)
        assert told in self.refused(copy.folder)

    def test_another_schema(self, finished, tmp_path):
        copy = copied_run(finished, tmp_path)
        path = copy.folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
        assert "has schema version 99, this version of evalkit reads 2" in self.refused(copy.folder)


def sample_utterances() -> tuple[Utterance, ...]:
    return load_corpus("sample", "test").utterances


def test_a_sweep_counts_a_product_of_codes_as_one_token_a_frame():
    systems = load_run(RESULTS / "q2d2-ablation").systems
    counted = systems.groupby("family")["tokens_per_second"].agg(["min", "max"])
    assert counted.loc["rhombic"].tolist() == counted.loc["fsq"].tolist() == [125, 125]
    assert counted.loc["rvq"].tolist() == [250, 250]  # two stages
