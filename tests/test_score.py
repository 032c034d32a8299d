"""`evalkit score` as a user calls it: what it leaves, what belongs together, what is scored again."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.command import evalkit
from tests.decoded_folders import FAST, failed, make_folders, score
from tests.finished_run import journal, rows


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return make_folders(tmp_path)


class TestScore:
    def test_scores_every_folder_and_the_originals_and_compares(self, folders: Path) -> None:
        outcome = score(folders)
        assert outcome.status == 0, outcome
        frame = rows(folders / "run", "utterances")
        assert list(dict.fromkeys(frame["system"])) == ["ground-truth", "good", "bad"]
        assert len(frame) == 3 * 4 * 2
        assert set(frame["protocol"]) == {"strict"}
        means = frame.groupby(["metric", "system"])["value"].mean()
        assert means["stoi", "ground-truth"] == pytest.approx(1)
        assert means["si_sdr", "ground-truth"] > means["si_sdr", "good"] > means["si_sdr", "bad"] + 10
        for name in ("tables/comparison.md", "tables/differences.md", "plots/distributions.png", "run.json"):
            assert (folders / "run" / name).is_file(), name
        systems = rows(folders / "run", "systems").set_index("system")
        assert systems["kind"].to_dict() == {"ground-truth": "anchor", "good": "folder", "bad": "folder"}
        described = json.loads((folders / "run" / "run.json").read_text())
        assert described["protocol"]["label"] == "strict"
        assert described["protocol"]["rates"]["stoi"] == "the estimate's own"
        assert described["folders"] == {"good": str(folders / "good"), "bad": str(folders / "bad")}

    def test_a_second_call_computes_nothing(self, folders: Path, undrawn: None) -> None:
        assert score(folders).status == 0
        lines = (folders / "run" / "journal.jsonl").read_bytes()
        before = rows(folders / "run", "utterances")
        assert score(folders).status == 0
        assert (folders / "run" / "journal.jsonl").read_bytes() == lines
        pd.testing.assert_frame_equal(rows(folders / "run", "utterances"), before)

    def test_a_new_metric_or_system_costs_only_its_own(self, folders: Path, undrawn: None) -> None:
        assert score(folders, estimates=("good",)).status == 0
        before = len(journal(folders / "run"))
        assert score(folders).status == 0
        assert len(journal(folders / "run")) == before + 4
        assert score(folders, "--metrics", "stoi,si_sdr,mel_distance").status == 0
        added = [entry["utterance_record"] for entry in journal(folders / "run")[before + 4 :]]
        assert len(added) == 12
        assert all(
            {score["metric"] for score in record["scores"]} == {"stoi", "si_sdr", "mel_distance"} for record in added
        )

    def test_a_metric_left_out_for_once_is_kept(self, folders: Path, undrawn: None) -> None:
        for metrics, added in (("stoi", 12), ("si_sdr", 12), ("stoi,si_sdr", 0), ("stoi", 0)):
            before = len(journal(folders / "run")) if (folders / "run").exists() else 1
            assert score(folders, "--metrics", metrics, "--no-cache").status == 0
            assert len(journal(folders / "run")) == before + added
            assert set(rows(folders / "run", "utterances")["metric"]) == set(metrics.split(","))

    def test_what_an_earlier_call_left_is_replaced(self, folders: Path) -> None:
        def example() -> float:
            (path,) = (folders / "run" / "audio").glob("*/wav.flac")
            return float(np.abs(soundfile.read(path)[0]).max())

        for name in ("good", "bad"):
            (folders / "out" / name).mkdir(parents=True)
            (folders / name).rename(folders / "out" / name / "wav")
        quiet = folders / "out" / "bad" / "wav" / "clip0.wav"
        audio, rate = soundfile.read(quiet)
        soundfile.write(quiet, audio / 4, rate)
        peaks, finished = [], []
        for name in ("good", "bad", "good"):
            arguments = (
                "score",
                folders / "originals",
                folders / "out" / name / "wav",
                "--out",
                folders / "run",
                *FAST,
            )
            status, told, _ = evalkit(*arguments)
            assert status == 0
            peaks.append(example())
            finished.append(json.loads((folders / "run" / "run.json").read_text())["finished"])
            time.sleep(1.1)  # the time is in whole seconds
        assert peaks[0] == peaks[2] != peaks[1]
        assert finished[0] < finished[1] < finished[2], "the time is that of the rows, also where all are known"
        assert f"replaced  wav of {folders / 'out' / 'bad' / 'wav'}, which {folders / 'run'} held" in told
        two = [f"{name}={folders / 'out' / name / 'wav'}" for name in ("good", "bad")]
        assert evalkit("score", folders / "originals", *two, "--out", folders / "run", *FAST).status == 0
        assert (folders / "run" / "tables" / "differences.md").exists()
        assert (folders / "run" / "plots" / "differences.png").exists()
        (folders / "run" / "plots" / "mine.png").write_bytes(b"")
        assert evalkit("score", folders / "originals", two[0], "--out", folders / "run", *FAST).status == 0
        assert not list((folders / "run").glob("*/differences*"))
        assert (folders / "run" / "plots" / "mine.png").exists()

    def test_a_changed_file_is_scored_again(self, folders: Path, undrawn: None) -> None:
        assert score(folders).status == 0
        before = rows(folders / "run", "utterances").set_index(["system", "utterance", "metric"])["value"]
        shutil.copy(folders / "originals" / "clip1.wav", folders / "bad" / "clip1.wav")
        assert score(folders).status == 0
        after = rows(folders / "run", "utterances").set_index(["system", "utterance", "metric"])["value"]
        assert set(before[before != after].index) == {("bad", "clip1", "stoi"), ("bad", "clip1", "si_sdr")}

    def test_protocols_are_never_in_one_column(self, folders: Path, undrawn: None) -> None:
        assert score(folders, "--protocol", "paper").status == 0
        assert set(rows(folders / "run", "utterances")["protocol"]) == {"paper"}
        assert score(folders, "--align").status == 0
        frame = rows(folders / "run", "utterances")
        assert set(frame["protocol"]) == {"strict+align"}
        assert len(frame) == 3 * 4 * 2
        assert len(journal(folders / "run")) == 1 + 2 * 3 * 4

    def test_speakers_are_taken_from_names_of_known_corpora(self, folders: Path, undrawn: None) -> None:
        for name in ("originals", "good", "bad"):
            (folders / name / "clip0.wav").rename(folders / name / "1089-134686-0000.wav")
        assert score(folders).status == 0
        speakers = rows(folders / "run", "utterances").set_index("utterance")["speaker"].to_dict()
        assert speakers["1089-134686-0000"] == "1089"
        assert pd.isna(speakers["clip1"])


class TestPairing:
    def test_what_has_no_partner_is_listed_and_left_out(self, folders: Path, undrawn: None) -> None:
        (folders / "good" / "clip0.wav").rename(folders / "good" / "clip0-decoded.wav")
        (folders / "originals" / "clip3.wav").rename(folders / "originals" / "clip9.wav")
        outcome = score(folders, estimates=("good",))
        assert outcome.status == 1, "as where another system has them"
        lost = f"estimate: no file for it in {folders / 'good'}"
        assert failed(folders) == {("good", "clip0"): lost, ("good", "clip9"): lost}
        frame = rows(folders / "run", "utterances")
        assert set(frame.loc[frame["system"] == "ground-truth", "utterance"]) == {"clip1", "clip2"}
        assert "2/4" in outcome.out
        assert "4 of 12 scores failed" in outcome.out
        assert score(folders, "--allow-failures", 4, estimates=("good",)).status == 0
        for line in ("clip0-decoded.wav", "clip3.wav", "clip0.wav", "clip9.wav"):
            assert f"  {line}\n" in outcome.out
        assert "Left out" in (folders / "run" / "tables" / "comparison.md").read_text()

    def test_a_system_that_lacks_what_another_has_fails_there(self, folders: Path, undrawn: None) -> None:
        (folders / "good" / "clip2.wav").unlink()
        outcome = score(folders)
        assert outcome.status == 1
        assert failed(folders) == {("good", "clip2"): f"estimate: no file for it in {folders / 'good'}"}
        assert "3/4" in outcome.out
        assert "2 of 24 scores failed" in outcome.out
        assert score(folders, "--allow-failures", 2).status == 0
        assert score(folders, "--allow-failures", 1).status == 1

    def test_a_mapping_file(self, folders: Path, undrawn: None) -> None:
        (folders / "good" / "deep").mkdir()
        (folders / "good" / "clip0.wav").rename(folders / "good" / "deep" / "a.wav")
        pairs = folders / "pairs.csv"
        pairs.write_text("reference,estimate,speaker\nclip0,deep/a.wav,ann\nclip1.wav,clip1,bob\n")
        assert score(folders, "--pairs", pairs, estimates=("good",)).status == 0
        frame = rows(folders / "run", "utterances")
        assert frame.set_index("utterance")["speaker"].to_dict() == {"clip0": "ann", "clip1": "bob"}

    def test_rows_without_a_file_fail(self, folders: Path, undrawn: None) -> None:
        pairs = folders / "pairs.csv"
        pairs.write_text("reference,estimate\nclip0,clip0\nclip1,gone.wav\nlost,clip2\n")
        outcome = score(folders, "--pairs", pairs, estimates=("good",))
        assert outcome.status == 1
        unopened = "reference: cannot be opened: No such file or directory"
        assert failed(folders) == {
            ("good", "clip1"): f"estimate: no file 'gone.wav' in {folders / 'good'}",
            ("good", "lost"): unopened,
            ("ground-truth", "lost"): unopened,
        }
        assert "1/3" in outcome.out

    def test_a_folder_around_another_does_not_count_it(self, folders: Path, undrawn: None) -> None:
        (folders / "originals").rename(folders / "good" / "originals")
        outer = folders / "good"
        outcome = evalkit("score", outer / "originals", outer, "--out", outer / "run", *FAST)
        assert outcome.status == 0
        before = rows(outer / "run", "utterances")
        assert before.loc[(before["system"] == "good") & (before["metric"] == "si_sdr"), "value"].max() < 90
        assert evalkit("score", outer / "originals", outer, "--out", outer / "run", *FAST).status == 0
        assert len(rows(outer / "run", "utterances")) == len(before)  # its own examples are no estimates

    def test_equal_names_in_subfolders(self, folders: Path, undrawn: None) -> None:
        for name in ("originals", "good"):
            for number, speaker in enumerate(("bdl", "slt")):
                (folders / name / speaker).mkdir()
                (folders / name / f"clip{number}.wav").rename(folders / name / speaker / "a0001.wav")
        assert score(folders, estimates=("good",)).status == 0
        assert set(rows(folders / "run", "utterances")["utterance"]) == {"bdl/a0001", "slt/a0001", "clip2", "clip3"}
        lines = [f"{speaker}/a0001.wav,{speaker}/a0001,{speaker}" for speaker in ("bdl", "slt")]
        pairs = folders / "pairs.csv"
        pairs.write_text("\n".join(["\ufeffreference,estimate,speaker", *lines, "clip2.wav,clip2.wav,x"]))
        assert score(folders, "--pairs", pairs, estimates=("good",)).status == 0
        frame = rows(folders / "run", "utterances").drop_duplicates("utterance")
        assert frame.set_index("utterance")["speaker"].to_dict() == {
            "bdl/a0001": "bdl", "slt/a0001": "slt", "clip2": "x",
        }  # fmt: skip

    @pytest.mark.parametrize(("text", "words"), [
        ("reference,estimate\n", "no estimate that it names is in"),
        ("reference,estimate\nclip0,klip0\n", "no estimate that it names is in"),
        ("reference\nclip0\n", "columns reference and estimate are needed, found reference"),
        ("reference,estimate\nclip7,clip0\n", "line 2: no reference 'clip7'"),
        ("reference,estimate\nclip0,\n", "line 2: reference or estimate is empty"),
        ("reference,estimate\nclip0,clip0\nclip0.wav,clip1\n", "line 3: clip0.wav for the second time"),
    ])  # fmt: skip
    def test_a_mapping_file_that_is_none(self, folders: Path, text: str, words: str) -> None:
        (folders / "pairs.csv").write_text(text)
        assert words in score(folders, "--pairs", folders / "pairs.csv").complaint
        assert not (folders / "run").exists()

    def test_refused_before_anything_is_written(self, folders: Path) -> None:
        (folders / "empty").mkdir()
        other = folders / "other" / "good"
        shutil.copytree(folders / "good", other)
        twice = folders / "twice"
        shutil.copytree(folders / "good", twice / "a")
        shutil.copytree(folders / "good", twice / "b")
        strangers = folders / "strangers"
        strangers.mkdir()
        shutil.copy(folders / "good" / "clip0.wav", strangers / "x.wav")
        for estimates, words in (
            (("missing",), "missing: no such folder"),
            (("empty",), "empty: no audio files in it"),
            (("good", "other/good"), "are both called good; give one as NAME="),
            (("twice",), "a/clip0.wav and b/clip0.wav have one name; give --pairs"),
            (("strangers",), "has the name of an estimate (clip0.wav and x.wav); give --pairs"),
        ):
            assert words in score(folders, estimates=estimates).complaint
        assert "unknown metric 'pseq'. Did you mean 'pesq'" in score(folders, "--metrics", "pseq").complaint
        assert "unknown protocol 'fast'; known: strict, paper" in score(folders, "--protocol", "fast").complaint
        assert "no such system; there are ground-truth, good, bad" in score(folders, "--baseline", "x").complaint
        assert not (folders / "run").exists()
        assert "unknown metric ''" in score(folders, "--metrics", ",").complaint
        assert "expected DIR or NAME=DIR" in score(folders, f"={other}").complaint
        (folders / "latin").mkdir()
        shutil.copy(folders / "good" / "clip0.wav", os.fsencode(folders / "latin") + b"/caf\xe9.wav")
        assert "is no UTF-8" in score(folders, estimates=("latin",)).complaint
        assert not (folders / "run").exists()
        (folders / "good").rename(folders / "lr=0.001")
        assert score(folders, estimates=("lr=0.001",)).status == 0
        shutil.rmtree(folders / "run")
        (folders / "lr=0.001").rename(folders / "good")
        named = (f"first={folders / 'good'}", f"second={other}")
        outcome = evalkit("score", folders / "originals", *named, "--out", folders / "run", *FAST)
        assert outcome.status == 0
        assert "second" in outcome.out
