"""`evalkit score` as a user calls it: pairing, the fault table, protocols, going on after every kind of end."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from evalkit.datasets import load_corpus, read_audio
from tests.command import Outcome, evalkit
from tests.finished_run import journal, leave_out_plots, rows
from tests.test_store import full_disk, held

RATE = 16_000
FAST = ("--metrics", "stoi,si_sdr", "--workers", "1")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_plots(monkeypatch)


@pytest.fixture(scope="session")
def clips() -> dict[str, np.ndarray]:
    """Speech of the bundled sample, 1.5 s each."""
    chosen = load_corpus("sample", "test").utterances[:4]
    return {f"clip{number}": read_audio(u.path)[0][: 3 * RATE // 2] for number, u in enumerate(chosen)}


def noisy(clip: np.ndarray, level: float) -> np.ndarray:
    return (clip + level * np.random.default_rng(0).standard_normal(clip.size)).astype(np.float32).clip(-0.99, 0.99)


@pytest.fixture
def folders(tmp_path: Path, clips: dict[str, np.ndarray]) -> Path:
    """originals/, good/ and bad/, of the same names."""
    for name, level in (("originals", 0.0), ("good", 0.003), ("bad", 0.03)):
        (tmp_path / name).mkdir()
        for clip, audio in clips.items():
            soundfile.write(tmp_path / name / f"{clip}.wav", noisy(audio, level), RATE, subtype="PCM_16")
    return tmp_path


def score(folder: Path, *arguments: object, estimates: tuple[str, ...] = ("good", "bad")) -> Outcome:
    return evalkit(
        "score", folder / "originals", *(folder / name for name in estimates), "--out", folder / "run", *FAST,
        *arguments, width=120,
    )  # fmt: skip


def failed(folder: Path) -> dict[tuple[str, str], str]:
    frame = rows(folder / "run", "utterances")
    lost = frame[frame["status"] == "failed"]
    assert lost["value"].isna().all()
    assert frame.loc[frame["status"] == "ok", "value"].notna().all()
    return {(row.system, row.utterance): row.detail for row in lost.itertuples()}


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
        peaks = []
        for name in ("good", "bad", "good"):
            arguments = (
                "score",
                folders / "originals",
                folders / "out" / name / "wav",
                "--out",
                folders / "run",
                *FAST,
            )
            assert evalkit(*arguments).status == 0
            peaks.append(example())
        assert peaks[0] == peaks[2] != peaks[1]
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
        assert outcome.status == 0
        assert set(rows(folders / "run", "utterances")["utterance"]) == {"clip1", "clip2"}
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
        assert "have one name; give --pairs" in score(folders, estimates=("good",)).complaint
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


class TestFaults:
    """One bad file is one failed row with its reason; everything else is as without it."""

    @pytest.mark.parametrize(("fault", "reason"), [
        ("corrupt", "corrupt or not audio"),
        ("cut", "cut off"),
        ("empty", "empty file (0 bytes)"),
        ("silent", "silent: peak"),
        ("short", "too short: 10 ms"),
        ("nan", "1 samples are NaN or infinite"),
        ("clipped", "clipped"),
        ("rate", "another utterance, or a wrong sample rate"),
        ("other", "another utterance, or a wrong sample rate"),
    ])  # fmt: skip
    @pytest.mark.parametrize("side", ["good", "originals"])
    def test_bad_file(self, folders: Path, undrawn: None, side: str, fault: str, reason: str) -> None:
        assert score(folders).status == 0
        before = rows(folders / "run", "utterances").drop(columns="seconds")
        damage(folders / side / "clip2.wav", fault)
        outcome = score(folders)
        assert outcome.status == 1
        systems = ["good"] if side == "good" else ["ground-truth", "good", "bad"]
        if side == "originals" and fault in ("rate", "other"):
            systems.remove("ground-truth")  # it is as long as itself
        lost = failed(folders)
        assert list(lost) == [(system, "clip2") for system in systems]
        assert all(reason in detail for detail in lost.values()), lost
        assert all(detail in outcome.out for detail in lost.values())
        after = rows(folders / "run", "utterances").drop(columns="seconds")
        unharmed = before["utterance"] != "clip2"
        pd.testing.assert_frame_equal(after[unharmed], before[unharmed])

    def test_stereo_is_averaged_and_said(self, folders: Path, undrawn: None) -> None:
        path = folders / "good" / "clip2.wav"
        mono = soundfile.read(path)[0]
        soundfile.write(path, np.stack([mono, mono], 1), RATE, subtype="PCM_16")
        outcome = score(folders)
        assert outcome.status == 0
        frame = rows(folders / "run", "utterances").set_index(["system", "utterance"])["detail"]
        assert set(frame["good", "clip2"]) == {"estimate: mean of 2 channels"}
        assert "clip2: estimate: mean of 2 channels" in outcome.out

    def test_a_header_that_promises_too_much(self, folders: Path, undrawn: None) -> None:
        path = folders / "good" / "clip2.flac"
        soundfile.write(path, soundfile.read(folders / "good" / "clip2.wav")[0], RATE)
        (folders / "good" / "clip2.wav").unlink()
        raw = bytearray(path.read_bytes())
        raw[21] |= 0x0F  # the upper bits of the number of samples
        raw[22:26] = b"\xff\xff\xff\xf0"
        path.write_bytes(raw)
        assert score(folders).status == 1
        ((case, reason),) = failed(folders).items()
        assert case == ("good", "clip2")
        assert "too large for memory" in reason or "cut off" in reason or "decoded" in reason

    def test_problems_of_a_reference_are_told_as_its_own(self, folders: Path, undrawn: None) -> None:
        path = folders / "originals" / "clip2.wav"
        mono = soundfile.read(path)[0]
        mono[1000:1010] = 1
        soundfile.write(path, np.stack([mono, mono], 1), RATE, subtype="PCM_16")
        assert score(folders).status == 0
        details = rows(folders / "run", "utterances").set_index(["system", "utterance"])["detail"]
        expected = "reference: mean of 2 channels; reference: 10 samples at or beyond full scale"
        assert set(details["good", "clip2"]) == {expected}

    def test_a_lower_rate_is_scored(self, folders: Path, undrawn: None) -> None:
        import torch
        import torchaudio.functional

        for path in (folders / "bad").iterdir():
            audio = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
            soundfile.write(path, torchaudio.functional.resample(audio, RATE, 8000).numpy(), 8000)
        assert score(folders).status == 0

    def test_unavailable_is_no_failure_unless_required(
        self, folders: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EVALKIT_WEIGHTS", str(folders / "weights"))
        outcome = score(folders, "--metrics", "stoi,utmos")
        assert outcome.status == 0
        frame = rows(folders / "run", "utterances")
        utmos = frame[frame["metric"] == "utmos"]
        assert len(utmos) == 12
        assert set(utmos["status"]) == {"unavailable"}
        for text in ("38aa51ab79e2a4e0", "411,179,119", "evalkit weights fetch utmos", str(folders / "weights")):
            assert text in outcome.out
        again = (folders / "run" / "journal.jsonl").read_bytes()
        assert score(folders, "--metrics", "stoi,utmos").status == 0
        assert (folders / "run" / "journal.jsonl").read_bytes() == again  # it is not tried again for nothing
        refused = score(folders, "--metrics", "stoi,utmos", "--require", "utmos")
        assert refused.complaint.startswith("utmos is required: ")
        assert "pesq is required but not among the metrics" in score(folders, "--require", "pesq").complaint


def damage(path: Path, fault: str) -> None:
    audio = soundfile.read(path, dtype="float32")[0]
    if fault == "corrupt":
        path.write_bytes(b"RIFF" + bytes(range(256)) * 20)
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:20_000])
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "silent":
        soundfile.write(path, np.zeros_like(audio), RATE)
    elif fault == "short":
        soundfile.write(path, audio[:160], RATE)
    elif fault == "nan":
        audio[100] = np.nan
        soundfile.write(path, audio, RATE, subtype="FLOAT")
    elif fault == "clipped":
        soundfile.write(path, (audio * 200).clip(-1, 1), RATE)
    elif fault == "rate":
        soundfile.write(path, audio, 2 * RATE)
    elif fault == "other":
        soundfile.write(path, np.tile(audio, 2), RATE)
    else:
        raise ValueError(fault)


class TestInterrupted:
    def test_two_runs_at_once_on_one_folder(self, folders: Path, undrawn: None) -> None:
        assert score(folders).status == 0
        before = (folders / "run" / "journal.jsonl").read_bytes()
        with held(folders / "run"):
            assert "is in use by another run" in score(folders).complaint
        assert (folders / "run" / "journal.jsonl").read_bytes() == before

    def test_full_disk(self, folders: Path, undrawn: None) -> None:
        with full_disk(3_000):
            assert "File too large" in score(folders, "--no-cache").complaint
        assert len(journal(folders / "run")) > 2
        assert score(folders).status == 0
        assert len(rows(folders / "run", "utterances")) == 3 * 4 * 2

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        """A file system of 1 MiB."""
        place = tmp_path / "small"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small file system cannot be mounted here (needs root)")
        yield place
        subprocess.run(["umount", "-l", str(place)], check=True)

    def test_full_file_system(self, folders: Path, small_disk: Path, undrawn: None) -> None:
        arguments = ("score", folders / "originals", folders / "good", *FAST, "--out", small_disk / "run")
        filler = small_disk / "filler"
        filler.write_bytes(bytes(2**20 - 12_000))
        outcome = evalkit(*arguments)
        assert "No space left on device" in outcome.complaint
        assert "make room and run the same command again" in outcome.complaint
        kept = len(journal(small_disk / "run"))
        filler.unlink()
        outcome = evalkit(*arguments)
        assert outcome.status == 0, outcome
        assert len(rows(small_disk / "run", "utterances")) == 2 * 4 * 2
        assert len(journal(small_disk / "run")) == 1 + 2 * 4
        assert kept <= 9

    def test_kill_at_any_moment_changes_nothing(self, folders: Path, undrawn: None) -> None:
        assert score(folders, "--no-cache").status == 0
        expected = rows(folders / "run", "utterances").drop(columns="seconds")
        shutil.rmtree(folders / "run")
        no_plots = "from evalkit import outputs; outputs.draw_plots = lambda *a: outputs.DrawnPlots((), {}); "
        command = [
            sys.executable, "-c", f"{no_plots}from evalkit.cli import main; main()",
            "score", folders / "originals", folders / "good", folders / "bad", "--out", folders / "run", *FAST,
        ]  # fmt: skip
        environment = os.environ | {"EVALKIT_CACHE": str(folders / "cache")}
        moments = random.Random(0)
        kills = 0
        while kills < 20:
            process = subprocess.Popen(
                list(map(str, command)), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                process.wait(moments.uniform(0.5, 4))
            except subprocess.TimeoutExpired:
                kills += 1
            else:
                # It came to its end first: begin anew, with a cache or without.
                shutil.rmtree(folders / "run")
                if moments.random() < 0.5:
                    shutil.rmtree(folders / "cache")
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)  # its workers end by themselves
            process.wait()
        assert score(folders).status == 0
        pd.testing.assert_frame_equal(rows(folders / "run", "utterances").drop(columns="seconds"), expected)
        seen = [entry["utterance_record"] for entry in journal(folders / "run")[1:]]
        assert len({(record["system"], record["utterance"]) for record in seen}) == len(seen) == 12
